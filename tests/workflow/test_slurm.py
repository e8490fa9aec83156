"""Sweeps on a real Slurm, started for these tests by slurm.sh: the same tables as on one machine, whatever happens."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SLURM = Path(__file__).with_name("slurm.sh")
ROOT = SLURM.parents[2]
WHERE = ("--profile", "profiles/slurm", "--default-resources", "slurm_partition=both")
FLAGS = ("--latency-wait", "10", "--slurm-keep-successful-logs")
SAME = ("**/*.bin", "**/manifest.csv", "infer/**/*.npy", "**/*.onnx", "**/*.pth", "tables/accuracy.*")
# What docs/cluster.md tells users to do after a kill
CANCEL = """squeue --me --noheader --format='%i %Z' | grep -F " $PWD" | cut -d' ' -f1 | xargs -r scancel"""


class Slurm:
    """A running Slurm: `environment` and `prefix` are what its commands need."""

    def __init__(self, folder):
        self.folder = folder
        self.daemons = subprocess.Popen(
            [SLURM, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        self.python = folder / "an environment" / "bin" / "python"  # in a path with a blank
        self.python.parents[1].symlink_to(sys.prefix)
        state, _, detail = self.daemons.stdout.readline().strip().partition(" ")
        if state == "absent":
            pytest.skip(f"no Slurm to run sweeps on: {detail}")
        assert state == "ready", "slurm.sh could not start Slurm; see its output"
        self.environment = {
            "SLURM_CONF": f"{folder}/etc/slurm.conf",
            "PATH": os.pathsep.join([f"{folder}/bin", os.environ["PATH"], "/usr/sbin"]),
        }
        self.prefix = ()
        if detail == "inside":
            pid = self.daemons.pid
            child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
            self.prefix = ("nsenter", "--target", child, "--mount", "--pid", "--net", "--uts", "--ipc", "--wd=.", "--")

    def __call__(self, *command, cwd=None):
        """Output of a command of Slurm."""
        prefix = [word.replace("--wd=.", f"--wd={cwd or '/'}") for word in self.prefix]
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            [*prefix, *command], env=environment, cwd=cwd, timeout=60, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def take(self, project):
        """Let a project's sweeps run here."""
        project.prefix = tuple(word.replace("--wd=.", f"--wd={project.folder}") for word in self.prefix)
        project.environment.update(self.environment, NO_WAITS="")
        project.where = (*WHERE, *FLAGS)
        project.python = str(self.python)
        return project

    def jobs(self, project):
        """Ids of the project's jobs that are in the queue."""
        lines = self("squeue", "--noheader", "--format=%i %Z").splitlines()
        return [line.split()[0] for line in lines if line.partition(" ")[2] == str(project.folder)]

    def ended(self, project):
        """What Slurm wrote down about each job of the project that is over: {id: {key: value}}."""
        lines = (self.folder / "log" / "jobcomp.log").read_text().splitlines()
        jobs = [dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", line)) for line in lines]
        return {job["JobId"]: job for job in jobs if job["WorkDir"] == str(project.folder)}

    def rule(self, project, job):
        """The rule of a job."""
        (log,) = (project.folder / ".snakemake/slurm_logs").rglob(f"{job}.log")
        return log.relative_to(project.folder / ".snakemake/slurm_logs").parts[0].removeprefix("rule_")

    def stop(self):
        """End the daemons and every job."""
        self.daemons.stdin.close()
        try:
            self.daemons.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.daemons.pid, signal.SIGKILL)


