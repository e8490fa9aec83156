"""Rows of measure.py beside each runtime's own tool, on the same engine file: within 2% at the median.

  openvino      its benchmark_app: one stream, synchronous, as many threads
  onnxruntime   onnxruntime_perf_test if it is on the PATH; the wheel has none, so else what it does, in Python: a
                session of its own in a process of its own, which is run again and again on one input
  aotinductor   torch.utils.benchmark.Timer on the package

Each takes turns with measure.py, one fresh process each, in an order that changes from round to round, so that a busy
machine slows both alike. A row of the CSV has the median latency of each, and their ratio: the median of the ratios of
all rounds, with their quartiles. `fastest_ratio` compares the fastest round of each, which was disturbed least.

    python bench/tools.py --engine results/compile/smlpnet_tiny/openvino/fp32/bs8.xml --input bins/
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import common
import numpy as np

from smlp.core import cli, files
from smlp.core.cli import UserError

WITHIN = 0.02
_SESSION = """
import sys, time
import numpy, onnxruntime
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.log_severity_level = 3
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
info = session.get_inputs()[0]
feed = {info.name: numpy.random.default_rng(0).random(info.shape, numpy.float32)}
ended = time.perf_counter() + float(sys.argv[4])
while time.perf_counter() < ended:
    session.run(None, feed)
times, ended = [], time.perf_counter() + seconds
while time.perf_counter() < ended or len(times) < 5:
    start = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - start)
