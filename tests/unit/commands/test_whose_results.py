"""Whose outputs are they: infer.py and measure.py state it and check their bins, evaluate.py refuses anybody else's."""

import json
import shutil

import numpy as np
import pytest

from smlp.core import files, identity, provenance
from smlp.core.cli import UserError
from smlp.data.manifest import Row, images_digest, write_manifest
from smlp.results.chain import check_chain

NAMES = ["batch-00000.bin", "batch-00001.bin", "batch-00002.bin"]


def seal(path, kind="made", suffixes=(), **facts):
    """A sidecar, as those who make artefacts write it."""
    made = identity.state(kind, identity.contents(path, suffixes), flags=facts.pop("flags", {}))
    files.write_json(identity.sidecar_of(path), provenance.describe(state=made, **facts))


def list_images(folder, sha256="a"):
    rows = [Row(index, name, f"{index}.png", "0", 0, sha256 * 64) for index, name in enumerate(NAMES)]
    write_manifest(folder / "manifest.csv", rows)


@pytest.fixture
def swept(place, infer, load_command):
    """Bins and an engine with sidecars, its outputs, and a reference's predictions."""
    place.add(*NAMES)
    list_images(place.bins)
    seal(place.bins)
    start = {"id": "5" * 64, "sha256": "6" * 64, "md5": "7" * 32}
    seal(place.engine, backend="onnxruntime", precision="fp32", batch=4, start=start)
    assert infer.main(place.flags("--outfmt", "NPY")) == 0
    place.folder, place.summary_path = place.out / "run", place.out / "run_summary.json"
    place.reference = place.root / "reference.csv"
    place.evaluate = load_command("evaluate").main
    place.scored = ["--infer_result_dir", str(place.folder), "--labels", str(place.bins)]
    report = ["--predictions", str(place.reference), "--json", str(place.root / "reference.json")]
    assert place.evaluate([*place.scored, *report]) == 0
    place.compared = [*place.scored, "--reference", str(place.reference), "--engine", str(place.engine)]
    return place


def reseal(path, **changes):
    """Somebody else's honest summary or sidecar."""
    facts = json.loads(path.read_text())
    part = facts.get("smlp", facts)
    part.update(changes)
    part["id"] = identity.digest(part["identity"])
    sealed = identity.sealed(part)
    path.write_text(json.dumps({**facts, "smlp": sealed} if "smlp" in facts else sealed))


def test_the_chain_holds(swept):
    scored = swept.root / "scored.json"
    assert swept.evaluate([*swept.compared, "--json", str(scored)]) == 0
    outputs = json.loads(swept.summary_path.read_text())["smlp"]
    bins, engine = identity.known(swept.bins).id, identity.known(swept.engine).id
    assert outputs["identity"]["made_from"] == {"engine": engine, "bins_0": bins}
    assert outputs["identity"]["files"] == identity.contents(swept.folder)
    report = json.loads(scored.read_text())
    reference = identity.known(swept.reference)
    assert identity.verify(report, scored) == report["id"]
    made_from = {"bins_0": bins, "outputs_0": outputs["id"], "reference": reference.id}
    assert report["identity"]["made_from"] == made_from
    assert (report["engine_id"], report["reference_id"]) == (engine, reference.id)
    assert report["start"] == outputs["start"] == reference.start == identity.known(swept.engine).start


def test_what_can_change_the_outputs_is_part_of_their_id(swept, infer):
    ids = {json.loads(swept.summary_path.read_text())["smlp"]["id"]}
    for more in (["--outfmt", "BIN"], ["--outfmt", "NPY", "--threads", "1"]):
        assert infer.main(swept.flags(*more)) == 0
        ids.add(json.loads(swept.summary_path.read_text())["smlp"]["id"])
    assert len(ids) == 3
    assert infer.main(swept.flags("--outfmt", "NPY")) == 0
    assert json.loads(swept.summary_path.read_text())["smlp"]["id"] in ids


@pytest.mark.parametrize("damaged", ["batch-00001.bin", "manifest.csv", "surplus.bin"])
def test_inference_refuses_bins_that_are_not_those_of_their_sidecar(swept, infer, damaged):
    path = swept.bins / damaged
    path.write_bytes(path.read_bytes()[::-1] if path.exists() else b"x")
    with pytest.raises(UserError, match=f"{damaged}: is "):
        infer.main(swept.flags())


def test_inference_over_listed_files_checks_these(swept, infer):
    listed = ",".join(str(swept.bins / name) for name in NAMES[:2])
    (swept.bins / NAMES[2]).write_bytes(b"not read")
    assert infer.main(swept.flags("--input", listed)) == 0
    (swept.bins / NAMES[1]).write_bytes((swept.bins / NAMES[0]).read_bytes())
    with pytest.raises(UserError, match=f"{NAMES[1]}: is not the file"):
        infer.main(swept.flags("--input", listed))


