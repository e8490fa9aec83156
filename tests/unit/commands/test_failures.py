"""An engine that cannot be made or run here: an error by hand, a record in a sweep that every later stage passes on."""

import dataclasses
import json

import numpy as np
import pytest

from smlp import backends
from smlp.backends import onnxruntime, openvino
from smlp.backends.base import EngineFailure, memory_named
from smlp.core import cli, files, identity
from smlp.core.runs import RunFacts


class Session:
    """ONNX Runtime's session on a machine whose memory is too small for more than two images."""

    def run(self, _, feed):
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1\nsecond line")


@pytest.fixture
def refusing(monkeypatch):
    def refuse(*_, **__):
        raise EngineFailure("the compiler says no")

    monkeypatch.setattr(onnxruntime, "BACKEND", dataclasses.replace(onnxruntime.BACKEND, compile=refuse))


@pytest.fixture
def bins(tmp_path):
    folder = tmp_path / "the bins"
    folder.mkdir()
    for index in range(2):
        np.zeros((3, 4, 4), np.float32).tofile(folder / f"batch-{index:05d}.bin")
    rows = [f"{index},batch-{index:05d}.bin,{index}.png,0,0,{index}" for index in range(2)]
    (folder / "manifest.csv").write_text("index,bin,image,class,label,sha256\n" + "\n".join(rows) + "\n")
    return folder


def compile_flags(source, output):
    return ["--backend", "onnxruntime", "--batch_size", "4", "--onnx_path", str(source), "--output", str(output)]


def test_by_hand_it_is_an_error_and_nothing_is_left(load_command, refusing, mixer_onnx, tmp_path):
    mixer_onnx(tmp_path / "m.onnx", batch=None)
    with pytest.raises(EngineFailure, match="the compiler says no"):
        load_command("compile").main(compile_flags(tmp_path / "m.onnx", tmp_path / "out" / "bs4.onnx"))
    assert list((tmp_path / "out").iterdir()) == []


def test_in_a_sweep_every_file_of_the_engine_is_there_and_empty(load_command, monkeypatch, mixer_onnx, tmp_path):
    def refuse(*_, **__):
        raise EngineFailure("the compiler says no")

    monkeypatch.setattr(openvino, "BACKEND", dataclasses.replace(openvino.BACKEND, compile=refuse))
    mixer_onnx(tmp_path / "m.onnx", batch=None)
    flags = ["--backend", "openvino", "--batch_size", "4", "--onnx_path", str(tmp_path / "m.onnx")]
    engine = tmp_path / "out" / "bs4.xml"
    assert load_command("compile").main([*flags, "--output", str(engine), "--record_failure"]) == 0
    assert {path.name: path.stat().st_size > 0 for path in engine.parent.iterdir()} == {
        "bs4.xml": False,
        "bs4.bin": False,
        "bs4.json": True,
    }


def test_in_a_sweep_every_stage_passes_the_reason_on(load_command, refusing, mixer_onnx, bins, tmp_path, capsys):
    mixer_onnx(tmp_path / "m.onnx", batch=None)
    engine = tmp_path / "out" / "bs4.onnx"
    assert load_command("compile").main([*compile_flags(tmp_path / "m.onnx", engine), "--record_failure"]) == 0
    sidecar = json.loads(engine.with_suffix(".json").read_text())
    assert (sidecar["failed"], sidecar["batch"]) == ("the compiler says no", 4)
    assert capsys.readouterr().err == "no engine: the compiler says no\n"
    about = {"model": "mine", "backend": "onnxruntime", "precision": "fp32", "batch": 4}
    known = identity.known(engine)
    run_facts = RunFacts(**about, engine_path=str(engine), engine_id=known.id, start=known.start)
    record = run_facts.failure("the compiler says no")

    run = ["--model", str(engine), "--model_label", "mine", "--input", str(bins), "--output"]
    for name, target, written in [
        ("infer", tmp_path / "results", tmp_path / "results" / "shard-0_summary.json"),
        ("measure", tmp_path / "bs4.json", tmp_path / "bs4.json"),
    ]:
        more = ["--output_dirname", "shard-0"] if name == "infer" else []
        with pytest.raises(EngineFailure, match="the compiler says no"):
            load_command(name).main([*run, str(target), *more])
        assert not written.exists()
        assert load_command(name).main([*run, str(target), *more, "--record_failure"]) == 0
        assert json.loads(written.read_text()) == record
    assert list((tmp_path / "results" / "shard-0").iterdir()) == []
    assert np.load(tmp_path / "bs4.npy").shape == (0, 2)

    evaluate = load_command("evaluate")
    flags = ["--infer_result_dir", str(tmp_path / "results" / "shard-0"), "--labels", str(bins / "manifest.csv")]
    with pytest.raises(cli.UserError, match="no results to score: the compiler says no"):
        evaluate.main(flags)
    reference = tmp_path / "reference.csv"
    reference.write_text("index,image,label,predicted,rank\n0,0.png,0,0,0\n1,1.png,0,0,0\n")
    scored = tmp_path / "scored.json"
    assert evaluate.main([*flags, "--reference", str(reference), "--json", str(scored)]) == 0
    assert json.loads(scored.read_text()) == record

    tables = tmp_path / "tables"
    files_ = ["--accuracy", str(scored), "--throughput", str(tmp_path / "bs4.json"), "--output_dir", str(tables)]
    assert load_command("tabulate").main(files_) == 0
    for name in ("accuracy", "throughput"):
        assert "the compiler says no" in (tables / f"{name}.md").read_text()
        assert "the compiler says no" in (tables / f"{name}.csv").read_text()


