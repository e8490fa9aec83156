"""After any edit the tables of a sweep are those of a sweep from scratch, byte for byte.

Edits are drawn from a seed. SMLP_EDITS says how many (200 take a quarter of an hour), SMLP_SEED from which.
A failure prints the edits until then.
"""

import os
import random
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import edits
import pytest

EDITS = int(os.environ.get("SMLP_EDITS", 50))
SEED = int(os.environ.get("SMLP_SEED", 1))
TARGETS = ["retrieve", "export", "compile", "preprocess", "infer", "evaluate", "measure"]
VARIABLE = "ONEDNN_DEFAULT_FPMATH_MODE"
DEADLINE_S = 600


class Edit(NamedTuple):
    """What is done before the sweep is run again: to which state files go, with which times, and what else happens."""

    kind: str
    state: dict[str, Any]
    times: str = "now"
    # of what the kind needs: a target, at which file a run dies, what is touched or removed
    choice: int = 0


def sequence(seed, count):
    """The edits of a seed: from state to state of a pool, in which at most two things differ from the beginning."""
    draw = random.Random(seed)
    pool = states(draw, pairs=count // 10)
    state = pool[0]
    found = []
    for _ in range(count):
        kind = draw.choices(["change", "kill", "target", "touch", "remove"], [70, 8, 8, 7, 7])[0]
        if kind not in ("touch", "remove"):
            near = [other for other in pool if 0 < sum(other[name] != state[name] for name in state) <= 2]
            state = draw.choice([pool[0], draw.choice(near)] if state != pool[0] else near)
        times = draw.choices(["now", "old", "kept"], [60, 20, 20])[0]
        found.append(Edit(kind, state, times, draw.randrange(1 << 20)))
    return found


def states(draw, pairs):
    """The beginning, everything that differs from it in one thing, and some that differ in two.

    Few, since each is swept from scratch; the ways between them are many.
    """
    beginning = edits.beginning()
    others = {name: knob.values[1:] for name, knob in edits.KNOBS.items()}
    single = [{name: value} for name, values in others.items() for value in values]
    double = [
        {name: draw.choice(others[name]) for name in draw.sample(sorted(edits.KNOBS), 2)} for _ in range(pairs)
    ]  # fmt: skip
    return [beginning, *({**beginning, **changes} for changes in [*single, *double])]


class Runs:
    """Sweeps of states: one that is edited, and one from scratch for each state."""

    def __init__(self, folder, python):
        self._folder, self._python = folder, python
        self._made_of = edits.product(folder / "product"), edits.stock(folder / "stock")
        self.edited = edits.Edited(folder / "edited" / "a sweep", *self._made_of)
        self._from_scratch = {}

    def snakemake(self, project, *flags, **variables):
        """Run Snakemake; (exit status, output)."""
        locks = project.folder.parent
        environment = {**os.environ, "TMPDIR": str(locks), "SMLP_LOCK_DIR": str(locks), "STILL": "1", **variables}
        environment.pop(VARIABLE, None)
        if project.state["environment"]:
            environment[VARIABLE] = project.state["environment"]
        done = subprocess.run(
            [self._python, "-m", "snakemake", "--cores", "1", "--nocolor", *flags],
            cwd=project.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
        )
        return done.returncode, done.stdout

    def tables(self, project):
        """Run the sweep and read its tables: {name: bytes}."""
        status, output = self.snakemake(project)
        assert status == 0, output
        tables = (project.folder / "results" / "tables").iterdir()
        found = {path.name: path.read_bytes() for path in tables if path.name != ".snakemake_timestamp"}
        # the page has checksums of sidecars, in which there are absolute paths; those of engines are in the tables
        return {**found, "report.html": re.sub(rb"[0-9a-f]{64}", b"", found["report.html"])}

    def from_scratch(self, state):
        """The tables of a state. Each state is made once."""
        known = edits.key(state)
        if known not in self._from_scratch:
            folder = self._folder / f"scratch {len(self._from_scratch)}" / "a sweep"
            project = edits.Edited(folder, *self._made_of)
            project.write(state)
            self._from_scratch[known] = self.tables(project)
            shutil.rmtree(folder.parent)
        return self._from_scratch[known]

    def apply(self, edit):
        """Do to the edited sweep what an edit says, but the run that follows. Returns what it did, in words."""
        project = self.edited
        before = project.state
        project.write(edit.state, edit.times)
        told = [f"{name}: {before[name]!r} → {value!r}" for name, value in edit.state.items() if before[name] != value]
        told += [f"times {edit.times}"] if told else []
        if edit.kind == "touch":
            told += [f"touched {path}" for path in self._some(edit, "inputs", "results", "scripts", touch=True)]
        elif edit.kind == "remove":
            told += [f"removed {path}" for path in self._some(edit, "results")]
        elif edit.kind == "target":
            target = TARGETS[edit.choice % len(TARGETS)]
            status, output = self.snakemake(project, target)
            assert status == 0, output
            told.append(f"target {target}")
        elif edit.kind == "kill":
            count = project.folder.parent / "count"
            count.unlink(missing_ok=True)
            number = 1 + edit.choice % 12
            status, _ = self.snakemake(project, DIE_AT=str(number), DIE_COUNT=str(count))
            if status:
                told.append(f"killed at file {number}")
                status, output = self.snakemake(project, "--unlock")
                assert status == 0, output
        return f"{edit.kind}: " + ", ".join(told)

    def _some(self, edit, *folders, touch=False):
        found = sorted(path for name in folders for path in (self.edited.folder / name).rglob("*"))
        found = [path for path in found if path.name != ".snakemake_timestamp" and "__pycache__" not in path.parts]
        draw = random.Random(edit.choice)
        for path in draw.sample(found, min(3, len(found))):
            # Snakemake does not look into folders that are outputs: what lacks a file there is an error that names it
            if not touch and (path.parent / ".snakemake_timestamp").exists():
                path = path.parent
            if touch:
                seconds = draw.choice([None, edits.OLD_S])
                if path.exists():
                    os.utime(path, seconds and (seconds, seconds))
            elif path.is_dir() and path.parent.name != "results":
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
            else:
                continue
            yield path.relative_to(self.edited.folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, forking_python):
    """What runs sweeps."""
    return Runs(tmp_path_factory.mktemp("edits"), forking_python)


def test_after_every_edit_the_tables_are_those_of_a_sweep_from_scratch(runs):
    done = []
    following = sequence(SEED, EDITS)
    # the states are known beforehand: one processor is ahead with those, the other edits
    with ThreadPoolExecutor(1) as ahead:
        scratch = [ahead.submit(runs.from_scratch, edit.state) for edit in [Edit("", edits.beginning()), *following]]
        try:
            assert differing(runs.tables(runs.edited), scratch[0].result()) == []
            for edit, wanted in zip(following, scratch[1:]):
                done.append(runs.apply(edit))
                print(f"{time.monotonic():.1f}", done[-1], flush=True)
                try:
                    found = differing(runs.tables(runs.edited), wanted.result())
                except AssertionError as error:
                    found = [str(error)]
                assert found == [], "\n".join([f"seed {SEED}, edit {len(done)} of:", *done, "", *found])
        finally:
            ahead.shutdown(cancel_futures=True)


def differing(have, wanted):
    """The tables that are not the same, with the first lines in which they differ."""
    found = []
    for name in sorted({*have, *wanted}):
        if have.get(name) != wanted.get(name):
            lines = zip(*(tables.get(name, b"").decode(errors="replace").splitlines() for tables in (have, wanted)))
            first = next((f"\n  {a[:300]}\n  {b[:300]}" for a, b in lines if a != b), "")
            found.append(name + first)
    return found
