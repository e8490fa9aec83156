"""The command: its files, its flags, the same bytes for the same files."""

import os
import subprocess
import sys

import pytest
from result_files import (
    ACCURACY,
    DECIDED_ACCURACY,
    DECIDED_THROUGHPUT,
    OUTPUTS,
    SCRIPT,
    Sweep,
    assert_refused,
    failure,
    tabulate,
)


def test_everything_is_written(made):
    assert {path.name for path in made.output.iterdir()} == OUTPUTS


def test_the_same_files_give_the_same_bytes(made, tmp_path):
    output = tmp_path / "again"
    flags = [str(output) if flag == str(made.output) else flag for flag in made.flags()]
    # another hash seed, and settings of the user's that must not matter
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 20\n")
    environment = {"PYTHONHASHSEED": "7", "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, SCRIPT, *flags], check=True, capture_output=True, env=environment)
    assert {path.name for path in output.iterdir()} == OUTPUTS
    for path in output.iterdir():
        assert path.read_bytes() == (made.output / path.name).read_bytes(), path.name


def test_the_same_files_give_the_same_bytes_with_every_kind_of_row(tmp_path):
    contents = [*DECIDED_THROUGHPUT, failure("openvino", "bf16", 1), failure("tensorrt", "fp16", 1)]
    made = Sweep(tmp_path, [*DECIDED_ACCURACY, failure("tensorrt", "fp16", 1)], contents).make("--latency_ms_max", 100)
    output = tmp_path / "again"
    flags = [str(output) if flag == str(made.output) else flag for flag in made.flags("--latency_ms_max", 100)]
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    subprocess.run([sys.executable, SCRIPT, *flags], check=True, capture_output=True, env=environment)
    assert {path.name for path in output.iterdir()} == OUTPUTS
    for path in output.iterdir():
        assert path.read_bytes() == (made.output / path.name).read_bytes(), path.name


def test_nothing_measured_still_makes_every_file(tmp_path):
    made = Sweep(tmp_path, ACCURACY, []).make()
    assert {path.name for path in made.output.iterdir()} == OUTPUTS
    assert made.text("throughput.md") == "nothing was measured\n"
    assert made.rows("throughput.csv") == []


def test_print_on_a_terminal_without_the_signs(sweep):
    done = subprocess.run(
        [sys.executable, SCRIPT, *sweep.flags("--print")],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0 and b"## Throughput: smlpnet_tiny" in done.stdout


def test_nothing_to_tabulate_is_refused(tmp_path, capsys):
    assert_refused(Sweep(tmp_path, [], []), capsys, "--accuracy", "--throughput")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--published_name", "cat=smlpnet_tiny"], "no model cat"),
        (["--published", "no.csv"], "no.csv"),
    ],
)
def test_names_that_do_not_exist_are_refused(sweep, flags, named, capsys):
    assert_refused(sweep, capsys, named, flags=flags)


@pytest.mark.parametrize("flags", [["--published_name", "smlpnet_tiny"], ["--output_folder", "x"]])
def test_wrong_usage(sweep, flags, capsys):
    with pytest.raises(SystemExit) as ended:
        tabulate.main(sweep.flags(*flags))
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "soon"])
def test_a_limit_that_is_none_is_wrong_usage(tmp_path, limit):
    flags = Sweep(tmp_path, DECIDED_ACCURACY, DECIDED_THROUGHPUT).flags("--latency_ms_max", limit)
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True)
    assert done.returncode == 2 and "--latency_ms_max" in done.stderr


def test_the_command(sweep):
    done = subprocess.run([sys.executable, SCRIPT, *sweep.flags("--print")], capture_output=True, check=True)
    assert done.stdout.decode() == "\n".join(sweep.text(f"{name}.md") for name in ("answer", "accuracy", "throughput"))
    sweep.files["accuracy"].append(sweep.root / "gone.json")
    failed = subprocess.run([sys.executable, SCRIPT, *sweep.flags()], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("error: ") and "gone.json" in failed.stderr
    assert failed.stderr.count("\n") == 1