def load_cann():
    """The module that emulates an Ascend host."""
    spec = importlib.util.spec_from_file_location("cann", ROOT / "tests" / "ascend" / "cann.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slurm():
    """A Slurm, or a skipped test that says why there is none."""
    # not below pytest's folder, which Slurm's other users may not enter
    folder = Path(tempfile.mkdtemp(prefix="smlp-slurm-"))
    folder.chmod(0o755)
    try:
        cluster = Slurm(folder)
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def on_one_machine(make_project, small):
    """The sweep on one machine."""
    project = make_project(small)
    project.sweep()
    return project


@pytest.fixture(scope="module")
def on_slurm(slurm, make_project, small):
    """The same sweep on Slurm; also what it said."""
    project = slurm.take(make_project(small))
    return project, project.sweep()


def test_a_sweep_gives_the_same_as_on_one_machine(slurm, on_one_machine, on_slurm):
    project, said = on_slurm
    here, there = on_one_machine.contents(*SAME), project.contents(*SAME)
    assert here and sorted(here) == sorted(there)
    assert [path for path in here if here[path] != there[path]] == []
    assert "Using profiles profiles/slurm and workflow specific profile profiles/default" in said
    jobs = slurm.ended(project)
    assert {job["JobState"] for job in jobs.values()} == {"COMPLETED"}
    measured = [job for number, job in jobs.items() if slurm.rule(project, number) == "measure_load"]
    assert [job["ProcCnt"] for job in measured] == ["8", "8"]  # the whole node
    for path in (project.folder / "results/measure").rglob("*.json"):
        assert json.loads(path.read_text())["smlp"]["threads"] == len(os.sched_getaffinity(0))


# what happens to jobs; every time a job of the last stages is held in the middle, and everything but it is done


INFERRED = "results/infer/tiny/onnxruntime/fp32/digits/bs1/shard-0_summary.json"


@pytest.fixture
def last_stages(slurm, on_slurm, new_project):
    """A copy of the finished sweep that lacks what one engine inferred, and all that follows from it."""
    project = slurm.take(new_project(on_slurm[0]))
    (project.folder / INFERRED).unlink()
    shutil.rmtree((project.folder / INFERRED).with_name("shard-0"))
    shutil.rmtree(project.folder / "results/evaluate/tiny/onnxruntime")
    shutil.rmtree(project.folder / "results/tables")
    yield project
    for job in slurm.jobs(project):  # the test has failed
        slurm("scancel", "--signal=KILL", "--full", job)


def assert_as_before(slurm, project, on_one_machine):
    """Everything is there, as on one machine, and nothing of what went wrong."""
    there, here = project.contents(*SAME), on_one_machine.contents(*SAME)
    assert sorted(here) == sorted(there)
    assert [path for path in here if here[path] != there[path]] == []
    assert slurm.jobs(project) == []
    assert project.planned() == {}


def test_a_cancelled_job_is_tried_again(slurm, on_one_machine, last_stages):
    held = last_stages.hold(INFERRED)
    (job,) = slurm.jobs(last_stages)
    slurm("scancel", job)
    status, said = held.wait()
    assert status == 0, said
    assert "SLURM status is: 'CANCELLED'" in said and "Trying to restart" in said
    assert_as_before(slurm, last_stages, on_one_machine)


def test_a_job_that_ran_out_of_time_is_tried_again_with_more(slurm, on_one_machine, last_stages):
    held = last_stages.hold(INFERRED)
    (job,) = slurm.jobs(last_stages)
    assert "TimeLimit=04:00:00" in slurm("scontrol", "show", "job", job)
    # a limit has whole minutes, but may lie in the past; Slurm looks every half minute
    slurm("scontrol", "update", f"JobId={job}", "EndTime=now")
    status, said = held.wait()
    assert status == 0, said
    assert "SLURM status is: 'TIMEOUT'" in said and "Trying to restart" in said
    assert_as_before(slurm, last_stages, on_one_machine)
    assert "480" in [ended["TimeLimit"] for ended in slurm.ended(last_stages).values()]


def test_a_sweep_is_started_again_after_a_kill(slurm, on_one_machine, last_stages):
    """kill -9 of Snakemake leaves its jobs at work; what docs/cluster.md says then, word for word."""
    held = last_stages.hold(INFERRED)
    os.killpg(held.process.pid, signal.SIGKILL)
    held.process.wait()
    assert len(slurm.jobs(last_stages)) == 1
    assert CANCEL in (ROOT / "docs" / "cluster.md").read_text()
    slurm("bash", "-c", CANCEL, cwd=last_stages.folder)
    again = last_stages.snakemake("--unlock")
    assert again.returncode == 0, again.stdout
    last_stages.sweep()
    assert last_stages.scratch() == []
    assert_as_before(slurm, last_stages, on_one_machine)


# what jobs ask for


def test_the_message_of_a_failed_job_is_shown(slurm, last_stages):
    next(last_stages.folder.glob("results/preprocess/digits/test_resnet/shard-0/*.bin")).write_bytes(b"cut off")
    done = last_stages.snakemake(*last_stages.where, "--retries", "0", INFERRED)
    assert done.returncode == 1
    assert re.search(r"^ *error: .*\.bin", done.stdout, re.M), done.stdout


def test_npus_are_asked_for_where_engines_run(slurm, on_slurm, new_project):
    """atc goes to a CPU node; an engine to a node with NPUs, and gets one. All on the emulator."""
    project = slurm.take(new_project(on_slurm[0]))
    cann = load_cann()
    cann.make_cann_tree(project.temporary / "Ascend")
    variables = cann.environment(project.temporary / "Ascend", sourced=False)
    for name in ("PATH", "PYTHONPATH"):
        project.environment[name] = os.pathsep.join([project.environment[name], variables.pop(name)])
    project.environment = {**variables, **project.environment}
    ascend = {"soc_version": "Ascend310P3", "python": sys.executable}
    ascend["set_env"] = str(project.temporary / "Ascend/ascend-toolkit/set_env.sh")
    targets = [{"backend": "ascend", "precision": "fp16"}]
    project.configure({**project.settings, "targets": targets, "backends": {"ascend": ascend}})
    project.where = ("--profile", "profiles/slurm", "--profile", "profiles/slurm-npu", *FLAGS)

    held = project.hold("results/infer/tiny/ascend/fp16/digits/bs1/shard-0", "infer")
    (job,) = slurm.jobs(project)
    asked = slurm("scontrol", "show", "job", job)
    assert "Partition=npu" in asked and "TresPerNode=gres:npu:1" in asked
    status, said = held.release()
    assert status == 0, said
    record = slurm.ended(project)
    assert {slurm.rule(project, job): ended["Partition"] for job, ended in record.items()} == {
        "compile_ascend": "cpu",
        "infer_shard": "npu",
    }


def test_a_scheduler_without_a_plugin(slurm, on_one_machine, last_stages):
    last_stages.where = ("--profile", "profiles/cluster-generic")
    held = last_stages.hold(INFERRED, INFERRED)
    (job,) = slurm.jobs(last_stages)
    slurm("scancel", job)
    status, said = held.wait()
    assert status == 0 and "Trying to restart" in said, said
    pattern = "infer/**/*.npy"
    assert last_stages.contents(pattern) == on_one_machine.contents(pattern)
