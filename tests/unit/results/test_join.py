"""An accuracy and a throughput belong together if they are of one engine, whatever they are called."""

import json

import numpy as np
import pytest
from result_files import Sweep, accuracy, assert_refused, judged, tabulate, throughput

from smlp.core import cli, files, identity
from smlp.results import reader
from smlp.results.accuracy import make_accuracy
from smlp.results.columns import rows
from smlp.results.decision import make_decision
from smlp.results.throughput import make_throughput

ONE, OTHER = ("1" * 64, "2" * 64)
START, OTHER_START = ({"id": digit * 64, "sha256": digit * 64, "md5": digit * 32} for digit in "34")


def scored(batch=8, **more):
    return judged("openvino", "int8", batch, **{"engine_id": ONE, **more})


def measured(batch=8, engine_id=ONE, **more):
    return throughput("openvino", "int8", batch, 80.0, engine={"path": "bs.xml", "id": engine_id}, **more)


def verdicts(root, accuracies, throughputs):
    sweep = Sweep(root, accuracies, throughputs)
    reference = reader.Target("pytorch", "fp32")
    found = make_decision(
        "smlpnet_tiny",
        make_throughput(reader.read_throughput(sweep.files["throughput"])),
        make_accuracy(reader.read_accuracy(sweep.files["accuracy"]), reference, {}),
        reference,
    )
    return [(row.batch, row.verdict) for row in rows(found)]


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([scored()], "pass"),
        ([scored(model="another name", variant="v")], "pass"),  # the same engine under another name
        ([scored(engine_id=OTHER, variant="v")], None),
        ([scored(engine_id=OTHER, variant="v"), scored(variant="w")], "pass"),
        ([scored(batch=4)], None),  # the same file at another batch size
        ([scored(engine_id=None)], "pass"),  # nobody told, so the names count
        ([scored(variant="v", verdict="fail"), scored()], "pass"),  # of two names of one engine its own
    ],
)
def test_rows_are_joined_by_engine_and_batch_size(tmp_path, accuracies, verdict):
    batch = 8 if verdict else None
    assert verdicts(tmp_path, accuracies, [measured()]) == [(batch, verdict)]


def test_a_throughput_that_states_no_engine_is_joined_by_its_names(tmp_path):
    assert verdicts(tmp_path, [scored()], [measured(engine_id=None)]) == [(8, "pass")]


def test_another_engine_of_the_same_name_is_refused(tmp_path, capsys):
    sweep = Sweep(tmp_path, [scored()], [measured(engine_id=OTHER)])
    named = (
        "throughput-0.json",
        "another engine than",
        "accuracy-0.json",
        "openvino int8, batch size 8",
        "run the older",
    )
    assert_refused(sweep, capsys, *named)


def test_accuracies_of_one_model_have_one_reference(tmp_path, capsys):
    references = [scored(reference_id=ONE), scored(4, reference_id=None), scored(2, reference_id=OTHER)]
    assert_refused(Sweep(tmp_path, references, []), capsys, "accuracy-2.json", "another reference", "accuracy-0.json")


def test_all_of_one_model_started_from_one_file(tmp_path, capsys):
    told = [scored(start=START), scored(4, start=None), accuracy("pytorch", "fp32", 1, start=START)]
    Sweep(tmp_path, [*told, scored(model="resnet18", start=OTHER_START)], [measured(start=START)]).make()
    (tmp_path / "other").mkdir()
    sweep = Sweep(tmp_path / "other", told, [measured(2, start=OTHER_START)])
    assert_refused(sweep, capsys, "throughput-0.json", "another checkpoint or ONNX file than", "accuracy-0.json")


def sealed(content, kind, contents=()):
    """The content with an identity, as the commands write it."""
    facts = content.get("smlp", content)
    facts = identity.sealed({**facts, **identity.state(kind, dict(contents))})
    return {**content, "smlp": facts} if "smlp" in content else facts


@pytest.fixture
def honest(tmp_path):
    """A sweep of one sealed accuracy and one sealed throughput with its latencies."""
    np.save(tmp_path / "throughput-0.npy", np.ones((3, 2)))
    latencies = {".npy": files.digest(tmp_path / "throughput-0.npy")}
    return Sweep(tmp_path, [sealed(scored(), "accuracy")], [sealed(measured(), "measurement", latencies)])


def test_sealed_files_make_tables(honest):
    honest.make()
    assert [row["engine_id"] for name in ("accuracy", "throughput") for row in honest.rows(f"{name}.csv")] == [ONE] * 2
    honest.files["throughput"][0].with_suffix(".npy").unlink()  # the tables do not need it
    honest.make()


@pytest.mark.parametrize("stage", ["accuracy", "throughput"])
def test_an_edited_file_is_refused(honest, capsys, stage):
    (path,) = honest.files[stage]
    content = json.loads(path.read_text())
    content.get("smlp", content)["top1" if stage == "accuracy" else "images_per_s"] = 99.0
    path.write_text(json.dumps(content))
    assert_refused(honest, capsys, f"{stage}-0.json: is not as it was written")


def test_a_failure_that_nobody_wrote_is_refused(honest, capsys):
    (path,) = honest.files["throughput"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "failed": "no memory"}))
    assert_refused(honest, capsys, "throughput-0.json: is not as it was written, failed is 'no memory'")


def test_latencies_of_another_measurement_are_refused(honest, capsys):
    np.save(honest.files["throughput"][0].with_suffix(".npy"), np.zeros((3, 2)))
    assert_refused(honest, capsys, "throughput-0.npy: is not the file that")


def test_the_tables_of_unidentified_files_stay_as_they_are(tmp_path):
    sweep = Sweep(tmp_path, [scored(engine_id=None)], [measured(engine_id=None)]).make()
    assert "openvino" in sweep.text("throughput.md") and sweep.rows("accuracy.csv")[0]["engine_id"] == ""
    with pytest.raises(cli.UserError, match="nothing to tabulate"):
        tabulate.main(["--output_dir", str(tmp_path / "none")])
