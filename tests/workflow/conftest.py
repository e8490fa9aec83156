"""Whole sweeps, run as a user runs them: by Snakemake, in a copy of the product, under a path with a blank."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("Snakefile", "config.yaml", "envs", "profiles", "resources", "rules", "scripts")
INTERPRETER = Path(__file__).parent / "interpreter"
FORKS = Path(__file__).with_name("forkserver.py")
# Far more than anything here takes, so that what hangs fails.
DEADLINE_S = 600

# A demo of seconds: two targets, two batch sizes, three shards of eight images.
DEMO = {
    "models": {"tiny": {"model_name": "test_resnet", "checkpoint": "demo"}},
    "dataset": {"name": "digits", "demo": {"train_images": 20, "val_images": 24}, "shards": 3},
    "targets": [{"backend": "pytorch", "precision": "fp32"}, {"backend": "onnxruntime", "precision": "fp32"}],
    "batch_sizes": [1, 4],
    "ceilings": {"measure": False},
    "measure": {
        "loads": 1,
        "retry_max_s": 0,
        "min_time_s": 0.01,
        "min_runs": 3,
        "warmup_window_s": 0.001,
        "warmup_max_s": 0.01,
    },
    "confirm": {"best": False},
    "profile": {"best": False},
}
# Somebody's own checkpoint and images, one of which is cut off; the reference is the first target's run.
USERS = {
    **DEMO,
    "models": {"mine": {"model_name": "test_resnet", "checkpoint": "my weights/tiny.pth"}},
    "dataset": {"name": "photos", "root": "my images", "shards": 3, "on_bad_image": "skip"},
    "batch_sizes": [1],
    "accuracy": {"reference_batch_size": 1},
}
TRUNCATED = "val/3_three/val_00000013.JPEG"


def copy_product(folder):
    """Everything of the product that a sweep needs, in a new folder."""
    folder.mkdir()
    for name in PRODUCT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)


class Project:
    """A copy of the product, with settings of its own."""

    def __init__(self, folder):
        self.folder = folder
        # Also for device locks: one folder for each project, so that none waits for another.
        self.temporary = folder.with_name(folder.name + " tmp")
        self.temporary.mkdir()
        self.held = None
        # how Snakemake is started, by which interpreter (see forking_python), and told where to run jobs
        self.prefix = ()
        self.python = sys.executable
        self.where = ("--cores", "2")
        own = dict.fromkeys(("TMPDIR", "SMLP_LOCK_DIR"), str(self.temporary))
        self.environment = {**os.environ, **own, "PYTHONPATH": str(INTERPRETER)}

    def configure(self, settings, file="config.yaml"):
        """Write a configuration file."""
        (self.folder / file).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    @property
    def settings(self):
        """What config.yaml says."""
        return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))

    def snakemake(self, *flags, cwd=None, prefix=()):
        """Run Snakemake to its end; its stdout and stderr come together, as on a terminal."""
        # what runs in a world of its own is no fork
        python = sys.executable if prefix else self.python
        return subprocess.run(
            [*self.prefix, *prefix, python, "-m", "snakemake", *flags],
            cwd=cwd or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
        )

    def sweep(self, *targets):
        """Run a sweep that must end well; returns what Snakemake printed."""
        done = self.snakemake(*self.where, *targets)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *targets):
        """What a run would do now: {rule: number of jobs}, without the targets that only name files."""
        done = self.snakemake("--cores", "2", "--dry-run", "--quiet=rules", *targets)
        assert done.returncode == 0, done.stdout
        head, _, rest = done.stdout.partition("Job stats:\n")
        if not rest:
            assert "Nothing to be done" in head
            return {}
        lines = rest.partition("\n\n")[0].splitlines()[2:]
        counts = {rule: int(count) for rule, count in (line.split() for line in lines)}
        assert counts.pop("total") == sum(counts.values())
        return {rule: count for rule, count in counts.items() if rule == "tabulate" or rule not in ("all", *targets)}

    def hold(self, path, *targets):
        """Start a sweep, and return as soon as one of its commands is about to give `path` its name."""
        self.held = Held(self, targets, HOLD_BEFORE=str(self.folder / path))
        return self.held

    def hold_opening(self, path, *targets):
        """As `hold`, when a command is about to open `path`; "lock": to wait for the lock of a device."""
        self.held = Held(self, targets, HOLD_OPENING=path if path == "lock" else str(self.folder / path))
        return self.held

    def processes(self):
        """Ids of living processes that work in this project's folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").resolve(strict=True) == self.folder:
                    found.append(int(process.name))
            except OSError:  # it ended, or is another user's
                continue
        return found

    def contents(self, *patterns):
        """{path: bytes} of the files below results/ that match, without Snakemake's time stamps."""
        paths = [path for pattern in patterns for path in (self.folder / "results").glob(pattern) if path.is_file()]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in paths
            if path.name != ".snakemake_timestamp"
        }

    def scratch(self):
        """What commands leave only when they are killed."""
        found = [*(self.folder / "results").rglob("*.partial"), *(self.folder / "results").rglob("*.download*")]
        return sorted(str(path.relative_to(self.folder)) for path in found)