def test_a_record_names_the_variant(load_command, bins, tmp_path):
    engine = tmp_path / "bs4.onnx"
    engine.touch()
    about = {"backend": "onnxruntime", "precision": "fp32", "variant": "opset17", "batch": 4}
    files.write_json(engine.with_suffix(".json"), {"failed": "no", **about})
    run = ["--model", str(engine), "--input", str(bins), "--output", str(tmp_path / "bs4.json"), "--record_failure"]
    assert load_command("measure").main([*run, "--variant", "opset17"]) == 0
    record = json.loads((tmp_path / "bs4.json").read_text())
    known = RunFacts(model="bs4", **about, engine_path=str(engine), engine_id=identity.known(engine).id)
    assert record == known.failure("no")


def test_an_engine_without_a_sidecar_leaves_a_record_too(load_command, mixer_onnx, bins, tmp_path, monkeypatch):
    mixer_onnx(tmp_path / "m.onnx", batch=2)
    monkeypatch.setattr(onnxruntime._Session, "_execute", lambda *_: Session().run(None, None))
    flags = ["--model", str(tmp_path / "m.onnx"), "--backend", "onnxruntime", "--batchsize", "2", "--record_failure"]
    assert load_command("measure").main([*flags, "--input", str(bins), "--output", str(tmp_path / "bs2.json")]) == 0
    record = json.loads((tmp_path / "bs2.json").read_text())
    assert record["failed"].startswith("batch 2 does not fit into memory")
    engine = {"engine_path": str(tmp_path / "m.onnx"), "engine_id": identity.known(tmp_path / "m.onnx").id}
    assert record == RunFacts("m", "onnxruntime", batch=2, **engine).failure(record["failed"])


def test_too_little_memory_at_a_run_is_such_a_failure(mixer_onnx, tmp_path):
    mixer_onnx(tmp_path / "m.onnx", batch=4)
    opened = backends.open_engine(tmp_path / "m.onnx", backend="onnxruntime", device=None, threads=None)[2]
    with opened as engine:
        engine._session = Session()
        with pytest.raises(
            EngineFailure, match=r"batch 4 does not fit into memory \(Failed to allocate .* of size 1\)"
        ):
            engine.run(np.zeros((4, 3, 4, 4), np.float32))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory"), ValueError("std::bad_alloc")])
def test_what_counts_as_too_little_memory(error):
    with pytest.raises(EngineFailure, match="it does not fit into memory"), memory_named("it"):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), memory_named("it"):
        raise KeyError("memory")
    with pytest.raises(cli.UserError, match="as it was"), memory_named("it"):
        raise cli.UserError("as it was: out of memory")


def test_a_bf16_engine_on_a_cpu_without_bf16_is_such_a_failure(monkeypatch, tiny, tmp_path):
    openvino = pytest.importorskip("smlp.backends.openvino")
    monkeypatch.setattr(openvino, "_has_bf16", lambda core: False)
    with pytest.raises(EngineFailure, match=r"precision bf16: this CPU \(.+\) has no bf16; use fp32, or int8"):
        openvino.compile_engine(tiny.onnx, tmp_path / "e.xml", precision="bf16", batch_size=1, options={})
    assert list(tmp_path.iterdir()) == []
    assert files.sidecar_path(tiny.onnx).exists()
