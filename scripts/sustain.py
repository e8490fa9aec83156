"""Run an engine for minutes, with the device to itself: what heat and limits of power leave of its rate.

After a warm-up as measure.py's, one request runs at a time on real images for --sustained_s. Writes a JSON file
(resources/results.schema.yaml, `sustained`): images/s in the first minute and in the last tenth, temperature, clock and
power at the start, at most and at the end, and the reasons for low clocks that were seen. Beside it, as .npy, how all
that went: float64 (slots, 7), at most 3,600 slots of at least a second; smlp/results/sustained.py names the columns.

  scripts/sustain.py --model bs8.onnx --input bins/ --output bs8.json --sustained_s 600
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import measure
import numpy as np

from smlp import backends
from smlp.backends.base import Engine, EngineFailure, batch_size_of, failure_record
from smlp.core import cli, disturbance, files, host, lock, provenance
from smlp.core.energy import Meter
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.core.sampling import Watch
from smlp.results import aisbench, one_load, sustained

_DECIDING = ("threads", "sustained_s", "warmup_window_s", "warmup_max_s")


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    try:
        report, series = run(flags)
    except EngineFailure as failure:
        if not flags.record_failure:
            raise
        cli.say(f"nothing to run: {failure}")
        report, series = failure_record(failure, flags), measure.npy(np.empty((0, len(sustained.COLUMNS))))
    with files.whole_file(flags.output) as partial:
        partial.with_suffix(".npy").write_bytes(series)
        files.write_json(partial, report)
    if "failed" not in report:
        print(summary_line(report["smlp"]))
    return 0


def run(flags: argparse.Namespace) -> tuple[Facts, bytes]:
    """Run the engine: what is stated of it, and as .npy how it went."""
    backend, sidecar, engine = backends.open_engine(
        flags.model, backend=flags.backend, device=flags.device, threads=flags.threads
    )
    asked = RunFacts.asked(flags, sidecar)
    ask = measure.asker(backend, engine.device)
    with lock.hold(engine.device, exclusive=True):
        # before the engine is opened: later this process is one of the device's
        before = ask()
        measure.refuse_unfit(engine.device, before, flags.allow_busy_device)
        with engine:
            batch_size = batch_size_of(engine, flags.batchsize)
            images, made_from = measure.load_images(flags.input, engine, batch_size)
            fingerprint = host.fingerprint(provenance.versions(backend.packages), engine.settings, flags.threads)
            fingerprint["where"] = flags.where
            one_load.warm_up(lambda: measure.window(engine, images, flags.warmup_window_s), flags.warmup_max_s)
            slot_s = sustained.slot_s(flags.sustained_s)
            started_at = disturbance.now()
            with Watch(_with_power(ask, engine.device), max(slot_s, 1.0)) as watch:
                slots = keep_running(engine, images, flags.sustained_s, slot_s)
            seen = disturbance.between(started_at, disturbance.now())
            after = ask()
            measure.say_unseen(engine.device, after)
    found = sustained.series(slots, watch.samples)
    series = measure.npy(found)
    content = {".npy": hashlib.sha256(series).hexdigest()}
    ran = aisbench.facts_of_run(asked, backend, engine, batch_size)
    asked_for = {name: getattr(flags, name) for name in _DECIDING}
    state = aisbench.state_of_run(
        "sustain", "sustained", content, ran, backend, engine, made_from, asked_for, dict(flags.env)
    )
    # throttling is what a sustained run looks for, no disturbance of it
    disturbed = [*seen._replace(throttled=None).reasons(), *measure.reasons_of_device([before, after], ())]
    facts = provenance.describe(
        packages=backend.packages,
        state=state,
        **ran.of_engine(),
        settings=engine.settings,
        environment=dict(flags.env),
        fingerprint=fingerprint,
        **sustained.figures(found, batch_size),
        sustained_throttling="; ".join(measure.throttling_reasons(watch.throttling, seen)) or None,
        sustained_disturbed="; ".join(disturbed) or None,
        disturbance=seen.facts(),
        device_state={"before": before, "after": after},
    )
    return {"smlp": facts}, series


def keep_running(engine: Engine, images: Sequence[np.ndarray], seconds: float, slot_s: float) -> list[sustained.Slot]:
    """Run batches in turn for so long; of each slot of time what it did."""
    slots: list[sustained.Slot] = []
    started = time.perf_counter()
    place = 0
    while not slots or slots[-1].ended_s < seconds:
        began_s = time.perf_counter() - started
        latencies = measure.measure(engine, [*images[place:], *images[:place]], slot_s, 1)
        runs = len(latencies.end_to_end_ms)
        ended_s = time.perf_counter() - started
        slots.append(sustained.Slot(began_s, ended_s, runs, sum(latencies.timings.compute_ms) / 1000))
        place = (place + runs) % len(images)
    return slots


def _with_power(ask: Callable[[], Facts], device: str) -> Callable[[], Facts]:
    """`ask`, of a processor with the power that RAPL tells; other devices tell their own."""
    if device != "cpu":
        return ask
    meter = Meter(device, dict)
    return lambda: {**ask(), "power_w": meter.watts()}


def summary_line(facts: Facts) -> str:
    """What people want to see at once."""
    share = facts["sustained_percent"]
    told = "" if share is None else f", {share:.1f}% of those in the first"
    part = sustained.first_part(facts["sustained_s"])
    first, last = facts["sustained_first_images_per_s"], facts["sustained_last_images_per_s"]
    line = f"{facts['sustained_s']:.0f} s: {first:.1f} images/s in the {part}, {last:.1f} in the last tenth{told}"
    return line + (f"; throttling: {facts['sustained_throttling']}" if facts["sustained_throttling"] else "")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    aisbench.add_engine_flags(parser)
    aisbench.add_images_flag(parser)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--sustained_s", type=cli.positive_number, default=600, help="how long to run")
    measure.add_warmup_flags(parser)
    measure.add_device_flags(parser)
    flags = parser.parse_args(argv)
    cli.require_json(flags.output, "; the series takes the same stem")
    return flags


if __name__ == "__main__":
    cli.run(main)