def test_measuring_checks_the_bins_that_it_reads(swept, load_command, monkeypatch):
    measure = load_command("measure")
    monkeypatch.setattr(measure, "_IMAGE_BYTES", 1)
    list_images(swept.bins)
    (swept.bins / NAMES[2]).write_bytes((swept.bins / NAMES[0]).read_bytes())
    engine = swept.root / "bs1.onnx"
    swept.mixer_onnx(engine, 1)
    fast = ["--retry_max_s=0", "--min_time_s=0.001", "--min_runs=1", "--warmup_window_s=0.001", "--warmup_max_s=0.01"]
    report = swept.root / "measured.json"
    flags = ["--model", str(engine), "--input", str(swept.bins), "--output", str(report), *fast]
    assert measure.main(flags) == 0  # one batch is all that it reads
    measured = json.loads(report.read_text())["smlp"]
    assert measured["identity"]["made_from"] == {
        "engine": identity.known(engine).id,
        "bins_0": identity.known(swept.bins, check=False).id,
    }
    assert measured["identity"]["files"] == {".npy": files.digest(report.with_suffix(".npy"))}
    (swept.bins / NAMES[0]).write_bytes((swept.bins / NAMES[1]).read_bytes())
    with pytest.raises(UserError, match=f"{NAMES[0]}: is not the file"):
        measure.main(flags)


def test_a_kill_before_the_summary_leaves_none_of_other_outputs(swept, infer, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    swept.mixer_onnx(swept.root / "other.onnx", 4, seed=1)
    monkeypatch.setattr(files, "write_json", kill)
    old = identity.contents(swept.folder)
    with pytest.raises(KeyboardInterrupt):
        infer.main(swept.flags("--outfmt", "NPY", engine=swept.root / "other.onnx"))
    assert identity.contents(swept.folder) != old and not swept.summary_path.exists()
    with pytest.raises(UserError, match=r"run_summary\.json: does not state which engine made the outputs"):
        swept.evaluate(swept.compared)


def other_output(swept):
    path = swept.folder / "batch-00001_0.npy"
    np.save(path, np.load(path) + 1)


def other_manifest(swept):
    list_images(swept.bins, "b")


def other_bins(swept):
    seal(swept.bins, flags={"resize": 1})


def other_engine(swept):
    seal(swept.engine, flags={"option": 1}, backend="onnxruntime", precision="fp32", batch=4)


def edited_summary(swept):
    report = json.loads(swept.summary_path.read_text())
    report["smlp"]["images"] = 4
    swept.summary_path.write_text(json.dumps(report))


def edited_sidecar_of_bins(swept):
    sidecar = identity.sidecar_of(swept.bins)
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "skipped": []}))


def other_predictions(swept):
    swept.reference.write_text(swept.reference.read_text().replace(",0\n", ",1\n", 1))


def edited_reference(swept):
    report = swept.reference.with_suffix(".json")
    report.write_text(report.read_text().replace('"images": 3', '"images": 4'))


def reference_of_another_start(swept):
    reseal(swept.reference.with_suffix(".json"), start={"id": "8" * 64, "sha256": "6" * 64, "md5": "7" * 32})


def reference_of_other_images(swept):
    report = swept.reference.with_suffix(".json")
    stated = json.loads(report.read_text())["identity"]
    reseal(report, identity={**stated, "flags": {**stated["flags"], "images": "9" * 64}})