class Held:
    """A running sweep, one of whose commands stands still."""

    def __init__(self, project, targets, **what):
        self.project = project
        self.pipes = project.temporary / "pipes"
        self.pipes.mkdir()
        for name in ("reached", "go"):
            os.mkfifo(self.pipes / name)
        environment = {**what, "HOLD_PIPES": str(self.pipes)}
        self.output = project.temporary / "output.txt"
        reached = os.open(self.pipes / "reached", os.O_RDONLY | os.O_NONBLOCK)
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                # forks would not be in the process group
                [*project.prefix, sys.executable, "-m", "snakemake", *project.where, *targets],
                cwd=project.folder,
                env={**project.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ended = os.pidfd_open(self.process.pid)
        ready, _, _ = select.select([reached, ended], [], [], DEADLINE_S)
        os.close(ended)
        os.close(reached)
        if ended in ready or not ready:
            self.kill()
            pytest.fail(f"nothing was held at {what}:\n{self.output.read_text()}")

    def release(self):
        """Let the command go on, and wait for the end of the sweep; returns (exit status, output)."""
        self.go()
        return self.wait()

    def go(self):
        """Let the command go on."""
        with open(self.pipes / "go", "w"):
            pass

    def wait(self):
        """Wait for the end of a sweep that nobody stops any more; returns (exit status, output)."""
        status = self.process.wait(DEADLINE_S)
        shutil.rmtree(self.pipes)
        return status, self.output.read_text()

    def kill(self):
        """kill -9 of Snakemake and everything that it has started."""
        descriptors = []
        for pid in self.project.processes():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                descriptors.append(os.pidfd_open(pid))
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in descriptors:  # each gets ready when its process has ended
            assert select.select([descriptor], [], [], DEADLINE_S)[0]
            os.close(descriptor)
        assert self.project.processes() == []
        shutil.rmtree(self.pipes)


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory):
    """What is called in place of Python and has imported everything already: see forkserver.py."""
    folder = tmp_path_factory.mktemp("forks")
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen([sys.executable, FORKS, folder], cwd=folder, stdout=log, stderr=log)
    while not (folder / "python").exists():
        assert server.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.1)
    yield str(folder / "python")
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def small():
    """The demo's settings with as few jobs as have every stage."""
    dataset = {**DEMO["dataset"], "shards": 1}
    return {**DEMO, "dataset": dataset, "batch_sizes": [1], "accuracy": {"reference_batch_size": 1}}


@pytest.fixture(scope="session")
def make_project(tmp_path_factory, forking_python):
    """A function: settings, or a project to copy with its results and the times of its files -> a new project."""

    def make(start):
        folder = tmp_path_factory.mktemp("workflow") / "a sweep"
        is_copy = isinstance(start, Project)
        if is_copy:
            shutil.copytree(start.folder, folder, symlinks=True)
        else:
            copy_product(folder)
        project = Project(folder)
        project.python = forking_python
        if not is_copy:
            project.configure(start)
        return project

    return make


@pytest.fixture
def new_project(make_project, request):
    """A function: as make_project, but the project goes with the test.

    A module that says PLAIN_PYTHON = True has its sweeps run by a Python as users have it.
    """
    made = []

    def make(start):
        made.append(make_project(start))
        if getattr(request.module, "PLAIN_PYTHON", False):
            made[-1].python = sys.executable
        return made[-1]

    yield make
    for project in made:
        if project.held and project.held.process.poll() is None:  # the test has failed
            project.held.kill()
        shutil.rmtree(project.folder.parent, ignore_errors=True)


@pytest.fixture
def demo(new_project):
    """A project with the demo's settings, and nothing done."""
    return new_project(DEMO)


@pytest.fixture(scope="session")
def finished_demo(make_project):
    """The demo's sweep, finished. Not to be changed: see demo_sweep."""
    project = make_project(DEMO)
    project.sweep()
    return project


@pytest.fixture
def demo_sweep(finished_demo, new_project):
    """A copy of the finished sweep of the demo."""
    return new_project(finished_demo)


@pytest.fixture(scope="session")
def finished_users(make_project, finished_demo):
    """A sweep of somebody's own checkpoint and images, finished. Not to be changed: see users_sweep."""
    project = make_project(USERS)
    retrieved = finished_demo.folder / "results" / "retrieve"
    shutil.copytree(retrieved / "digits" / "val", project.folder / "my images" / "val")
    (project.folder / "my weights").mkdir()
    shutil.copy2(retrieved / "tiny" / "checkpoint.pth", project.folder / "my weights" / "tiny.pth")
    bad = project.folder / "my images" / TRUNCATED
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    project.sweep()
    return project


@pytest.fixture
def users_sweep(finished_users, new_project):
    """A copy of the finished sweep of somebody's own files."""
    return new_project(finished_users)
