"""One contract for engine files that are not what they seem: damaged, of another machine, without their sidecar."""

import json
import shutil
from pathlib import Path

import pytest
from contract import BACKENDS, every_backend, opened

from smlp.backends import onnxruntime
from smlp.core import files, identity, provenance
from smlp.core.cli import UserError


def describe(path, facts, companions=()):
    """A sidecar that states these facts of an engine, and what its files are now."""
    state = identity.state("engine", identity.contents(path, companions))
    files.write_json(path.with_suffix(".json"), identity.sealed({**facts, **state}))


@every_backend
@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None], ids=["empty", "garbage", "truncated"])
def test_a_damaged_engine(name, content, engine_path, tmp_path):
    path = engine_path(name, BACKENDS[name].precisions[0], 1)
    damaged = tmp_path / f"a damaged engine{path.suffix}"
    for companion in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(companion, tmp_path / f"{damaged.stem}{companion.suffix}")
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    facts = json.loads(path.with_suffix(".json").read_text())
    describe(damaged, facts, BACKENDS[name].companions)
    with pytest.raises(UserError) as error, opened(damaged, None):
        pytest.fail("opens")
    assert str(damaged) in str(error.value)


@every_backend
def test_an_engine_that_its_sidecar_does_not_describe(name, engine_path, tmp_path):
    path = engine_path(name, BACKENDS[name].precisions[0], 1)
    for companion in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(companion, tmp_path)
    copy = tmp_path / path.name
    with opened(copy, None):
        pass
    copy.write_bytes(copy.read_bytes() + b"\0")
    with pytest.raises(UserError) as error:
        opened(copy, None)
    assert str(error.value).startswith(f"{copy}: is not the file that {copy.with_suffix('.json')} describes")


@every_backend
def test_an_engine_that_is_not_there(name, tmp_path):
    path = tmp_path / f"none{BACKENDS[name].suffix}"
    with pytest.raises(UserError) as error:
        opened(path, None)
    assert str(error.value).startswith(f"{path}: no such engine")


def test_an_engine_that_was_optimised_for_another_cpu(engine_path, tmp_path):
    path = engine_path("onnxruntime", "fp32", 1)
    copy = Path(shutil.copy(path, tmp_path))
    facts = json.loads(path.with_suffix(".json").read_text())
    describe(copy, {**facts, "cpu_model": "Abacus 9000"})
    with pytest.raises(UserError, match="was optimised for 'Abacus 9000' and this is .*; compile it again here"):
        opened(copy, None)


def test_an_engine_that_was_optimised_for_other_instructions(engine_path, monkeypatch):
    """Virtual machines of one provider all have processors of one name."""
    path = engine_path("onnxruntime", "fp32", 1)
    made_for = json.loads(path.with_suffix(".json").read_text())["cpu_features"]
    monkeypatch.setattr(provenance, "cpu_features", lambda: [*made_for, "avx1024"])
    with pytest.raises(UserError, match=r"with other instructions \(avx1024 only in one of .* compile it again here"):
        opened(path, None)


@pytest.mark.parametrize(
    ("features", "saturates"),
    [
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx2", "avx_vnni"], False),
        (["avx512_vnni", "avx2"], False),
        (["amx_int8", "avx2"], False),
        (["asimddp"], False),
    ],
)
def test_int8_weights_have_seven_bits_if_products_would_saturate(features, saturates, monkeypatch):
    monkeypatch.setattr(provenance, "cpu_features", lambda: features)
    assert onnxruntime._saturates() is saturates


@pytest.mark.parametrize("threads", [1, 3])
def test_onnxruntime_starts_the_threads_it_is_told(threads, engine_path):
    def running():
        return len(list(Path("/proc/self/task").iterdir()))

    before = running()
    with opened(engine_path("onnxruntime", "fp32", 1), "onnxruntime", threads=threads):
        assert running() == before + threads - 1  # the caller is one of them


def test_a_checkpoint_without_its_sidecar(tiny, tmp_path):
    copy = Path(shutil.copy(tiny.pth, tmp_path))
    with pytest.raises(UserError, match="which model is it?"):
        opened(copy, None)
