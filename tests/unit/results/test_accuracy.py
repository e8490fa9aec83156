"""The accuracy table and the changed predictions."""

from result_files import COMPARED, Sweep, accuracy, dicts, failure, judged

from smlp.results import reader
from smlp.results.accuracy import make_accuracy, make_accuracy_tables


def accuracy_table(sweep, reference=("pytorch", "fp32")):
    return make_accuracy(reader.read_accuracy(sweep.files["accuracy"]), reader.Target(*reference), {})


def test_accuracy_rows(made):
    rows = made.rows("accuracy.csv")
    names = [(row["backend"], row["precision"], row["batch"]) for row in rows]
    assert names == [
        ("pytorch", "fp32", "1"),
        ("onnxruntime", "fp32", "1"),
        ("onnxruntime", "fp32", "8"),
        ("openvino", "int8", "1"),
        ("ascend", "fp16", "8"),
    ]
    assert [row["is_reference"] for row in rows] == ["true", "false", "false", "false", "false"]
    assert rows[1]["top1_percent"] == "81.7" and rows[1]["drop_points"] == "0.2" and rows[1]["mcnemar_p"] == "0.625"
    assert rows[0]["agreement_percent"] == "" and rows[0]["verdict"] == ""
    assert rows[3]["failed"] == "no calibration images" and rows[3]["top1_percent"] == ""
    assert rows[4]["emulated"] == "true"


def test_accuracy_table(made):
    text = made.text("accuracy.md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1  # aligned, readable as plain text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["engine", "batch size", "top-1 (%)", "drop (points)", "flips", "verdict"]
    assert cells[2:] == [
        ["pytorch fp32", "1", "81.70 (79.20 to 83.98)", "–", "–", "reference"],
        ["onnxruntime fp32", "1–8", "81.70 (79.20 to 83.98)", "+0.20 (-0.25 to +0.83)", "3 / 1", "pass"],
        ["openvino int8", "1", "failed [1]", "–", "–", "–"],
        ["ascend fp16 (emulated)", "8", "81.70 (79.20 to 83.98)", "+0.20 (-0.25 to +0.83)", "3 / 1", "undecided"],
    ]
    assert "## Accuracy: smlpnet_tiny, 1,000 images\n" in text
    assert "- [1] openvino int8, batch size 1: no calibration images\n" in text
    assert "1.0 points" in text and "- (emulated): an emulator stood in" in text


def test_batch_sizes_that_differ_are_rows_of_their_own(tmp_path):
    batches = (1, 4, 8, 16)
    contents = [judged("onnxruntime", "int8", batch, top5=95.8 if batch != 8 else 95.7) for batch in batches]
    (table,) = make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))
    assert [row[1] for row in table.rows] == ["1, 4, 16", "8"]
    contents = [judged("onnxruntime", "int8", batch) for batch in batches]
    (table,) = make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))
    assert [row[1] for row in table.rows] == ["1–16"]


def test_another_reference(sweep):
    marks = [row["is_reference"] for row in dicts(accuracy_table(sweep, ("onnxruntime", "fp32")))]
    assert marks == [False, True, True, False, False]


def test_another_batch_size_of_the_reference_that_loses_accuracy_is_shown_with_its_verdict(tmp_path):
    contents = [judged("pytorch", "fp32", 8), judged("pytorch", "fp32", 1, "fail"), failure("pytorch", "fp32", 64)]
    found = accuracy_table(Sweep(tmp_path, contents, []))
    assert {row["batch"]: row["is_reference"] for row in dicts(found)} == {8: True, 1: False, 64: False}
    (table,) = make_accuracy_tables(found)
    verdicts = {row[table.header.index("batch size")]: row[-1] for row in table.rows}
    assert verdicts == {"8": "reference", "1": "fail", "64": "–"}


def test_what_cannot_be_judged_says_why_in_a_note(tmp_path):
    chance = {"verdict": None, "verdict_reason": "the reference is too close to guessing"}
    apart = {"verdict": "fail", "verdict_reason": "only 12 % agree"}
    contents = [
        judged("pytorch", "fp32", 8, **chance),
        judged("onnxruntime", "fp32", 8, **chance),
        judged("openvino", "int8", 8, **apart),
    ]
    (table,) = make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))
    assert [row[-1] for row in table.rows] == ["reference [1]", "none [1]", "fail [2]"]
    assert table.notes[:2] == [
        "[1] the reference is too close to guessing",
        "[2] openvino int8, batch size 8: only 12 % agree",
    ]


def test_skipped_images_show(tmp_path):
    found = accuracy_table(Sweep(tmp_path, [accuracy("pytorch", "fp32", 1, skipped=7)], []))
    (table,) = make_accuracy_tables(found)
    assert table.rows[0][table.header.index("skipped")] == "7"
    found["skipped"] = 0
    assert "skipped" not in make_accuracy_tables(found)[0].header


def test_images_of_some_of_the_classes_say_so_once_a_model(tmp_path):
    contents = [accuracy("pytorch", "fp32", batch, num_classes=1000, classes_scored=10) for batch in (1, 8)]
    (table,) = make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))
    assert table.notes.count("smlpnet_tiny: the images are of 10 of 1,000 classes.") == 1
    contents = [accuracy("pytorch", "fp32", 1, classes_scored=10), accuracy("pytorch", "fp32", 8)]
    assert "classes." not in str(make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))[0].notes)


def test_a_part_of_the_images_says_so(tmp_path):
    contents = [accuracy("pytorch", "fp32", 1, images_of=50_000), accuracy("onnxruntime", "fp32", 1)]
    (table,) = make_accuracy_tables(accuracy_table(Sweep(tmp_path, contents, [])))
    assert [row[table.header.index("images")] for row in table.rows] == ["1,000 of 50,000", "1,000"]


def test_flips(made):
    rows = made.rows("flips.csv")
    assert len(rows) == 3
    assert rows[0] == {
        "model": "smlpnet_tiny",
        "backend": "onnxruntime",
        "precision": "fp32",
        "variant": "",
        "batch": "1",
        "kind": "right_to_wrong",
        "image": "a/<b>.JPEG",
        "label": "3",
        "reference": "3",
        "predicted": "8",
    }


def test_the_name_of_an_image_may_have_bytes_that_are_no_text(tmp_path):
    """A Latin-1 name, as Python reads it from the disk."""
    flips = [{**COMPARED["flips"][0], "image": "caf\udce9.JPEG"}]
    made = Sweep(tmp_path, [judged("openvino", "fp32", 1, flips=flips, model="caf\udce9")], []).make()
    (row,) = made.rows("flips.csv")
    assert (row["image"], row["model"]) == ("caf\\udce9.JPEG", "caf\\udce9")
    assert "caf\\udce9.JPEG" in made.text("report.html")
