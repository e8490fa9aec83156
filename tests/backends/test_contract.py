"""One contract for every backend in scripts/smlp/backends/. Those whose runtime is not installed are skipped by name.

A new backend needs nothing here but, for a precision that is new, an entry in TOLERANCE. What this machine's
processors cannot do is skipped with the backend's own words.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from smlp import backends
from smlp.backends import onnxruntime
from smlp.backends.base import batch_size_of
from smlp.core import files, provenance
from smlp.core.cli import UserError
from smlp.core.tensor import shape_text
from smlp.data import dataset
from smlp.models.checkpoint import load_model
from smlp.workflow import digest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = backends.names()
MODULES = {name: backends.load(name) for name in NAMES}
COMPILING = [name for name in NAMES if MODULES[name].compiles_from]

# largest difference from eager PyTorch in fp32, as a fraction of the largest logit
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "high": 2e-2, "bf16": 1e-1, "int8": 5e-1}
BATCHES = (1, 3)


def require_runtime(name):
    missing = [package for package, version in provenance.versions(MODULES[name].packages).items() if version is None]
    if missing:
        pytest.skip(f"backend {name}: {', '.join(missing)} not installed")


@pytest.fixture(scope="session")
def images():
    """Images for the small model, float32 (3, 3, 160, 160)."""
    return np.random.default_rng(0).normal(size=(3, 3, 160, 160)).astype(np.float32)


@pytest.fixture(scope="session")
def expected(tiny, images):
    """Their logits by eager PyTorch."""
    model, _ = load_model(tiny.model_name, tiny.pth)
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="session")
def options(images, tmp_path_factory):
    """A function: backend, precision -> what compiling needs beside the source."""
    folder = tmp_path_factory.mktemp("calibration images")
    rows = [dataset.Row(index, dataset.bin_name(index), f"{index}.png", "0", 0, str(index)) for index in range(3)]
    for row, image in zip(rows, images):
        image.tofile(folder / row.bin)
    dataset.write_manifest(folder / dataset.MANIFEST, rows)

    def make(name, precision):
        return {"calibration": str(folder)} if precision in MODULES[name].calibrated else {}

    return make


@pytest.fixture(scope="session")
def engine_path(tiny, load_command, options, tmp_path_factory):
    """A function: path of the small model's engine, compiled once; the checkpoint where there is nothing to compile."""
    compiler = load_command("compile")
    made = {}

    def path(name, precision, batch):
        require_runtime(name)
        module = MODULES[name]
        if module.compiles_from is None:
            return tiny.pth
        key = (name, precision, batch)
        if key not in made:
            source = {"onnx": tiny.onnx, "checkpoint": tiny.pth}[module.compiles_from]
            target = tmp_path_factory.mktemp("an engine") / f"{name}-{precision}-bs{batch}{module.suffix}"
            try:
                compiler.compile_engine(name, precision, batch, source, target, options(name, precision))
            except backends.EngineFailure as failure:
                pytest.skip(str(failure))
            except UserError as error:
                if "on CUDA devices only" not in str(error):
                    raise
                pytest.skip(str(error))
            made[key] = target
        return made[key]

    return path


def opened(path, name, **more):
    arguments = {"backend": name, "device": None, "threads": None, **more}
    return backends.open_engine(path, **arguments)[2]


every_backend = pytest.mark.parametrize("name", NAMES)
every_precision = pytest.mark.parametrize(
    ("name", "precision"), [(name, precision) for name in NAMES for precision in MODULES[name].precisions]
)


# the module


@every_backend
def test_attributes(name):
    module = MODULES[name]
    assert module.compiles_from in ("onnx", "checkpoint", None)
    assert module.suffix.startswith(".") and module.suffix != ".json"
    assert module.precisions and len(set(module.precisions)) == len(module.precisions)
    assert isinstance(module.device, str) and module.device
    assert module.packages and all(isinstance(package, str) for package in module.packages)
    assert (module.compile is not None) is (module.compiles_from is not None)
    assert callable(module.open)
    assert module.name == name
    assert module.graph in ("reference", "fused")
    assert set(module.calibrated) <= set(module.precisions)
    assert set(module.precisions) <= set(TOLERANCE), "add the new precision to TOLERANCE"


def test_suffixes_tell_backends_apart():
    suffixes = [MODULES[name].suffix for name in NAMES]
    assert len(set(suffixes)) == len(suffixes)


def test_an_unknown_backend():
    with pytest.raises(UserError, match="backend 'tensorflow' is not known; choose one of .*pytorch"):
        backends.load("tensorflow")


