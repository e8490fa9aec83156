"""AOTInductor on the CPU: a small sMLPNet, exported, compiled, opened and run; and everything that must be refused."""

import json
import shlex
import shutil
import tempfile

import numpy as np
import pytest
import torch

from smlp import backends
from smlp.backends import aotinductor
from smlp.backends.base import EngineFailure
from smlp.core import files, identity
from smlp.core.cli import UserError
from smlp.models import architectures
from smlp.models.smlpnet import SMLPNet

timm = architectures.timm
default_cfgs = timm.models.generate_default_cfgs(
    {"smlpnet_for_test": {"input_size": (3, 32, 32), "classifier": "mlp_head.0"}}
)


@timm.models.register_model
def smlpnet_for_test(pretrained=False, **kwargs):
    """Two blocks, 32 px: as small as the real ones are large."""
    arguments = {"dim": 8, "depths": (1, 0, 1, 0), "img_size": 32, "num_classes": 5, **kwargs}
    return timm.models.build_model_with_cfg(SMLPNet, "smlpnet_for_test", pretrained, **arguments)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = architectures.create("smlpnet_for_test")
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("a checkpoint") / "checkpoint.pth"
    torch.save(model.state_dict(), path)
    files.write_json(path.with_suffix(".json"), {"model_name": "smlpnet_for_test", "num_classes": 5})
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(checkpoint, images):
    facts = json.loads(checkpoint.with_suffix(".json").read_text())
    pytorch = backends.load("pytorch")
    with pytorch.open(checkpoint, device="cpu", threads=None, facts=facts) as engine:
        return engine.run(images)[0][0]


def compiled(checkpoint, folder, precision):
    """Path and sidecar of an engine of batch 2, as scripts/compile.py leaves them."""
    path = folder / "bs2.pt2"
    facts = aotinductor.compile_engine(checkpoint, path, precision=precision, batch_size=2, options={})
    return described(path, {"backend": "aotinductor", "precision": precision, **facts})


def described(path, facts):
    """The engine `path`, with a sidecar that vouches for it and states these facts."""
    state = identity.state("engine", identity.contents(path))
    files.write_json(path.with_suffix(".json"), identity.sealed({**facts, **state}))
    return path


@pytest.fixture(scope="module")
def fp32(checkpoint, tmp_path_factory):
    return compiled(checkpoint, tmp_path_factory.mktemp("an fp32 engine"), "fp32")


def open_engine(path, threads=None, device=None):
    return backends.open_engine(path, backend=None, device=device, threads=threads)


def test_torchs_libraries_may_lie_in_a_path_with_a_blank():
    from torch._inductor.cpp_builder import BuildOptionsBase, CppBuilder

    options = BuildOptionsBase(compiler="g++", libraries_dirs=["/an environment/lib", "/usr/lib"], libraries=["torch"])
    with aotinductor._quoted_library_folders():
        command = CppBuilder("x", "x.cpp", options).get_command_line()
    assert {"-L/an environment/lib", "-L/usr/lib", "-ltorch"} <= set(shlex.split(command))
    assert options.get_libraries_dirs() == ["/an environment/lib", "/usr/lib"]


def test_scratch_files_in_a_path_with_a_blank_are_refused(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "a blank").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a blank"))
    with pytest.raises(UserError, match="TMPDIR=.*a blank: torch's compiler needs a folder without blanks"):
        compiled(checkpoint, tmp_path, "fp32")
    assert not list(tmp_path.glob("*.pt2"))


def refused(fp32, tmp_path, **changed):
    """The error on opening a copy of the engine whose sidecar says something else."""
    copy = shutil.copy(fp32, tmp_path / "copy.pt2")
    described(copy, {**json.loads(fp32.with_suffix(".json").read_text()), **changed})
    return refusal(copy)


def refusal(copy):
    with pytest.raises(UserError) as error, open_engine(copy)[2]:
        pass
    assert str(copy) in str(error.value)
    return str(error.value)


def test_fp32_computes_what_pytorch_computes(fp32, images, expected):
    backend, facts, engine = open_engine(fp32)
    with engine:
        (logits,), timings = engine.run(images)
    found = (backend.name, facts["batch"], facts["device"], engine.batch, engine.device)
    assert found == ("aotinductor", 2, "cpu", 2, "cpu")
    assert logits.dtype == np.float32 and logits.shape == (2, 5)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert len(timings.compute_ms) == 1 and timings.compute_ms[0] > 0 and timings.h2d_ms == timings.d2h_ms == []


