"""Commands state which artefact they made: another flag or source gives another id, another place does not."""

import dataclasses
import json
import shutil

import pytest
import torch

from smlp import backends
from smlp.backends import onnxruntime, tensorrt
from smlp.core import files, identity, provenance
from smlp.core.cli import UserError
from smlp.data import dataset
from smlp.models import architectures, checkpoint


def stated(path):
    """The facts of an artefact whose sidecar and files are as they were written."""
    facts = identity.known(path).facts
    assert facts["id"] == identity.verify(facts, path)
    return facts


def start_of(path):
    """The key `start` of what is made from `path`, which is a start itself."""
    return {"id": identity.known(path).id, "sha256": files.digest(path), "md5": files.digest(path, "md5")}


@pytest.fixture
def make(load_command):
    """make(command, output, *flags): run a command in this process; what its sidecar states."""

    def run(name, output, *flags):
        assert load_command(name).main([str(flag) for flag in flags]) == 0
        return stated(output)

    return run


# retrieve


@pytest.fixture
def retrieved(make, tmp_path):
    """retrieved(what, source, place="a place", *flags): what the sidecar of the fetched file states."""

    def run(what, source, *flags, place="a place"):
        suffix = {"checkpoint": "checkpoint.pth", "onnx": "model.onnx", "om": "bs8.om"}[what]
        output = tmp_path / place / suffix
        return make("retrieve", output, what, "--source", source, "--output", output, *flags)

    return run


@pytest.fixture
def weights(tmp_path):
    """A function: seed -> a checkpoint of the small model with 7 classes."""

    def save(seed):
        torch.manual_seed(seed)
        path = tmp_path / f"weights {seed}.pth"
        torch.save(architectures.create("test_resnet", 7).state_dict(), path)
        return path

    return save


def test_a_checkpoint_is_its_content_and_its_model(retrieved, weights, tmp_path):
    found = retrieved("checkpoint", weights(0), "--model_name", "test_resnet")
    assert found["start"] == start_of(tmp_path / "a place" / "checkpoint.pth")
    assert found["identity"]["code"] is None and found["identity"]["kind"] == "checkpoint"
    shutil.copy(tmp_path / "weights 0.pth", tmp_path / "renamed.pth")
    again = retrieved("checkpoint", tmp_path / "renamed.pth", "--model_name", "test_resnet", place="elsewhere")
    given = retrieved("checkpoint", weights(0), "--model_name", "test_resnet", "--num_classes", "7")
    assert found["id"] == again["id"] == given["id"]
    assert retrieved("checkpoint", weights(1), "--model_name", "test_resnet")["id"] != found["id"]


def test_another_model_of_the_same_weights_is_another_checkpoint(retrieved, weights, monkeypatch):
    found = retrieved("checkpoint", weights(0), "--model_name", "test_resnet")
    load = checkpoint.load_model
    monkeypatch.setattr(checkpoint, "load_model", lambda name, *more: load("test_resnet", *more))
    other = retrieved("checkpoint", weights(0), "--model_name", "twin")
    assert other["id"] != found["id"]
    assert other["start"]["sha256"] == found["start"]["sha256"]


def test_an_onnx_file_is_its_content_and_a_start(retrieved, tmp_path):
    for name, content in (("a", b"graph"), ("b", b"graph"), ("c", b"other graph")):
        (tmp_path / f"their {name}").write_bytes(content)
    a, b, c = (retrieved("onnx", tmp_path / f"their {name}", place=name) for name in "abc")
    assert a["id"] == b["id"] != c["id"]
    assert a["start"] == b["start"] == start_of(tmp_path / "a" / "model.onnx")


def test_a_ready_made_engine_is_its_content_and_target_and_nobody_knows_its_weights(retrieved, tmp_path):
    for name, content in (("a", b"engine"), ("b", b"other engine")):
        (tmp_path / f"{name}.om").write_bytes(content)

    def engine(name="a", **changed):
        about = {"batch_size": 8, "precision": "high", **changed}
        flags = [word for key, value in about.items() for word in (f"--{key}", value)]
        return retrieved("om", tmp_path / f"{name}.om", *flags, place="|".join([name, *map(str, changed)]))

    assert engine()["start"] is None
    assert engine()["identity"]["kind"] == "engine"
    others = [engine("b"), engine(batch_size=4), engine(precision="fp16"), engine(variant="v")]
    assert len({facts["id"] for facts in [engine(), *others]}) == 5


