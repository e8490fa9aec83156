"""The table of docs/from-the-guide.md, run: a checkpoint and some images become tables, whose columns are explained."""

import shlex
import shutil

import numpy as np
import pytest
from pages import ROOT, commands
from PIL import Image

PAGE = ROOT / "docs" / "from-the-guide.md"
# A small model stands for the guide's. What a reader's own run would need besides, or would take minutes for.
MODEL = ("smlpnet_tiny", "test_resnet")
ALSO = {
    "preprocess": ["--model_name", MODEL[1], "--workers", "1"],
    "measure": [
        "--retry_max_s=0",
        "--min_time_s=0.01",
        "--min_runs=3",
        "--warmup_window_s=0.001",
        "--warmup_max_s=0.01",
    ],
}
# What makes what the next one reads; the page lists `retrieve` last.
ORDER = ("retrieve", "export", "compile", "preprocess", "infer", "evaluate", "measure", "tabulate", "normalise")


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    """An empty folder to work in but for imagenet/val, with as many images as classes of the model."""
    for label in range(tiny.classes):
        path = tmp_path / "imagenet" / "val" / f"n{label}" / "0.JPEG"
        path.parent.mkdir(parents=True)
        pixels = np.random.default_rng(label).integers(0, 256, (200, 180, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG")
    shutil.copy2(tiny.pth, tmp_path / "theirs.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(line, checksum):
    """A command of the page as (name of the script, flags) for this small model."""
    script, *flags = shlex.split(line.replace(*MODEL).replace("URL", "theirs.pth"))[1:]
    if "--md5" in flags:
        flags[flags.index("--md5") + 1] = checksum
    name = script.removeprefix("scripts/").removesuffix(".py")
    return name, flags + ALSO.get(name, [])


def test_the_commands_lead_from_a_checkpoint_to_explained_tables(folder, tiny, load_command):
    from smlp.core import files

    lines = [line for line in commands(PAGE) if line.startswith("python scripts/") and "ascend" not in line]
    runs = [words_of(line, files.digest(tiny.pth, "md5")) for line in lines if "--help" not in line]
    assert sorted(name for name, _ in runs) == sorted(ORDER), "teach tests/docs the order of the new command"
    for name, flags in sorted(runs, key=lambda run: ORDER.index(run[0])):
        assert load_command(name).main(flags) == 0, (name, flags)
    tables = {path.name: path.read_text().splitlines() for path in (folder / "tables").glob("*.csv")}
    assert len(tables["accuracy.csv"]) == len(tables["throughput.csv"]) == 2  # a header and one row
    explained = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    for name, lines in tables.items():
        columns = lines[0].split(",")
        assert [column for column in columns if f"`{column}`" not in explained] == [], f"{name}: docs/tables.md lacks"