print("median_ms", 1000 * sorted(times)[len(times) // 2])
"""
_TIMER = """
import sys
import torch
from torch.utils import benchmark
path, threads, seconds, shape = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), eval(sys.argv[5])
torch.set_float32_matmul_precision("highest")
package = torch._inductor.aoti_load_package(path, run_single_threaded=True)
images = torch.rand(shape)
timer = benchmark.Timer("package(images)", globals={"package": package, "images": images}, num_threads=threads)
timer.blocked_autorange(min_run_time=float(sys.argv[4]))
print("median_ms", 1000 * timer.blocked_autorange(min_run_time=seconds).median)
"""


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    rows = []
    for engine in flags.engine:
        about = files.read_json(files.sidecar_path(engine), "the sidecar of an engine")
        if about.get("backend") not in TOOLS:
            raise UserError(f"{engine}: is of backend {about.get('backend')!r}; one of {', '.join(TOOLS)} was expected")
        load_before = os.getloadavg()[0]
        row = compare(engine, about, flags)
        rows.append({**row, "load_before": round(load_before, 2), **common.machine()})
        cli.say(f"{engine}: ratio {row['ratio']}, fastest {row['fastest_ratio']}")
    common.show("measure.py against each runtime's own tool", [dict(list(row.items())[:11]) for row in rows])
    common.write_csv(flags.output, rows)
    middle = statistics.median(row["ratio"] for row in rows)
    print(f"median of the ratios: {middle:.4f}; within {WITHIN:.0%}: {abs(middle - 1) <= WITHIN}")
    return int(abs(middle - 1) > WITHIN)


def compare(engine: Path, about: dict, flags: argparse.Namespace) -> dict:
    """One row: the medians of both, and the ratio of ours to the tool's."""
    name, tool = TOOLS[about["backend"]]
    ours_ms: list[float] = []
    tools_ms: list[float] = []
    turns: list[tuple[list[float], Callable[[], float]]] = [
        (ours_ms, lambda: _ours(engine, flags)),
        (tools_ms, lambda: tool(engine, about, flags)),
    ]
    for number in range(flags.rounds):
        for times_ms, run in turns if number % 2 else turns[::-1]:
            times_ms.append(run())
    # smaller latencies of ours give a ratio above 1, as images/s do
    ratios = [theirs / own for own, theirs in zip(ours_ms, tools_ms)]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {
        "backend": about["backend"],
        "precision": about["precision"],
        "batch": about["batch"],
        "tool": name(),
        "ours_ms": round(statistics.median(ours_ms), 3),
        "tool_ms": round(statistics.median(tools_ms), 3),
        "ratio": round(float(middle), 4),
        "ratio_quartile_low": round(float(low), 4),
        "ratio_quartile_high": round(float(high), 4),
        "fastest_ratio": round(min(tools_ms) / min(ours_ms), 4),
        "rounds": flags.rounds,
        "within_2_percent": abs(middle - 1) <= WITHIN,
        "threads": flags.threads,
        "min_time_s": flags.min_time_s,
    }


def _ours(engine: Path, flags: argparse.Namespace) -> float:
    """Median latency in ms as measure.py, in a process of its own, states it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "row.json"
        command = [sys.executable, str(common.REPOSITORY / "scripts" / "measure.py"), "--model", str(engine)]
        command += ["--input", flags.input, "--threads", str(flags.threads), "--output", str(output)]
        command += ["--min_time_s", str(flags.min_time_s), "--min_runs", "5"]
        command += ["--warmup_window_s", str(flags.warm_up_s / 3), "--warmup_max_s", str(flags.warm_up_s)]
        if "--retry_max_s" in (common.REPOSITORY / "scripts" / "measure.py").read_text(encoding="utf-8"):
            command += ["--retry_max_s", "0"]
        _run(command)
        return json.loads(output.read_text(encoding="utf-8"))["smlp"]["latency_ms_p50"]


def _benchmark_app(engine: Path, about: dict, flags: argparse.Namespace) -> float:
    tool = shutil.which("benchmark_app", path=str(Path(sys.executable).parent)) or "benchmark_app"
    command = [tool, "-m", str(engine), "-d", "CPU", "-hint", "none", "-nstreams", "1", "-api", "sync"]
    command += ["-nthreads", str(flags.threads), "-infer_precision", about["inference_precision"]]
    text = _run([*command, "-t", str(max(1, round(flags.min_time_s)))])
    return _number(r"Median:\s+([\d.]+) ms", text, command)


def _session(engine: Path, about: dict, flags: argparse.Namespace) -> float:
    if tool := shutil.which("onnxruntime_perf_test"):
        command = [tool, "-I", "-e", "cpu", "-x", str(flags.threads), "-o", "0", "-m", "duration"]
        command += ["-t", str(max(1, round(flags.min_time_s))), str(engine)]
        return 1000 * _number(r"P50 Latency: ([\d.e-]+) s", _run(command), command)
    return _script(_SESSION, engine, flags)


def _timer(engine: Path, about: dict, flags: argparse.Namespace) -> float:
    shape = [about["batch"], 3, flags.image_size, flags.image_size]
    return _script(_TIMER, engine, flags, str(shape))


def _script(code: str, engine: Path, flags: argparse.Namespace, *further: str) -> float:
    words = [str(engine), str(flags.threads), str(flags.min_time_s), str(flags.warm_up_s), *further]
    return _number(r"median_ms ([\d.]+)", _run([sys.executable, "-c", code, *words]), ["python", str(engine)])


TOOLS: dict[str, tuple[Callable[[], str], Callable[..., float]]] = {
    "openvino": (lambda: "benchmark_app", _benchmark_app),
    "onnxruntime": (
        lambda: "onnxruntime_perf_test" if shutil.which("onnxruntime_perf_test") else "a session of its own, in Python",
        _session,
    ),
    "aotinductor": (lambda: "torch.utils.benchmark", _timer),
}


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command[:6])} … ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return done.stdout


def _number(pattern: str, text: str, command: Sequence[str]) -> float:
    found = re.search(pattern, text)
    if not found:
        raise UserError(f"{' '.join(command[:6])} … told no median latency: {text[-400:]}")
    return float(found[1])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--engine", type=Path, nargs="+", required=True, help="engine files with their sidecars")
    parser.add_argument("--input", required=True, help="folder of bins that fit the engines")
    parser.add_argument("--image_size", type=cli.positive_int, default=224, help="side of the images in pixels")
    parser.add_argument("--threads", type=cli.positive_int, default=cli.default_workers(), help="CPU threads of both")
    parser.add_argument("--rounds", type=cli.positive_int, default=8, help="processes of each")
    parser.add_argument("--min_time_s", type=cli.positive_number, default=3, help="each measures at least this long")
    parser.add_argument("--warm_up_s", type=cli.positive_number, default=2, help="and warms up at most this long")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "tools.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