# what importing costs


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\n{code}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "imported", ["infer", "measure", *(f"smlp.backends.{name}" for name in NAMES)], ids=lambda name: name.split(".")[-1]
)
def test_importing_needs_nothing_but_numpy(imported):
    """Module names beyond the standard library's, NumPy's and our own."""
    code = f"""
import numpy
before = {{name.split(".")[0] for name in sys.modules}}
import {imported}
after = {{name.split(".")[0] for name in sys.modules}}
print(*sorted(after - before - set(sys.stdlib_module_names) - {{"smlp", "infer", "measure"}}))
"""
    finished = python(code)
    assert (finished.returncode, finished.stdout.split(), finished.stderr) == (0, [], "")


def test_what_runs_on_the_target_is_written_for_python_3_9():
    """Its syntax; annotations may say more, as nobody evaluates them."""
    paths = digest._reached([digest.SCRIPTS / "infer.py", digest.SCRIPTS / "measure.py"])
    paths |= {SCRIPTS / "smlp" / "backends" / f"{name}.py" for name in NAMES}
    assert SCRIPTS / "smlp" / "bins.py" in paths
    for path in paths - {SCRIPTS / "smlp" / "__init__.py"}:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, str(path), feature_version=(3, 9))
        assert "from __future__ import annotations" in text, path


# a backend's runtime that is not there

BLOCK = """
import importlib.abc, runpy

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "smlp"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@every_backend
def test_a_missing_runtime_is_named(name, tmp_path):
    engine = tmp_path / f"bs1{MODULES[name].suffix}"
    engine.write_bytes(b"an engine")
    files.write_json(tmp_path / "bs1.json", {"backend": name, "precision": "fp32", "model_name": "test_resnet"})
    finished = python(BLOCK, SCRIPTS / "infer.py", "--model", engine)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: backend {name!r} needs the Python package ")
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""


@every_backend
def test_a_runtime_is_imported_only_when_the_device_is_taken(name, engine_path):
    """Naming, finding and describing an engine costs nothing; `with` takes the device."""
    path = engine_path(name, MODULES[name].precisions[0], 1)
    code = """
