"""What the product writes fits a terminal, and a pipe gets plain text."""

import io
import subprocess
import sys

import pytest
from result_files import DECIDED_ACCURACY, DECIDED_THROUGHPUT, ROOT, Sweep, judged, throughput
from rich.cells import cell_len
from rich.console import Console

sys.path.insert(0, str(ROOT / "scripts"))
import show  # noqa: E402

SHOW = ROOT / "scripts" / "show.py"
NAMES = ("answer.md", "accuracy.md", "throughput.md")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The Markdown of a sweep with six batch sizes and seven targets."""
    targets = [
        (backend, precision) for backend in ("onnxruntime", "openvino") for precision in ("fp32", "int8", "bf16")
    ]
    batches = (1, 4, 8, 16, 32, 64)
    accuracies = [judged(*target, batch) for target in targets for batch in batches]
    rates = [
        throughput(*target, batch, 1000.0 + 7.3 * batch + 11.1 * place)
        for place, target in enumerate(targets)
        for batch in batches
    ]
    root = tmp_path_factory.mktemp("shown")
    made = Sweep(root, [*DECIDED_ACCURACY[:2], *accuracies], [*DECIDED_THROUGHPUT[:2], *rates]).make()
    return [made.output / name for name in NAMES]


def shown(path, width, **terminal):
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, **terminal)
    show.show(path.read_text(encoding="utf-8"), console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_every_line_of_a_table_fits(files, width):
    for path in files:
        text = shown(path, width)
        lines = [line for line in text.splitlines() if not line.startswith("    snakemake")]
        assert max(map(cell_len, lines)) <= width
        assert "…" not in text or width < 80


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_lost(files, width):
    for path in files:
        text = shown(path, width)
        cells = [cell.strip() for line in path.read_text().splitlines() if "|" in line for cell in line.split("|")]
        for cell in cells:
            assert set(cell) <= set("-:") or cell in text


def test_names_in_chinese_take_two_columns_a_sign():
    cells = [["engine", "images/s", "top-1"], ["模型" * 10, "1.0", "2.0"]]
    assert show.parts(cells, 57) == [cells] and len(show.parts(cells, 56)) == 2


def test_wide_tables_of_batch_sizes_are_turned(files):
    lines = shown(files[2], 100).splitlines()
    header = next(line for line in lines if line.startswith("batch size:"))
    assert header.split()[2:] == ["1", "4", "8", "16", "32", "64", "best"]
    assert any(line.startswith("batch size  pytorch fp32") for line in shown(files[2], 200).splitlines())


def test_verdicts_have_colours_on_a_terminal_alone(files, monkeypatch):
    assert "\x1b[1;32mpass" in shown(files[1], 100, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = shown(files[1], 100, force_terminal=True)
    assert "\x1b[32" not in coloured and ";32m" not in coloured
    assert "\x1b" not in shown(files[1], 100)


def test_in_a_pipe_it_is_plain_and_a_file_that_is_none_is_named(files, tmp_path):
    done = subprocess.run([sys.executable, SHOW, *files], capture_output=True, text=True, check=True)
    assert "Deploy " in done.stdout and "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "snakemake" not in line) <= 100
    (tmp_path / "codes.md").write_text("- failed: \x1b[2J\x9b2J\n")
    done = subprocess.run([sys.executable, SHOW, tmp_path / "codes.md"], capture_output=True, text=True, check=True)
    assert done.stdout == "  failed: \ufffd[2J\ufffd2J\n\n"
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.md", tmp_path / "binary.md"):
        done = subprocess.run([sys.executable, SHOW, path], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {path}: cannot be read")
        assert done.stderr.count("\n") == 1