def test_the_demos_images_and_checkpoint_state_what_they_were_drawn_by(make, tmp_path):
    def images(seed, place):
        output = tmp_path / place / "digits"
        return make("retrieve", output, "dataset", "--output", output, "--train_images", "12", "--val_images", "10",
                    "--seed", seed)  # fmt: skip

    drawn = images(0, "a place")
    assert drawn["id"] == images(0, "elsewhere")["id"] != images(1, "third")["id"]
    output = tmp_path / "checkpoint.pth"
    flags = ["checkpoint", "--model_name", "test_resnet", "--source", "demo", "--output", output, "--demo_dataset"]
    made = make("retrieve", output, *flags, tmp_path / "a place" / "digits")
    assert made["identity"]["made_from"] == {"dataset": drawn["id"]} and made["identity"]["code"]
    image = next((tmp_path / "a place" / "digits" / "train").glob("*/*"))
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"{image.name}: is not the file that .*digits.json describes"):
        make("retrieve", output, *flags, tmp_path / "a place" / "digits")


# export, normalise


def test_an_exported_file_states_its_source_and_flags(make, tiny, tmp_path):
    def export(*flags, source=tiny.pth, place="a place"):
        output = tmp_path / place / "model.onnx"
        kind = "--source_onnx_path" if source.suffix == ".onnx" else "--pth_path"
        return make("export", output, "--model_name", tiny.model_name, kind, source, "--onnx_path", output, *flags)

    found = export()
    assert found["identity"]["made_from"] == {"source": identity.known(tiny.pth).id}
    assert found["start"] == start_of(tiny.pth)
    assert export(place="elsewhere")["id"] == found["id"]
    adopted = export(source=tiny.onnx)
    assert adopted["start"] == start_of(tiny.pth)
    others = [export("--opset_version", "13"), export("--tolerance", "0.5"), export("--num_classes", "7"), adopted]
    assert len({facts["id"] for facts in [found, *others]}) == 5


def test_a_normalising_file_states_its_source_and_transform(make, tiny, tmp_path):
    def normalise(*flags, place="a place"):
        output = tmp_path / place / "model.onnx"
        return make("normalise", output, "--source_onnx_path", tiny.onnx, "--onnx_path", output,
                    "--model_name", tiny.model_name, *flags)  # fmt: skip

    found = normalise()
    assert found["identity"]["made_from"] == {"source": identity.known(tiny.onnx).id}
    assert found["start"] == start_of(tiny.pth)
    assert normalise(place="elsewhere")["id"] == found["id"] != normalise("--tolerance", "0.5")["id"]


@pytest.mark.parametrize(("command", "flag"), [("export", "--pth_path"), ("compile", "--onnx_path")])
def test_a_source_that_is_not_as_its_sidecar_says_is_refused_by_its_name(load_command, tiny, tmp_path, command, flag):
    for path in (tiny.pth, tiny.onnx):
        shutil.copy(path, tmp_path)
        shutil.copy(path.with_suffix(".json"), tmp_path)
    source = tmp_path / {"export": tiny.pth, "compile": tiny.onnx}[command].name
    source.write_bytes(source.read_bytes() + b"\0")
    more = {
        "export": ["--model_name", tiny.model_name, "--onnx_path"],
        "compile": ["--backend", "onnxruntime", "--batch_size", "1", "--output"],
    }[command]
    with pytest.raises(UserError, match=f"{source.name}: is not the file that .* describes"):
        load_command(command).main([flag, str(source), *more, str(tmp_path / "out" / "x.onnx")])
    assert not list(tmp_path.glob("out/*"))


# compile


@pytest.fixture
def compiled(make, mixer_onnx, tmp_path):
    """compiled(*flags, place="a place", seed=0): what the sidecar of an engine of the mixer states."""

    def run(*flags, place="a place", seed=0, backend="onnxruntime", suffix=".onnx"):
        source, output = tmp_path / f"mixer {seed}.onnx", tmp_path / place / f"bs4{suffix}"
        mixer_onnx(source, batch=None, seed=seed)
        flags = ["--backend", backend, "--onnx_path", source, "--output", output, "--batch_size", "4", *flags]
        return make("compile", output, *flags)

    return run