import numpy
from pathlib import Path
from smlp import backends
before = {module.split(".")[0] for module in sys.modules}
engine = backends.open_engine(Path(sys.argv[1]), backend=None, device=None, threads=None)[2]
after = {module.split(".")[0] for module in sys.modules}
print(*sorted(after - before - set(sys.stdlib_module_names) - {"smlp"}))
"""
    finished = python(code, path)
    assert (finished.returncode, finished.stdout.split(), finished.stderr) == (0, [], "")


# compiling


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("name", "precision"), [(name, precision) for name in COMPILING for precision in MODULES[name].precisions]
)
def test_sidecar_of_an_engine(name, precision, batch, engine_path, tiny):
    path = engine_path(name, precision, batch)
    sidecar = json.loads(path.with_suffix(".json").read_text())
    assert (sidecar["backend"], sidecar["precision"], sidecar["batch"]) == (name, precision, batch)
    assert sidecar["sha256"] == files.digest(path)
    assert sidecar["inputs"]["source"]["sha256"] in (files.digest(tiny.onnx), files.digest(tiny.pth))
    assert set(MODULES[name].packages) <= set(sidecar["versions"])
    assert isinstance(sidecar["emulated"], bool)
    assert not [file for file in path.parent.iterdir() if file.stem != path.stem]  # nothing else is left


@pytest.mark.parametrize("name", COMPILING)
def test_what_compile_refuses(name, load_command, tiny, tmp_path):
    require_runtime(name)
    compiler, module = load_command("compile"), MODULES[name]
    source = {"onnx": tiny.onnx, "checkpoint": tiny.pth}[module.compiles_from]
    precision, target = module.precisions[0], tmp_path / f"out{module.suffix}"
    for arguments, message in [
        ((name, "fp7", 1, source, target, {}), f"backend {name!r} has no precision 'fp7'; choose {precision}"),
        ((name, precision, 1, source, tmp_path / "out.engine", {}), f"out.engine: engines of backend {name!r} end in"),
        ((name, precision, 1, source, target, {"no_such": "1"}), "option 'no_such'"),
        ((name, precision, 1, tmp_path / f"none{source.suffix}", target, {}), f"none{source.suffix}: no such"),
    ]:
        with pytest.raises(UserError) as error:
            compiler.compile_engine(*arguments)
        assert message in str(error.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in COMPILING if MODULES[name].compiles_from == "onnx"])
def test_an_onnx_file_of_another_batch_is_not_compiled(name, load_command, mixer_onnx, tmp_path):
    require_runtime(name)
    mixer_onnx(tmp_path / "fixed.onnx", batch=4)
    target = tmp_path / "out" / f"bs8{MODULES[name].suffix}"
    with pytest.raises(UserError, match="fixed batch of 4"):
        load_command("compile").compile_engine(
            name, MODULES[name].precisions[0], 8, tmp_path / "fixed.onnx", target, {}
        )
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPILING])
def test_nothing_to_compile(name, load_command, tiny, tmp_path):
    with pytest.raises(UserError, match=f"backend '{name}' runs the checkpoint itself, there is nothing to compile"):
        load_command("compile").compile_engine(
            name, MODULES[name].precisions[0], 1, tiny.pth, tmp_path / f"x{MODULES[name].suffix}", {}
        )


def test_compile_as_a_command(command, tiny, tmp_path):
    flags = ["--backend", "onnxruntime", "--batch_size", 2, "--onnx_path", tiny.onnx]
    finished = command("compile", *flags, "--output", tmp_path / "a b" / "bs2.onnx")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == ["bs2.json", "bs2.onnx"]
    finished = command("compile", *flags, "--output", tmp_path / "x.onnx", "--option", "fast")
    assert finished.returncode == 1
    assert finished.stderr == "error: --option 'fast': key=value was expected\n"


# running


@every_precision
@pytest.mark.parametrize("batch", BATCHES)
def test_logits_agree_with_eager_pytorch(name, precision, batch, engine_path, images, expected, tiny):
    module = MODULES[name]
    with opened(engine_path(name, precision, batch), name) as engine:
        assert engine.batch == (None if module.compiles_from is None else batch)
        assert batch_size_of(engine, batch) == batch
        (image,), (scores,) = engine.inputs, engine.outputs
        assert image.name and scores.name
        assert image.shape[1:] == (3, 160, 160)
        assert scores.shape[1:] == (tiny.classes,)
        assert engine.device.split(":")[0] == module.device.split(":")[0]
        feed = images.astype(image.dtype)
        for start in range(0, len(images), batch):
            (logits,), timings = engine.run(feed[start : start + batch])
            assert logits.shape == (batch, tiny.classes)
            assert logits.dtype == scores.dtype
            assert np.isfinite(logits).all()
            wanted = expected[start : start + batch]
            assert np.abs(logits.astype(np.float32) - wanted).max() <= TOLERANCE[precision] * np.abs(expected).max()
            assert timings.compute_ms and all(0 < time_ms < 60_000 for time_ms in timings.compute_ms)
            assert all(0 <= time_ms < 60_000 for time_ms in (*timings.h2d_ms, *timings.d2h_ms))


@pytest.fixture
def engine(name, engine_path):
    """The backend's engine for batch 3, holding its device."""
    with opened(engine_path(name, MODULES[name].precisions[0], 3), name) as engine:
        yield engine


def feed(engine, images):
    return images.astype(engine.inputs[0].dtype)


