"""Profile an engine: where its time goes, operator by operator, by its runtime's own profiling.

Apart from the timed runs of measure.py, whose figures no profiling may touch. Plain and profiled runs take turns in
blocks, on real images and with the device to itself, until there were at least --min_time_s of each. Writes a JSON file
(resources/results.schema.yaml, `profile`): every operator with its type, the precision in which it really ran, what ran
it and its milliseconds in one run, beside the mean time of the profiled and of the plain runs. Prints the ten most
expensive operators.

  scripts/profile_engine.py --model bs8.onnx --input bins/ --output bs8.json

With --record_failure, an engine that cannot be profiled here gives a file that says why.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smlp import backends
from smlp.backends import _profile
from smlp.backends.base import Engine, EngineFailure, batch_size_of, failure_record
from smlp.core import cli, files, lock, provenance
from smlp.core.cli import UserError
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.data import bins
from smlp.results import aisbench

_ROUNDS = 3
_DECIDING = ("threads", "min_time_s")
_SHOWN = 10


class Profiled(NamedTuple):
    """operations: as the runtime tells them. profiled_ms, plain_ms: of every run, as Timings.compute_ms."""

    operations: list[_profile.Operation]
    profiled_ms: list[float]
    plain_ms: list[float]


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    try:
        report = run(flags)
    except EngineFailure as failure:
        if not flags.record_failure:
            raise
        cli.say(f"nothing to profile: {failure}")
        report = failure_record(failure, flags)
    files.write_json(flags.output, report)
    if "failed" not in report:
        print("\n".join(summary_lines(report["smlp"])))
    return 0


def run(flags: argparse.Namespace) -> Facts:
    """Profile the engine: the report. Raises EngineFailure if its runtime has no profiling here."""
    backend, sidecar, engine = backends.open_engine(
        flags.model, backend=flags.backend, device=flags.device, threads=flags.threads
    )
    asked = RunFacts.asked(flags, sidecar)
    with lock.hold(engine.device, exclusive=True), engine:
        batch_size = batch_size_of(engine, flags.batchsize)
        images, made_from = first_batch(flags.input, engine, batch_size)
        try:
            profiler = engine.profiler()
        except UserError as error:  # a tool that is not there is no reason to end a sweep
            raise EngineFailure(str(error)) from None
        if profiler is None:
            raise EngineFailure(f"backend {backend.name!r} has no profiling")
        found = profile(engine, profiler, images, flags.min_time_s)
    operations = [one._asdict() for one in found.operations]
    ran = aisbench.facts_of_run(asked, backend, engine, batch_size)
    asked_for = {name: getattr(flags, name) for name in _DECIDING}
    state = aisbench.state_of_run(
        "profile_engine", "profile", {}, ran, backend, engine, made_from, asked_for, dict(flags.env)
    )
    facts = provenance.describe(
        packages=backend.packages,
        state=state,
        **ran.of_engine(),
        settings=engine.settings,
        environment=dict(flags.env),
        runs=len(found.profiled_ms),
        profiled_ms_mean=float(np.mean(found.profiled_ms)),
        plain_ms_mean=float(np.mean(found.plain_ms)),
        operators_ms=sum(one.ms for one in found.operations),
        operations=operations,
    )
    return {"smlp": facts}


def first_batch(spec: str, engine: Engine, batch_size: int) -> tuple[np.ndarray, dict[str, str]]:
    """The first batch of real images, repeated if there are fewer, and the ids of the bins that it is from."""
    info = engine.inputs[0]
    first = bins.find(spec)
    bins.check_manifest(first[0], bins.count(first[0], info))
    images, read = [], []
    for path in first:
        read.append(path)
        images += [image for block in bins.read(path, info, batch_size) for image in block]
        if len(images) >= batch_size:
            break
    return np.stack([images[index % len(images)] for index in range(batch_size)]), bins.made_from(read)


def profile(engine: Engine, profiler: _profile.Profiler, images: np.ndarray, min_time_s: float) -> Profiled:
    """Plain and profiled runs in turn, in blocks, each kind for at least `min_time_s` and `_ROUNDS` runs."""
    for _ in range(2):
        engine.run(images)
    started = time.perf_counter()
    profiler.run(images, 2)
    run_s = (time.perf_counter() - started) / 2
    profiler.begin()
    times = max(1, round(min_time_s / _ROUNDS / run_s))
    plain_ms: list[float] = []
    profiled_ms: list[float] = []
    for _ in range(_ROUNDS):
        for _ in range(times):
            plain_ms += engine.run(images)[1].compute_ms
        profiled_ms += profiler.run(images, times)
    operations = profiler.end()
    if not operations or not profiled_ms:
        raise EngineFailure("its runtime's profiling told no operator; see its own lines above")
    return Profiled(operations, profiled_ms, plain_ms)


def summary_lines(facts: Facts) -> list[str]:
    """What people want to see at once: the ten most expensive operators, and how they add up."""
    total_ms = facts["operators_ms"]
    lines = [f"{'ms':>9} {'share':>6}  precision     operator"]
    for one in sorted(facts["operations"], key=lambda one: -one["ms"])[:_SHOWN]:
        share = one["ms"] / total_ms if total_ms else 0.0
        what = f"{one['type']}, {one['unit']}: {one['name']}" + (f" ({one['calls']} calls)" if one["calls"] > 1 else "")
        lines.append(f"{one['ms']:9.3f} {share:6.1%}  {one['precision'] or 'unknown':12}  {what}")
    total_ms = total_ms or 1.0
    moved = sum(one["ms"] for one in facts["operations"] if one["moves"])
    away = sum(one["ms"] for one in facts["operations"] if one["elsewhere"])
    lines.append(
        f"operators {total_ms:.3f} ms, a run {facts['profiled_ms_mean']:.3f} ms profiled and "
        f"{facts['plain_ms_mean']:.3f} ms plain; conversions and transposes {moved / total_ms:.1%}, elsewhere than "
        f"asked {away / total_ms:.1%}"
    )
    return lines


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    aisbench.add_engine_flags(parser)
    aisbench.add_images_flag(parser)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--min_time_s", type=cli.positive_number, default=5, help="profile at least this long")
    flags = parser.parse_args(argv)
    cli.require_json(flags.output)
    return flags


if __name__ == "__main__":
    cli.run(main)
