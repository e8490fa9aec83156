"""scripts/compare.py on folders, entries of a history and files: what it says, and its exit status."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from result_files import about
from result_folders import FINGERPRINT, IMAGES, START, Results

from smlp.core import cli
from smlp.results import history
from smlp.results.predictions import Prediction, write_predictions

ROOT = Path(__file__).parents[3]
_SPEC = importlib.util.spec_from_file_location("command_compare", ROOT / "scripts" / "compare.py")
compare = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(compare)


@pytest.fixture
def base(tmp_path):
    return Results(tmp_path / "base" / "results")


@pytest.fixture
def head(tmp_path, base):
    made = Results(tmp_path / "head" / "results")
    return made


def run(capsys, *words):
    status = compare.main(list(map(str, words)))
    return status, capsys.readouterr().out


def row(text, name):
    """The cells of the row of an engine in both tables."""
    lines = [line for line in text.splitlines() if line.startswith("| smlpnet_tiny, " + name)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_same_results_are_the_same(base, head, capsys):
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0 and "Nothing got worse in 4 comparisons." in text
    speed, accuracy = row(text, "onnxruntime")
    assert speed[-1] == "same" and speed[4] == "3 / 3"
    assert accuracy[-1] == "same" and accuracy[4] == "0 / 0"
    assert "What else differs" not in text


def test_a_slower_engine_is_worse(base, head, capsys):
    head.measure("openvino", 46.0)
    status, text = run(capsys, base.folder.parent, head.folder.parent)  # the projects that have the results
    assert status == 1 and "Worse: smlpnet_tiny, openvino fp32, batch size 8 is slower (0.920 (" in text
    assert row(text, "openvino")[0][-1] == "slower" and row(text, "onnxruntime")[0][-1] == "same"
    assert run(capsys, head.folder, base.folder)[0] == 0
    assert run(capsys, base.folder, head.folder, "--margin_percent", "12")[0] == 0


def test_a_lost_point_is_worse(base, head, capsys):
    head.score("onnxruntime", lost=10)
    status, text = run(capsys, base.folder, head.folder, "--output", head.folder / "compared.md")
    assert status == 1 and "onnxruntime fp32, batch size 8 is less accurate (+1.00 points (" in text
    assert row(text, "onnxruntime")[1][3:] == ["+1.00 (+0.54 to +1.83)", "10 / 0", "0.00195", "worse"]
    assert (head.folder / "compared.md").read_text() == text
    assert run(capsys, base.folder, head.folder, "--accept_points", "1")[0] == 0


def test_a_verdict_that_became_fail_is_worse(base, head, capsys):
    head.score("onnxruntime", verdict="fail")
    status, text = run(capsys, base.folder, head.folder)
    assert status == 1 and "its verdict was pass and is fail" in text


def test_what_failed_newly_is_worse_and_what_failed_before_is_not(base, head, capsys):
    head.fail("measure", "openvino")
    status, text = run(capsys, base.folder, head.folder)
    assert status == 1 and "| newly failed " in text and "out of memory" in text
    base.fail("measure", "openvino")
    assert run(capsys, base.folder, head.folder)[0] == 0
    head.measure("openvino", 50.0)
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0 and "failed before, works now" in text


def test_rows_of_one_side_are_listed(base, head, capsys):
    shutil.rmtree(head.folder / "measure/smlpnet_tiny/openvino")
    shutil.rmtree(base.folder / "evaluate/smlpnet_tiny/onnxruntime")
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0
    assert "| missing | throughput of smlpnet_tiny, openvino fp32, batch size 8 " in text
    assert "| new     | accuracy of smlpnet_tiny, onnxruntime fp32, batch size 8 " in text


def test_other_hosts_are_named_and_no_speed_is_judged(base, head, capsys):
    other = {**FINGERPRINT, "host": {"processor": "Testor 8000", "features": ["avx2", "amx"]}}
    head.measure("openvino", 20.0, fingerprint=other)
    status, text = run(capsys, base.folder, head.folder)
    verdict = row(text, "openvino")[0][-1]
    assert status == 0 and verdict.startswith(
        "undecided: measured under other conditions: host.processor: Testor 9000 →"
    )
    assert "host.features: without fma, with amx" in verdict


def test_versions_and_checkpoints_that_changed_are_named(base, head, capsys):
    versions = {**about("openvino", "fp32", 8)["versions"], "openvino": "9.9"}
    head.measure("openvino", 50.0, versions=versions, start={**START, "sha256": "ef" * 32})
    head.score("openvino", start={**START, "sha256": "ef" * 32}, engine_id="other")
    (head.folder / "measure/smlpnet_tiny/onnxruntime/fp32/bs8.json").unlink()
    (head.folder / "evaluate/smlpnet_tiny/onnxruntime/fp32/digits/bs8.json").unlink()
    head.measure("openvino", 50.0, versions=versions, start={**START, "sha256": "ef" * 32}, engine={"id": "other"})
    _, text = run(capsys, base.folder, head.folder)
    assert "openvino: 1.2.3 → 9.9" in text
    assert "another checkpoint or ONNX file (abababababab → efefefefefef)" in text
    assert "2 of 2 rows have another engine" in text


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"loads": (1.0, 1.0)}, "needs 3 loads"),
        ({"emulated": True}, "emulated"),
        ({"batch_checked": False}, "not checked"),
        ({"device": "cuda:0"}, "device cuda:0, before cpu"),
    ],
)
def test_what_cannot_be_judged_says_why(base, head, capsys, more, reason):
    head.measure("openvino", 20.0, **more)
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0 and reason in row(text, "openvino")[0][-1]


def test_unstable_rows_bear_their_mark(base, head, capsys):
    head.measure("openvino", 20.0, stable=False, disturbed="others took 30% of the CPU")
    status, text = run(capsys, base.folder, head.folder)
    assert status == 1 and row(text, "openvino")[0][3].endswith(")*") and "*: a side is unstable" in text


def test_other_images_are_named(base, head, capsys):
    found = [Prediction(number, f"val/{number + 5}.png", number % 10, number % 10, 0) for number in range(IMAGES)]
    write_predictions(head.reference, found)
    head.score("openvino"), head.score("onnxruntime")
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0
    assert (
        "other images: 5 are missing, val/0.png for one; 5 are new, val/1000.png for one"
        in row(text, "openvino")[1][-1]
    )


def test_results_of_earlier_settings_do_not_count(base, head, capsys, tmp_path):
    for side in (base, head):
        side.tabulate(tmp_path / "history")
    for side in (base, head):
        side.measure("tensorrt", 50.0 if side is base else 10.0)  # no table has it
    # and what was measured here before results were imported
    for engine in ("openvino", "onnxruntime"):
        imported = head.folder / "measure/smlpnet_tiny" / engine / "fp32/imported/bs8.json"
        imported.parent.mkdir()
        shutil.copy2(head.folder / f"measure/smlpnet_tiny/{engine}/fp32/bs8.json", imported)
    status, text = run(capsys, base.folder, head.folder)
    assert status == 0 and "tensorrt" not in text


def test_entries_of_a_history(base, head, capsys, tmp_path):
    kept = tmp_path / "history"
    base.tabulate(kept, "--settings", json.dumps({"measure": {"loads": 3}}))
    base.tabulate(kept)  # made again, and no news
    (first,) = history.paths(kept)
    head.measure("openvino", 46.0, started_at="2026-02-02T03:04:05+00:00")
    head.score("onnxruntime", lost=10)
    settings = ("--settings", json.dumps({"measure": {"loads": 4}}))
    page = head.tabulate(kept, *settings)
    assert len(history.paths(kept)) == 2
    expected = (1, ["slower"], ["worse"])
    for one, other in ((first, history.paths(kept)[1]), (first, kept), (first, head.folder), (kept, head.folder)):
        status, text = run(capsys, one, other)
        assert (status, row(text, "openvino")[0][-1:], row(text, "onnxruntime")[1][-1:]) == expected, (one, other)
    assert "measure.loads: 3 → 4" in run(capsys, first, kept)[1]
    assert "<h2>History</h2>" in page and "is slower (0.920 (" in page and "Figures over time" in page
    assert page == head.tabulate(kept, *settings)  # its own entry is not an earlier sweep


def test_the_first_sweep_has_no_section(base, tmp_path):
    assert "<h2>History</h2>" not in base.tabulate(tmp_path / "history")


def test_result_files_alone(base, head, capsys):
    head.measure("openvino", 40.0)
    one, other = (Path(side.files("measure")[1]) for side in (base, head))
    assert run(capsys, one, other)[0] == 1
    status, text = run(capsys, base.files("evaluate")[0], head.files("evaluate")[0])
    assert status == 0 and "no predictions are kept of the base and of the head" in text


@pytest.mark.parametrize(
    ("break_", "named"),
    [
        (lambda head: shutil.rmtree(head.folder), "no such file or folder"),
        (
            lambda head: [shutil.rmtree(head.folder / stage) for stage in ("measure", "evaluate")],
            "no results of a sweep",
        ),
        (lambda head: Path(head.files("measure")[0]).write_text("{"), "is not JSON"),
        (lambda head: head.measure("openvino", 50.0, loads=(1.0, -1.0, 1.0)), "rates_of_loads"),
        (lambda head: head.score("openvino", lost=10, top1=100.0), "flips do not lead"),
    ],
)
def test_broken_input_is_one_line(base, head, capsys, break_, named):
    break_(head)
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda _: compare.main([str(base.folder), str(head.folder)]))
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and out == "" and err.count("\n") == 1 and named in err


def test_nothing_in_common_is_an_error(base, head, capsys):
    for path in head.folder.glob("*/smlpnet_tiny/*/fp32"):
        path.rename(path.with_name("bf16"))
    for path in head.folder.glob("*/**/bs8.json"):
        path.write_text(path.read_text().replace('"fp32"', '"bf16"'))
    with pytest.raises(cli.UserError, match="no row in common"):
        run(capsys, base.folder, head.folder)