def test_threads_are_set_and_said(fp32, images, expected):
    before = torch.get_num_threads()
    try:
        with open_engine(fp32, threads=1)[2] as engine:
            assert engine.settings == {
                "threads": 1,
                "float32_matmul_precision": "highest",
                "onednn_fp32_precision": "ieee",
                "tf32": False,
            }
            assert torch.get_num_threads() == 1
            np.testing.assert_allclose(engine.run(images)[0][0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    finally:
        torch.set_num_threads(before)


def test_bf16_on_a_cpu_without_it_is_a_failure_that_says_so(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(aotinductor, "_has_bf16", lambda: False)
    with pytest.raises(EngineFailure, match=r"precision bf16: this CPU \(.+\) has no bf16; use fp32"):
        compiled(checkpoint, tmp_path, "bf16")


def test_bf16_is_near_and_not_equal(checkpoint, tmp_path, images, expected, monkeypatch):
    monkeypatch.setattr(aotinductor, "_has_bf16", lambda: True)  # slow where there is none, and right
    path = compiled(checkpoint, tmp_path, "bf16")
    with open_engine(path)[2] as engine:
        assert engine.inputs[0].dtype == engine.outputs[0].dtype == np.float32
        logits = engine.run(images)[0][0]
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 0.05


def test_another_batch_is_refused_before_it_runs(fp32):
    with open_engine(fp32)[2] as engine, pytest.raises(UserError, match="takes float32 2x3x32x32"):
        engine.run(np.zeros((1, 3, 32, 32), np.float32))


def test_an_engine_that_nobody_vouches_for_is_refused(fp32, tmp_path):
    assert "no sidecar copy.json vouches for it" in refusal(shutil.copy(fp32, tmp_path / "copy.pt2"))
    facts = json.loads(fp32.with_suffix(".json").read_text())
    stripped = {key: value for key, value in facts.items() if key not in ("id", "identity", "seal")}
    files.write_json(tmp_path / "copy.json", stripped)
    assert "no sidecar copy.json vouches for it" in refusal(tmp_path / "copy.pt2")


def test_an_engine_that_is_not_the_one_described_is_refused(fp32, tmp_path):
    copy = shutil.copy(fp32, tmp_path / "copy.pt2")
    shutil.copy(fp32.with_suffix(".json"), tmp_path / "copy.json")
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert f"is not the file that {tmp_path / 'copy.json'} describes" in refusal(copy)


def test_another_processor_is_refused(fp32, tmp_path):
    assert "another cpu_model, 'Cray-1'" in refused(fp32, tmp_path, cpu_model="Cray-1")


def test_a_processor_that_lacks_instructions_is_refused(fp32, tmp_path):
    features = json.loads(fp32.with_suffix(".json").read_text())["cpu_features"]
    message = refused(fp32, tmp_path, cpu_features=[*features, "amx_tile_of_2030"])
    assert "another cpu_features, with amx_tile_of_2030" in message


def test_another_torch_is_refused(fp32, tmp_path):
    assert "another torch, '1.0.0'" in refused(fp32, tmp_path, torch="1.0.0")


def test_an_engine_for_cuda_is_refused_on_the_cpu_and_the_other_way_round(fp32, tmp_path):
    copy = tmp_path / "copy.pt2"
    shutil.copy(fp32, copy)
    described(copy, {**json.loads(fp32.with_suffix(".json").read_text()), "device": "cuda"})
    with pytest.raises(UserError, match="was compiled for cuda, not for 'cpu'; add --device cuda"):
        open_engine(copy, device="cpu")
    with pytest.raises(UserError, match="was compiled for cpu, not for 'cuda:0'; add --device cpu"):
        open_engine(fp32, device="cuda:0")


def test_a_file_that_is_no_package_is_refused(fp32, tmp_path):
    junk = tmp_path / "junk.pt2"
    junk.write_bytes(b"PK but not much of it")
    described(junk, json.loads(fp32.with_suffix(".json").read_text()))
    with pytest.raises(UserError, match="junk.pt2: is no package that this backend compiled"), open_engine(junk)[2]:
        pass


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("fp16", {}, "fp16 on CUDA devices only"),
        ("fp32", {"device": "cuda:7"}, "'cuda:7': torch .* sees 0 CUDA devices"),
        ("fp32", {"device": "npu"}, "device 'npu' is not known"),
    ],
)
def test_what_cannot_be_compiled_is_named(checkpoint, tmp_path, precision, options, message):
    if "cuda" in message.lower() and torch.cuda.is_available():
        pytest.skip("about machines without a CUDA device")
    with pytest.raises(UserError, match=message):
        aotinductor.compile_engine(checkpoint, tmp_path / "e.pt2", precision=precision, batch_size=1, options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "melted"}, "--option graph=melted: fused or reference was expected"),
        ({"speed": "high"}, "no option 'speed'"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UserError, match=message):
        aotinductor.BACKEND.check_options(options)


def test_without_a_compiler(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "g++-of-2050")
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler and there is no 'g\+\+-of-2050'"):
        aotinductor.compile_engine(checkpoint, tmp_path / "e.pt2", precision="fp32", batch_size=1, options={})


def test_too_little_memory(checkpoint, tmp_path):
    with pytest.raises(
        EngineFailure, match="checkpoint.pth: batch 1000000000000 does not fit into memory .*use a smaller"
    ):
        aotinductor.compile_engine(
            checkpoint, tmp_path / "e.pt2", precision="fp32", batch_size=1_000_000_000_000, options={}
        )


def test_a_checkpoint_that_nobody_names(checkpoint, tmp_path):
    copy = shutil.copy(checkpoint, tmp_path / "nameless.pth")
    with pytest.raises(UserError, match="nameless.json: not found; the sidecar of a checkpoint"):
        aotinductor.compile_engine(copy, tmp_path / "e.pt2", precision="fp32", batch_size=1, options={})