def someone_elses_reference(swept):
    shutil.copy(swept.root / "bs4.json", swept.reference.with_suffix(".json"))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (other_output, "run/batch-00001_0.npy: is not the file"),
        (other_manifest, "the bins/manifest.csv: is not the file"),
        (other_bins, "run_summary.json: its outputs are of other bins than .*the bins/manifest.csv describe now"),
        (other_engine, "run_summary.json: its outputs are those of another engine than .*bs4.onnx is now"),
        (edited_summary, "run_summary.json: is not as it was written"),
        (edited_sidecar_of_bins, "the bins.json: is not as it was written"),
        (other_predictions, "reference.csv: is not the file"),
        (edited_reference, "reference.json: is not as it was written"),
        (reference_of_another_start, "reference.csv: the reference started from another checkpoint or ONNX file"),
        (reference_of_other_images, "reference.csv: was made from other images or labels"),
        (someone_elses_reference, "reference.*: is "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_scoring_refuses_what_does_not_belong_together(swept, damage, named):
    damage(swept)
    with pytest.raises(UserError, match=named):
        swept.evaluate([*swept.compared, "--json", str(swept.root / "scored.json")])
    assert not (swept.root / "scored.json").exists()


@pytest.fixture
def chain(tmp_path):
    """Sidecars: a dataset of one image, its bins, a checkpoint, and an engine made from it."""
    folder = tmp_path / "digits"
    (folder / "val").mkdir(parents=True)
    (folder / "val" / "0.png").write_text("image")
    seal(folder, "dataset")
    bins = tmp_path / "shard-0"
    bins.mkdir()
    write_manifest(
        bins / "manifest.csv", [Row(0, "0.bin", "val/0.png", "0", 0, files.digest(folder / "val" / "0.png"))]
    )
    seal(bins, "bins")
    for name in ("checkpoint.pth", "other.pth"):
        (tmp_path / name).write_text(name)
        seal(tmp_path / name, "checkpoint")
    (tmp_path / "bs1.onnx").write_text("engine")
    made = identity.state(
        "engine", {".onnx": "0"}, made_from={"source": identity.known(tmp_path / "checkpoint.pth").id}
    )
    files.write_json(tmp_path / "bs1.json", provenance.describe(state=made))
    return {path.stem: path for path in tmp_path.glob("*.json")}


def test_a_chain_holds(chain):
    check_chain(chain.values())
    check_chain([])
    del chain["digits"]  # nobody told which images there were
    check_chain(chain.values())


def test_what_was_made_from_another_is_refused(chain):
    del chain["checkpoint"]
    with pytest.raises(UserError, match=r"bs1\.json: states another source than there is now"):
        check_chain(chain.values())


def test_what_started_from_another_file_than_there_is_outside_is_refused(chain):
    [sha256] = json.loads(chain["checkpoint"].read_text())["identity"]["files"].values()
    check_chain(chain.values(), [sha256])
    with pytest.raises(UserError, match=r"checkpoint\.json.*: describes another file than the one outside"):
        check_chain(chain.values(), ["0" * 64])


def test_bins_of_other_images_than_there_are_outside_are_refused(swept):
    images = [(index, f"{index}.png", 0, "a" * 64) for index in range(len(NAMES))]
    digest = ["--images_sha256", images_digest(reversed(images))]
    assert swept.evaluate([*swept.scored, *digest]) == 0
    moved = [(index + 1, *rest) for index, *rest in images]
    with pytest.raises(UserError, match=r"manifest\.csv: was made from other images or labels than there are now"):
        swept.evaluate([*swept.scored, "--images_sha256", images_digest(moved)])


def test_images_that_were_left_out_count(swept):
    images = [(index, f"{index}.png", 0, "a" * 64) for index in range(len(NAMES))] + [(3, "bad.png", 1, "b" * 64)]
    one = {"index": 3, "image": "bad.png", "label": 1, "sha256": "b" * 64}
    sidecar = identity.sidecar_of(swept.bins)
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(identity.sealed({**facts, "skipped": [one]})))
    assert swept.evaluate([*swept.scored, "--images_sha256", images_digest(images)]) == 0


def test_bins_of_other_images_are_refused(chain):
    image = chain["digits"].with_suffix("") / "val" / "0.png"
    image.write_text("another")
    seal(image.parents[1], "dataset")
    with pytest.raises(UserError, match=r"shard-0/manifest\.csv: its val/0\.png is not that of .*digits\.json"):
        check_chain(chain.values())
    seal(chain["shard-0"].with_suffix(""), "bins", flags={"drawn": {"images": 1}})  # those may come from elsewhere
    check_chain(chain.values())


def test_results_that_state_nothing_are_scored_as_somebody_elses(swept, load_command):
    report = {key: value for key, value in json.loads(swept.summary_path.read_text()).items() if key != "smlp"}
    swept.summary_path.write_text(json.dumps(report))
    other_output(swept)
    scored = swept.root / "scored.json"
    about = ["--model_label", "mixer", "--backend", "ascend", "--precision", "fp16", "--batchsize", "4"]
    assert swept.evaluate([*swept.scored, *about, "--json", str(scored)]) == 0
    measured = swept.root / "measured.json"
    imported = ["--summary", str(swept.summary_path), *about, "--output", str(measured)]
    assert load_command("measure_import").main(imported) == 0
    engine_id = json.loads(scored.read_text())["engine_id"]
    assert engine_id == identity.digest({"imported": files.digest(swept.summary_path)})
    assert json.loads(measured.read_text())["smlp"]["engine"]["id"] == engine_id


def test_inference_over_a_copy_without_the_sidecar_is_of_the_same_bins(swept, infer):
    copy = shutil.copytree(swept.bins, swept.root / "copy")
    assert infer.main(swept.flags("--input", str(copy), "--outfmt", "NPY")) == 0
    assert swept.evaluate(swept.compared) == 0
    (copy / NAMES[0]).write_bytes((copy / NAMES[1]).read_bytes())
    assert infer.main(swept.flags("--input", str(copy), "--outfmt", "NPY")) == 0
    with pytest.raises(UserError, match="are of other bins than"):
        swept.evaluate(swept.compared)


def test_an_imported_summary_of_ours_states_its_own_engine(swept, load_command):
    measured = swept.root / "measured.json"
    about = ["--model_label", "mixer", "--precision", "fp32", "--batchsize", "4", "--backend", "onnxruntime"]
    assert (
        load_command("measure_import").main(["--summary", str(swept.summary_path), *about, "--output", str(measured)])
        == 0
    )
    stated = json.loads(measured.read_text())["smlp"]
    assert stated["engine"]["id"] == identity.known(swept.engine).id and stated["start"]["id"] == "5" * 64