def test_an_engine_states_its_source_and_flags(compiled, tmp_path):
    found = compiled()
    made_from = identity.known(tmp_path / "mixer 0.onnx")
    assert found["identity"]["made_from"] == {"source": made_from.id} and found["start"] == made_from.start
    assert found["identity"]["host"] == onnxruntime.made_for({})
    assert compiled(place="elsewhere")["id"] == found["id"]
    others = [compiled("--batch_size", "2"), compiled("--variant", "v"), compiled(seed=1)]
    assert len({facts["id"] for facts in [found, *others]}) == 4


def test_an_engine_of_another_processor_is_another(compiled, monkeypatch):
    found = compiled()
    monkeypatch.setattr(provenance, "cpu_features", lambda: ["avx1024"])
    assert compiled()["id"] != found["id"]


def test_options_count_by_the_content_of_files_and_never_by_paths(load_command, tmp_path):
    without_paths = load_command("compile")._without_paths
    for name in ("a.cfg", "b.cfg"):
        (tmp_path / name).write_text("the same")
    ascend = backends.load("ascend")
    a, b = (
        without_paths(ascend, {"aipp_config": f"{tmp_path}/{name}.cfg", "modify_mixlist": f"{tmp_path}/{name}.cfg"})
        for name in "ab"
    )
    assert a == b == dict.fromkeys(["aipp_config", "modify_mixlist"], files.digest(tmp_path / "a.cfg"))
    (tmp_path / "b.cfg").write_text("another")
    assert without_paths(ascend, {"aipp_config": f"{tmp_path}/b.cfg"})["aipp_config"] != a["aipp_config"]
    assert without_paths(ascend, {"python": "/usr/bin/python3", "soc_version": "S", "log": "error"}) == {
        "soc_version": "S",
        "log": "error",
    }
    assert without_paths(backends.load("onnxruntime"), {"calibration": str(tmp_path)}) == {}
    assert without_paths(tensorrt.BACKEND, {"trtexec": "/opt/trtexec", "workspace_mib": "7"}) == {"workspace_mib": "7"}


@pytest.fixture
def drawn(make, jpeg, tmp_path):
    """drawn(*flags, place="drawn"): what the sidecar of preprocessed images states."""
    for index in range(6):
        for split in ("train", "val"):
            path = tmp_path / "data" / split / f"{index % 2}" / f"{index}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(index + 10 * (split == "train")))

    def run(*flags, place="drawn", root=None):
        where = ["--data_root", root or tmp_path / "data", "--save_dir", tmp_path / place, "--workers", "1"]
        return make("preprocess", tmp_path / place, *where, "--model_name", "test_resnet", *flags)

    return run


def test_an_int8_engine_is_made_from_its_calibration_bins(make, drawn, tiny, tmp_path):
    def int8(place, seed):
        bins = drawn("--split", "train", "--draw", "2", "--seed", seed, place=f"calibration of {place}")
        output = tmp_path / place / "bs1.onnx"
        facts = make("compile", output, "--backend", "onnxruntime", "--precision", "int8", "--batch_size", "1",
                     "--onnx_path", tiny.onnx, "--output", output,
                     "--option", f"calibration={tmp_path / f'calibration of {place}'}")  # fmt: skip
        assert facts["identity"]["made_from"]["calibration"] == bins["id"]
        assert str(tmp_path) not in json.dumps(facts["identity"])
        return facts["id"]

    assert int8("a", 0) == int8("b", 0) != int8("c", 1)


def test_a_failure_says_whose_it_is(compiled, monkeypatch, tmp_path):
    made = compiled()

    def refuse(*_, **__):
        raise backends.EngineFailure("the compiler says no")

    monkeypatch.setattr(onnxruntime, "BACKEND", dataclasses.replace(onnxruntime.BACKEND, compile=refuse))
    failed = compiled("--record_failure")
    assert failed["start"] == made["start"]
    assert failed["identity"]["made_from"] == made["identity"]["made_from"] and failed["id"] != made["id"]
    with pytest.raises(backends.EngineFailure, match="the compiler says no"):
        backends.open_engine(tmp_path / "a place" / "bs4.onnx", backend=None, device=None, threads=None)


# opening


