"""What commands that run an engine share, in ais_bench's form: flags, the summary file, the lines people grep for.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import backends
from ..backends.base import Backend, Engine, Timings
from ..core import cli, host, identity, provenance
from ..core.code import code_digest
from ..core.provenance import Facts
from ..core.runs import RunFacts


class Entry(NamedTuple):
    """One file of a run: it as the only infile (none if the data were made up), and the files of its outputs."""

    infiles: list[str]
    outfiles: list[str]


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that runs an engine."""
    parser.add_argument(
        "--model", type=Path, required=True, help="engine file (its sidecar or suffix says the backend)"
    )
    parser.add_argument("--backend", choices=backends.names(), help="backend, if neither says it")
    parser.add_argument("--batchsize", type=cli.positive_int, help="for engines of any batch; others know theirs")
    parser.add_argument("--device", help="device to run on; the backend's own default unless given")
    parser.add_argument("--threads", type=cli.positive_int, help="CPU threads; the runtime's own choice unless given")
    cli.add_environment_flag(parser)
    parser.add_argument("--model_label", help="the model's name in tables; the sidecar's unless given")
    parser.add_argument("--variant", default="", help="name of the target's variant; the sidecar's unless given")
    parser.add_argument(
        "--record_failure",
        action="store_true",
        help="if the engine cannot be run here, write that instead of the result, and go on",
    )


def add_images_flag(parser: argparse.ArgumentParser) -> None:
    """The images of a command that runs an engine again and again."""
    parser.add_argument("--input", required=True, help="folder of .bin or .npy files with real images, or a comma list")


def facts_of_run(asked: RunFacts, backend: Backend, engine: Engine, batch_size: int) -> RunFacts:
    """The facts of a run that took place: what was asked for, and what the opened engine turned out to be."""
    return dataclasses.replace(
        asked,
        backend=backend.name,
        precision=asked.precision or "unknown",
        batch=batch_size,
        device=engine.device,
        emulated=engine.emulated,
    )


def state_of_run(
    command: str,
    kind: str,
    content: Mapping[str, str],
    run: RunFacts,
    backend: Backend,
    engine: Engine,
    bins_made_from: Mapping[str, str],
    asked: Facts,
    environment: Mapping[str, str],
) -> Facts:
    """What a result of an engine is, for its sidecar. asked: the flags of `command` that decide what comes out.

    environment: the variables that were asked for.
    """
    on_cpu = engine.device == "cpu"
    return identity.state(
        kind,
        content,
        made_from={"engine": run.engine_id or "", **bins_made_from},
        flags={**asked, "batch": run.batch, "settings": engine.settings, "emulated": engine.emulated},
        code=code_digest(command, backend.name),
        versions=provenance.versions(backend.packages),
        host={"cpu_features": host.cpu_features()} if on_cpu else {"device": engine.device.partition(":")[0]},
        environment=environment,
    )


def summary(timings: Timings, batch_size: int, made: Sequence[Entry]) -> Facts:
    """ais_bench's summary: times in ms; throughput = 1000 · batch / mean compute time, padding counted."""
    return {
        "filesinfo": {str(number): entry._asdict() for number, entry in enumerate(made)},
        "args": sys.argv,
        "NPU_compute_time": describe_ms(timings.compute_ms),
        "H2D_latency": describe_ms(timings.h2d_ms),
        "D2H_latency": describe_ms(timings.d2h_ms),
        "throughput": 1000 * batch_size / float(np.mean(timings.compute_ms)),
        "npu_compute_time_list": list(timings.compute_ms),
        "pid": os.getpid(),
    }


def describe_ms(times_ms: Sequence[float]) -> dict[str, float]:
    """min, max, mean, median, 99th percentile and count, in ais_bench's words; zeros if nothing was timed."""
    times = np.asarray(times_ms if len(times_ms) else [0.0])
    return {
        "min": float(times.min()),
        "max": float(times.max()),
        "mean": float(times.mean()),
        "median": float(np.median(times)),
        "percentile(99%)": float(np.percentile(times, 99)),
        "count": len(times_ms),
    }


def print_summary(report: Facts, batch_size: int, display_all: bool) -> None:
    """The lines of ais_bench that people's scripts look for, on stdout."""
    print("[INFO] -----------------Performance Summary------------------")
    for key in ("NPU_compute_time", *(("H2D_latency", "D2H_latency") if display_all else ())):
        values = ", ".join(f"{name} = {value}" for name, value in report[key].items() if name != "count")
        print(f"[INFO] {key} (ms): {values}")
    mean_ms = report["NPU_compute_time"]["mean"]
    print(
        f"[INFO] throughput 1000*batchsize.mean({batch_size})/NPU_compute_time.mean({mean_ms}): {report['throughput']}"
    )
    print("[INFO] ------------------------------------------------------")
