"""What a killed run left behind: found, told from what is alive, and explained by doctor with what mends it."""

import base64
import fcntl
import os
import subprocess
import sys

import pytest

from smlp.workflow import leftovers

# Says that it is there, and stands still until its standard input is closed.
_WAIT = "import sys\nprint('here', flush=True)\nsys.stdin.read()\n"


@pytest.fixture
def folder(tmp_path):
    """A sweep's folder, with commands that wait."""
    folder = tmp_path / "a sweep"
    (folder / "scripts").mkdir(parents=True)
    for name in ("infer", "measure", "share"):
        (folder / "scripts" / f"{name}.py").write_text(_WAIT)
    return folder


@pytest.fixture
def start(folder):
    """A function that starts a command in the folder and returns when it runs; it ends with the test."""
    started = []

    def run(*command, **environment):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "SLURM_JOB_ID"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout.readline() == b"here\n"
        return process

    yield run
    for process in started:
        process.communicate()


def found_orphans(folder):
    return sorted(leftovers.orphans(leftovers.processes(folder)).values())


def test_a_job_has_the_name_of_the_command_that_it_is_for(folder, start):
    start("bash", "-c", f"'{sys.executable}' scripts/share.py --key x -- python scripts/compile.py; true")
    assert found_orphans(folder) == ["compile"]


def test_a_job_whose_snakemake_is_gone_is_an_orphan(folder, start):
    assert found_orphans(folder) == []
    job = start(sys.executable, "scripts/infer.py", "--model", "x")
    assert {process.pid: name for process, name in leftovers.orphans(leftovers.processes(folder)).items()} == {
        job.pid: "infer"
    }
    assert leftovers.runs(leftovers.processes(folder)) == []
    assert found_orphans(folder.parent) == []


def test_a_jobs_shell_and_its_command_are_one(folder, start):
    shell = start("bash", "-c", f"'{sys.executable}' scripts/infer.py --model x; true")
    assert [process.pid for process in leftovers.jobs(leftovers.processes(folder))] == [shell.pid]


def test_a_job_that_somebody_in_the_folder_started_is_none(folder, start):
    for words in (["-"], ["snakemake"]):
        code = f"import subprocess, sys; subprocess.run([{sys.executable!r}, 'scripts/measure.py'])"
        start(sys.executable, "-c", code, *words)
    processes = leftovers.processes(folder)
    assert sorted(leftovers.jobs(processes).values()) == ["measure", "measure"]
    assert found_orphans(folder) == []
    assert len(leftovers.runs(processes)) == 1


def test_a_clusters_job_is_an_orphan_only_without_a_snakemake(folder, start, command):
    start(sys.executable, "scripts/infer.py", SLURM_JOB_ID="17")
    assert found_orphans(folder) == ["infer"]
    said = command("doctor", "--folder", folder).stdout
    assert "infer runs on" in said and "scancel 17" in said
    start(sys.executable, "-c", _WAIT, "snakemake")
    assert found_orphans(folder) == []


def mark(folder, path, length=200):
    """As Snakemake marks an output that is being made."""
    encoded = base64.urlsafe_b64encode(path.encode()).decode()
    pieces = [encoded[start : start + length] for start in range(0, len(encoded), length)]
    file = folder.joinpath(".snakemake", "incomplete", *(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_marks_of_incomplete_outputs(folder):
    assert leftovers.incomplete(folder) == []
    long = "results/infer/" + "a" * 300 + "/shard-1"
    mark(folder, "results/tables/ü.csv")
    mark(folder, long)
    (folder / ".snakemake" / "incomplete" / "no mark").touch()
    assert leftovers.incomplete(folder) == [long, "results/tables/ü.csv"]


def test_scratch_folders_are_left_over_unless_somebody_holds_them(folder):
    stale, held = (folder / "results" / "infer" / f".shard-{number}.abc.partial" for number in (0, 1))
    for scratch in (stale, held):
        scratch.mkdir(parents=True)
        (scratch / "x").touch()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert leftovers.half_written(folder) == [stale]
    os.close(lock)
    assert leftovers.half_written(folder) == [stale, held]


def test_disk_use_is_of_files_largest_stage_first(folder):
    assert leftovers.disk_use(folder / "results") == {}
    for stage, sizes in {"infer": [3], "preprocess": [10_000, 5]}.items():
        for number, size in enumerate(sizes):
            path = folder / "results" / stage / str(number) / "file"
            path.parent.mkdir(parents=True)
            path.write_bytes(bytes(size))
    (folder / "results" / "infer" / "link").symlink_to(folder)
    use = leftovers.disk_use(folder / "results")
    assert list(use) == ["preprocess", "infer"]
    assert use["preprocess"] == (10_005, 2) and use["infer"][1] == 2


def test_doctor_explains_each_with_what_mends_it(folder, start, command):
    said = command("doctor", "--folder", folder).stdout
    assert "results" in said and "none yet" in said
    assert not any(word in said for word in ("unlock", "incomplete", "half-written", "orphan"))

    (folder / ".snakemake" / "locks").mkdir(parents=True)
    (folder / ".snakemake" / "locks" / "0.input.lock").touch()
    mark(folder, "results/infer/x/shard-0")
    scratch = folder / "results" / "infer" / "x" / ".shard-0.abc.partial"
    scratch.mkdir(parents=True)
    job = start(sys.executable, "scripts/infer.py")
    lines = {line[8:].split()[0]: line for line in command("doctor", "--folder", folder).stdout.splitlines() if line}
    assert all(lines[what].startswith("note") for what in ("lock", "incomplete", "half-written", "orphan"))
    assert "snakemake --unlock" in lines["lock"]
    assert "results/infer/x/shard-0 was being made" in lines["incomplete"]
    assert f"rm -r '{scratch}'" in lines["half-written"]
    assert f"kill {job.pid}" in lines["orphan"]
    assert "infer 0.0 MB in 0 files" in lines["results"] and "make clean-<stage>" in lines["results"]

    start(sys.executable, "-c", _WAIT, "snakemake")
    said = command("doctor", "--folder", folder).stdout
    assert "sweep" in said and "running, process" in said and "unlock" not in said