def test_an_engine_with_the_companion_of_another_is_refused_by_its_name(compiled, tmp_path):
    for seed in (0, 1):
        compiled(backend="openvino", suffix=".xml", place=str(seed), seed=seed)
    shutil.copy(tmp_path / "1" / "bs4.bin", tmp_path / "0" / "bs4.bin")
    with pytest.raises(UserError, match=r"0/bs4\.bin: is not the file that .*bs4\.json describes"):
        backends.open_engine(tmp_path / "0" / "bs4.xml", backend=None, device=None, threads=None)


def test_what_is_opened_always_has_an_id_and_perhaps_a_start(compiled, tiny, tmp_path):
    def opened(path, backend=None):
        return backends.open_engine(path, backend=backend, device=None, threads=None)[1]

    facts = compiled(backend="openvino", suffix=".xml")
    engine = tmp_path / "a place" / "bs4.xml"
    assert opened(engine) == facts
    assert opened(tiny.pth)["start"] == start_of(tiny.pth)
    engine.with_suffix(".json").unlink()
    bare = opened(engine)
    assert bare == {"id": bare["id"], "start": None} and bare["id"] != facts["id"]
    engine.with_suffix(".bin").write_bytes(b"other weights")
    assert opened(engine)["id"] != bare["id"]
    files.write_json(engine.with_suffix(".json"), {"backend": "openvino", "batch": 4})
    assert opened(engine)["batch"] == 4


def test_the_sidecar_of_another_kind_of_engine_is_refused(compiled, tmp_path):
    compiled()
    compiled(backend="openvino", suffix=".xml", place="other")
    shutil.copy(tmp_path / "other" / "bs4.json", tmp_path / "a place" / "bs4.json")
    with pytest.raises(UserError, match=r"bs4\.json: does not describe bs4\.onnx"):
        backends.open_engine(tmp_path / "a place" / "bs4.onnx", backend=None, device=None, threads=None)


# preprocess


def test_bins_state_their_content_and_flags(drawn, tmp_path):
    found = drawn()
    assert found["identity"]["files"] == identity.contents(tmp_path / "drawn")
    shutil.copytree(tmp_path / "data", tmp_path / "copied data")
    assert drawn(place="elsewhere", root=tmp_path / "copied data")["id"] == found["id"]
    (tmp_path / "names").write_text("1\n0\n")
    (tmp_path / "more names").write_text("1\n0\n2\n")  # the same labels, of more classes
    flags = [["--pixels", "uint8"], ["--layout", "packed"], ["--shard", "0/2"], ["--shard", "1/2"],
             ["--batch_size", "2"], ["--model_name", "test_vit"], ["--split", "train"], ["--on_bad_image", "skip"],
             ["--draw", "2"], ["--draw", "2", "--seed", "1"], ["--order", "timm"], ["--background_class", "0"],
             ["--classes", tmp_path / "names"], ["--classes", tmp_path / "more names"],
             ["--draw", "2", "--not_in", tmp_path / "elsewhere", "--split", "train"]]  # fmt: skip
    others = [drawn(*more, place=f"other {number}") for number, more in enumerate(flags)]
    assert len({facts["id"] for facts in [found, *others]}) == 1 + len(flags)
    assert others[-1]["identity"]["made_from"] == {"not_in_0": found["id"]}


@pytest.mark.parametrize("layout", ["files", "packed"])
def test_bins_of_other_images_are_others_and_a_new_label_is_seen(drawn, tmp_path, jpeg, layout):
    found = drawn("--layout", layout)
    (tmp_path / "data" / "val" / "0" / "0.JPEG").write_bytes(jpeg(100))
    other = drawn("--layout", layout, place="other")
    assert found["id"] != other["id"]
    (tmp_path / "data" / "val" / "0").rename(tmp_path / "data" / "val" / "2")
    assert len({found["id"], other["id"], drawn("--layout", layout, place="third")["id"]}) == 3


def test_images_are_not_drawn_beside_a_manifest_that_was_exchanged(drawn, tmp_path):
    drawn()
    manifest = tmp_path / "drawn" / dataset.MANIFEST
    rows = dataset.read_manifest(manifest)
    dataset.write_manifest(manifest, rows[:-1])
    with pytest.raises(UserError, match="manifest.csv: is not the file that .*drawn.json describes"):
        drawn("--draw", "2", "--not_in", tmp_path / "drawn", place="calibration")
    assert not (tmp_path / "calibration").exists()