@every_backend
def test_images_that_do_not_lie_in_order_in_memory(name, engine, images):
    in_order = feed(engine, images)
    wanted = engine.run(in_order)[0][0].copy()
    transposed = np.ascontiguousarray(in_order.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    reversed_twice = np.ascontiguousarray(in_order[..., ::-1])[..., ::-1]
    every_other = np.repeat(in_order, 2, axis=0)[::2]
    for scattered in (transposed, reversed_twice, every_other, np.asfortranarray(in_order)):
        assert not scattered.flags.c_contiguous
        np.testing.assert_array_equal(engine.run(scattered)[0][0], wanted)


@every_backend
def test_outputs_outlive_the_next_run(name, engine, images):
    first = engine.run(feed(engine, images))[0][0]
    kept = first.copy()
    second = engine.run(feed(engine, images[::-1].copy()))[0][0]
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


@every_backend
def test_the_same_images_give_the_same_bytes(name, engine, images):
    assert engine.run(feed(engine, images))[0][0].tobytes() == engine.run(feed(engine, images))[0][0].tobytes()


@every_backend
def test_images_are_not_changed(name, engine, images):
    given = feed(engine, images)
    engine.run(given)
    np.testing.assert_array_equal(given, feed(engine, images))


@every_backend
def test_what_run_refuses(name, engine, images):
    good = feed(engine, images)
    other_dtype = np.float64 if engine.inputs[0].dtype != np.float64 else np.float32
    for wrong in (
        good.astype(other_dtype),
        good.astype(np.uint8 if good.dtype != np.uint8 else np.float32),
        good[0],
        good[:, :, :159],
        good[:, :1],
        good.transpose(0, 2, 3, 1),
        good.reshape(3, -1),
        good[None],
    ):
        with pytest.raises(UserError, match="takes .* 3x160x160|takes .*x3x160x160") as error:
            engine.run(wrong)
        assert shape_text(wrong.shape) in str(error.value)
        assert str(wrong.dtype) in str(error.value)


@every_backend
def test_another_number_of_images(name, engine, images):
    if engine.batch is None:
        for count in (1, 2, 3):
            assert engine.run(feed(engine, images)[:count])[0][0].shape[0] == count
        assert (batch_size_of(engine, None), batch_size_of(engine, 5)) == (1, 5)
        return
    for wrong in (feed(engine, images)[:2], np.concatenate([feed(engine, images)] * 2)):
        with pytest.raises(UserError, match=f"but got .* {len(wrong)}x3x160x160"):
            engine.run(wrong)
    assert (batch_size_of(engine, None), batch_size_of(engine, 3)) == (3, 3)
    with pytest.raises(UserError, match="--batchsize 5: the engine was compiled for batch 3"):
        batch_size_of(engine, 5)


@every_backend
def test_the_device_is_held_only_inside_the_with(name, engine_path, images):
    engine = opened(engine_path(name, MODULES[name].precisions[0], 3), name)
    results = []
    for _ in range(2):  # it can be taken again
        with engine:
            results.append(engine.run(feed(engine, images))[0][0].copy())
        with pytest.raises((AttributeError, UserError, RuntimeError)):
            engine.run(feed(engine, images))
    np.testing.assert_array_equal(*results)


@every_backend
def test_threads(name, engine_path, images, expected):
    threads = torch.get_num_threads()
    try:
        with opened(engine_path(name, MODULES[name].precisions[0], 3), name, threads=1) as engine:
            logits = engine.run(feed(engine, images))[0][0].astype(np.float32)
    finally:
        torch.set_num_threads(threads)
    tolerance = TOLERANCE[MODULES[name].precisions[0]]
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


@every_backend
def test_a_device_that_is_not_there(name, engine_path):
    path = engine_path(name, MODULES[name].precisions[0], 1)
    with pytest.raises(UserError, match="nowhere"), opened(path, name, device="nowhere"):
        pytest.fail("runs nowhere")


# files that are not what they seem


@every_backend
@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None], ids=["empty", "garbage", "truncated"])
def test_a_damaged_engine(name, content, engine_path, tmp_path):
    path = engine_path(name, MODULES[name].precisions[0], 1)
    damaged = tmp_path / f"a damaged engine{path.suffix}"
    for companion in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(companion, tmp_path / f"{damaged.stem}{companion.suffix}")
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    facts = json.loads(path.with_suffix(".json").read_text())
    files.write_json(damaged.with_suffix(".json"), {**facts, "sha256": files.digest(damaged)})
    with pytest.raises(UserError) as error, opened(damaged, None):
        pytest.fail("opens")
    assert str(damaged) in str(error.value)


@every_backend
def test_an_engine_that_its_sidecar_does_not_describe(name, engine_path, tmp_path):
    path = engine_path(name, MODULES[name].precisions[0], 1)
    for companion in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(companion, tmp_path)
    copy = tmp_path / path.name
    with opened(copy, None):
        pass
    copy.write_bytes(copy.read_bytes() + b"\0")
    with pytest.raises(UserError) as error:
        opened(copy, None)
    assert str(error.value).startswith(
        f"{copy}: is not the file that {copy.with_suffix('.json').name} beside it describes"
    )


@every_backend
def test_an_engine_that_is_not_there(name, tmp_path):
    path = tmp_path / f"none{MODULES[name].suffix}"
    with pytest.raises(UserError) as error:
        opened(path, None)
    assert str(error.value).startswith(f"{path}: no such engine")


def test_an_engine_that_was_optimised_for_another_cpu(engine_path, tmp_path):
    path = engine_path("onnxruntime", "fp32", 1)
    copy = Path(shutil.copy(path, tmp_path))
    facts = json.loads(path.with_suffix(".json").read_text())
    files.write_json(copy.with_suffix(".json"), {**facts, "cpu_model": "Abacus 9000"})
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
def test_int8_weights_have_seven_bits_where_products_would_saturate(features, saturates, monkeypatch):
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
