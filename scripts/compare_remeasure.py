"""The engines of two sweeps, measured in turn: each load a fresh process of scripts/measure.py, as in a sweep.

In every round the engine of the base and that of the head run one after the other, the base first in even rounds, the
head first in odd ones, so that neither has the warmer machine. What slows a whole round cancels in its ratio.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from smlp.core import cli, environment, files, identity
from smlp.core.cli import UserError
from smlp.core.provenance import Facts
from smlp.results.columns import LATENCY_WAY, THROUGHPUT_WAY
from smlp.results.history import Entry, Key, Row

_MEASURE = Path(__file__).with_name("measure.py")

Rates = tuple[list[float], list[float]]


def measure_in_turn(
    base: tuple[Entry, Path], head: tuple[Entry, Path], rounds: int, bounds: Mapping[str, float], only: str = ""
) -> dict[Key, Rates]:
    """images/s of every row that both sweeps have, (base's, head's), one per round; of both ways of running.

    base, head: a sweep that was read from a folder of results, and that folder. bounds: measure.py's, by flag. only:
    part of the names of rows. Raises UserError if an engine or its images are not there, or cannot be measured.
    """
    rows = {side: one.by_key("throughput") for side, (one, _) in (("base", base), ("head", head))}
    keys = [
        key
        for key, row in rows["head"].items()
        if key.way == LATENCY_WAY and only in str(key) and _can_run(row) and _can_run(rows["base"].get(key))
    ]
    if not keys:
        raise UserError(
            f"no row {f'with {only!r} in its name ' if only else ''}is in both sweeps and could be measured"
        )
    bounded = [word for name, value in bounds.items() for word in (f"--{name}", str(value))]
    engines = {
        key: [_engine(rows[side][key], folder, bounded) for side, folder in (("base", base[1]), ("head", head[1]))]
        for key in keys
    }
    found: dict[Key, Rates] = {}
    with tempfile.TemporaryDirectory(prefix="smlp-compare-") as scratch:
        for number in range(rounds):
            for key in keys:
                cli.say(f"round {number + 1} of {rounds}: {key}")
                order = (0, 1) if number % 2 == 0 else (1, 0)
                facts: dict[int, Facts] = {side: measure_load(engines[key][side], Path(scratch)) for side in order}
                ways = [facts[side].get("throughput_way") for side in (0, 1)]
                _add(found, key, [facts[side]["images_per_s"] for side in (0, 1)])
                if all(ways):
                    _add(found, key._replace(way=THROUGHPUT_WAY), [way["images_per_s"] for way in ways])
    return found


def _add(found: dict[Key, Rates], key: Key, rates: Sequence[float]) -> None:
    for side, rate in zip(found.setdefault(key, ([], [])), rates):
        side.append(rate)


def _can_run(row: Row | None) -> bool:
    """Imported results have no engine here, and an emulator's speed means nothing."""
    if row is None or row.failed or row.source is None:
        return False
    return row.source.parent.name != "imported" and not row.figures.get("emulated")


def _engine(row: Row, folder: Path, bounded: Sequence[str]) -> list[str]:
    """The words that measure.py is called with for a row of the sweep in `folder`, but for where to write.

    Paths are those of the sweep's own files: of the engine its sidecar's, of images those of its bins' folders.
    """
    facts = files.read_json(row.source, "a row that measure.py measured")["smlp"]
    engine = _engine_file(folder, facts, row)
    words = ["--model", str(engine), "--input", str(_bins(folder, facts, row)), "--model_label", row.key.model]
    words += ["--backend", row.key.backend, "--batchsize", str(row.key.batch), "--device", str(facts["device"])]
    words += ["--variant", row.key.variant] if row.key.variant else []
    words += ["--threads", str(facts["threads"])] if facts.get("threads") else []
    for name, value in (facts.get("environment") or {}).items():
        # of what a file of others asks for, only what measure.py would clear
        if not environment.unasked({str(name): str(value)}, {}):
            raise UserError(f"{row.source}: asks for the variable {name}, which changes nothing that is measured")
        words += [environment.FLAG, f"{name}={value}"]
    return [*words, *bounded]


def _engine_file(folder: Path, facts: Facts, row: Row) -> Path:
    """The engine that a row was measured with: the file below the folder whose sidecar states its id."""
    wanted, stated = facts["engine"].get("id"), facts["engine"].get("path")
    inside = Path(os.path.normpath(folder.parent / str(stated)))
    candidates = [inside] if inside.is_relative_to(os.path.normpath(folder)) else []
    name = Path(str(stated)).name
    candidates += sorted([*folder.glob(f"compile/**/{_escaped(name)}"), *folder.glob(f"retrieve/**/{_escaped(name)}")])
    for path in candidates:
        if path.is_file() and identity.known(path, check=False).id == wanted:
            return path
    raise UserError(f"{row.source}: {folder} has not the engine that it was measured with ({stated}); make it again")


def _bins(folder: Path, facts: Facts, row: Row) -> Path:
    """The folder of images that a row was measured on: of the bins of its model, the first shard's."""
    wanted = _made_from(row)
    for sidecar in sorted(folder.glob("preprocess/*/*/shard-*.json")):
        content = files.read_json(sidecar, "the sidecar of bins")
        if isinstance(content, dict) and content.get("id") in wanted:
            return sidecar.with_suffix("")
    raise UserError(
        f"{row.source}: {folder} has not the bins that it was measured on; make them again: snakemake preprocess"
    )


def _made_from(row: Row) -> set[str]:
    """Ids of what a row was made from; of a row of several loads what these were made from."""
    loads = sorted(row.source.with_suffix("").glob("load-*.json"))
    found: set[str] = set()
    for path in [row.source, *loads]:
        facts = files.read_json(path, "a file of measure.py").get("smlp") or {}
        found |= set(((facts.get("identity") or {}).get("made_from") or {}).values())
    return found


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def measure_load(words: Sequence[str], scratch: Path) -> Facts:
    """One load, measured by a fresh process. words: --model first. Raises UserError with what measure.py said."""
    output = scratch / "load.json"
    done = subprocess.run(
        [sys.executable, str(_MEASURE), *words, "--output", str(output)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{words[1]}: cannot be measured: {said[-1] if said else f'status {done.returncode}'}")
    return files.read_json(output, "what measure.py measured")["smlp"]
