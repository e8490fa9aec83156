"""make clean-<stage>: what goes, and what Snakemake makes again."""

import shutil
import subprocess
from pathlib import Path

import pytest

from smlp.workflow import plan

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"

EVERYTHING = {"retrieve", "export", "compile", "preprocess", "infer", "evaluate", "measure", "tables"}


def make(project, *targets):
    shutil.copy2(MAKEFILE, project.folder)
    return subprocess.run(["make", *targets], cwd=project.folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("preprocess", {"preprocess_shard": 3}),
        ("compile", {"compile_onnxruntime": 2}),
        ("tabulate", {"tabulate": 1}),
    ],
)
def test_a_stage_is_removed_and_made_again_only_if_asked_for(demo_sweep, stage, again):
    done = make(demo_sweep, f"clean-{stage}")
    assert done.returncode == 0, done.stderr
    left = {path.name for path in (demo_sweep.folder / "results").iterdir()} - {"logs", "benchmarks", ".watched"}
    assert left - {"history"} == EVERYTHING - {"tables" if stage == "tabulate" else stage}
    for place in ("logs", "benchmarks"):
        assert not list((demo_sweep.folder / "results" / place).glob(f"{stage}*"))
    assert demo_sweep.planned() == (again if stage == "tabulate" else {})
    assert demo_sweep.planned(stage) == again


@pytest.mark.parametrize("stage", plan.STAGES)
def test_every_stage_can_be_removed(tmp_path, stage):
    (tmp_path / "rules").mkdir()
    (tmp_path / f"rules/{stage}.smk").touch()
    shutil.copy2(MAKEFILE, tmp_path)
    done = subprocess.run(["make", "-n", f"clean-{stage}"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"results/{'tables' if stage == 'tabulate' else stage} " in done.stdout


def test_an_unknown_stage_removes_nothing(demo_sweep):
    before = demo_sweep.contents("**/*")
    done = make(demo_sweep, "clean-infr")
    assert done.returncode != 0 and "error: no stage infr; one of ceilings compile" in done.stderr
    assert demo_sweep.contents("**/*") == before


def test_what_clean_leaves(new_project, small):
    """Only the history, which nothing can make again."""
    project = new_project(small)
    for name in ("measure/tiny", "history/predictions", "tables"):
        (project.folder / "results" / name).mkdir(parents=True)
    assert make(project, "clean").returncode == 0
    assert [path.name for path in (project.folder / "results").iterdir()] == ["history"]
    shutil.rmtree(project.folder / "results" / "history")
    assert make(project, "clean").returncode == 0 and not (project.folder / "results").exists()
