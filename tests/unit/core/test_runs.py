"""The facts of a run: what each kind of file says of them, and what is read back."""

import argparse
from pathlib import Path

import pytest

from smlp.core import identity
from smlp.core.cli import UserError
from smlp.core.runs import RunFacts

START = {"id": "ef" * 32, "sha256": "01" * 32, "md5": "23" * 16}
RUN = RunFacts(
    model="smlpnet_tiny",
    backend="onnxruntime",
    precision="fp32",
    variant="",
    batch=8,
    device="cpu",
    emulated=False,
    threads=2,
    engine_path="bs8.onnx",
    engine_id="ab" * 32,
    start=START,
    num_classes=10,
)
IDENTITY = {"model": "smlpnet_tiny", "backend": "onnxruntime", "precision": "fp32", "batch": 8}


def flags(**changes):
    known = {"model": Path("out/bs8.onnx"), "model_label": None, "backend": None, "variant": "", "batchsize": None}
    return argparse.Namespace(**{**known, "threads": None, **changes})


def test_what_files_say_of_a_plain_target():
    assert RUN.identity() == IDENTITY
    made_by = {"engine": {"path": "bs8.onnx", "id": "ab" * 32}, "start": START}
    assert RUN.of_engine() == {**IDENTITY, "device": "cpu", "threads": 2, **made_by, "emulated": False}
    scores = {"device": "cpu", "engine_id": "ab" * 32, "start": START, "num_classes": 10, "emulated": False}
    assert RUN.of_scores() == {**IDENTITY, **scores}


def test_a_variant_is_written_behind_the_precision():
    variant = RunFacts(**{**vars(RUN), "variant": "opset17"})
    for written in (variant.identity(), variant.of_engine(), variant.of_scores()):
        assert list(written)[:5] == ["model", "backend", "precision", "variant", "batch"]
        assert written["variant"] == "opset17"
        assert RunFacts.read(written).variant == "opset17"


def test_facts_are_read_back():
    assert RunFacts.read(RUN.of_engine()) == RunFacts(**{**vars(RUN), "num_classes": None})
    assert RunFacts.read(RUN.of_scores()) == RunFacts(**{**vars(RUN), "threads": None, "engine_path": None})
    assert RunFacts.read({}) == RunFacts()


def test_a_record_of_a_failure_says_which_engine_and_is_sealed():
    record = RUN.failure("no memory")
    assert record["failed"] == "no memory" and identity.verify(record["smlp"], "bs8.json")
    known = RunFacts.read(record["smlp"])
    assert known == RunFacts(**{**vars(RUN), "device": None, "emulated": None, "threads": None, "num_classes": None})


def test_what_is_given_completes_the_facts_and_may_rename_the_model():
    told = RunFacts(model="ours", backend="onnxruntime", variant="", num_classes=3)
    found = RunFacts(model="theirs", device="cpu").with_flags(told, "a.json")
    assert found == RunFacts(model="ours", backend="onnxruntime", device="cpu", num_classes=3)


@pytest.mark.parametrize(("name", "value"), [("backend", "openvino"), ("batch", 4), ("variant", "opset17")])
def test_what_is_given_never_contradicts_the_facts(name, value):
    with pytest.raises(UserError, match=f"a.json: {name} is {getattr(RUN, name)!r} but the flag says {value!r}"):
        RUN.with_flags(RunFacts(**{name: value}), "a.json")


def test_flags_come_before_the_sidecar_and_the_sidecar_before_the_name_of_the_file():
    about = {"model_name": "m", "backend": "openvino", "precision": "bf16", "batch": 4, "variant": "v"}
    sidecar = {**about, "id": "ab" * 32, "start": START}
    engine = {"engine_path": "out/bs8.onnx", "engine_id": "ab" * 32, "start": START}
    from_sidecar = RunFacts("m", "openvino", "bf16", "v", 4, **engine)
    assert RunFacts.asked(flags(), sidecar) == from_sidecar
    given = flags(model_label="ours", backend="onnxruntime", variant="v", batchsize=8, threads=1)
    from_both = RunFacts("ours", "onnxruntime", "bf16", "v", 4, threads=1, **engine)
    assert RunFacts.asked(given, sidecar) == from_both
    assert RunFacts.asked(flags(variant="w"), {}) == RunFacts("bs8", variant="w", engine_path="out/bs8.onnx")


def test_another_variant_than_the_engines_is_refused():
    with pytest.raises(UserError, match="--variant w: the sidecar of out/bs8.onnx says 'v'"):
        RunFacts.asked(flags(variant="w"), {"variant": "v"})
