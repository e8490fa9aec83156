"""Our measured throughput against a bare ONNX Runtime loop on the same engine: they must agree within 3%.

Both run in one process, one run in turn, so that a busy machine slows both alike; medians count.

    python bench/measure.py --batch_sizes 1 8
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import common
import numpy as np

from smlp import backends
from smlp.core import cli


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    measure = common.load_command("measure")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "model.onnx"
        _export(flags.model_name, onnx_path)
        for batch_size in flags.batch_sizes:
            engine_path = Path(folder) / f"bs{batch_size}.onnx"
            common.load_command("compile").compile_engine("onnxruntime", "fp32", batch_size, onnx_path, engine_path, {})
            rows.append(_compare(measure, engine_path, batch_size, flags.runs))
    rows = [{**row, **common.machine()} for row in rows]
    common.show(
        "measure.py against a bare ONNX Runtime loop", [{key: row[key] for key in list(rows[0])[:6]} for row in rows]
    )
    common.write_csv(flags.output, rows)
    return int(any(abs(row["ratio"] - 1) > 0.03 for row in rows))


def _compare(measure, engine_path: Path, batch_size: int, runs: int) -> dict:
    """One row: images/s of both, from the median latency."""
    import onnxruntime

    threads = cli.default_workers()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(engine_path), options, providers=["CPUExecutionProvider"])
    images = [np.random.default_rng(i).normal(size=(batch_size, 3, 224, 224)).astype(np.float32) for i in range(2)]
    _, _, engine = backends.open_engine(engine_path, backend=None, device=None, threads=threads)
    times_ms: dict[str, list[float]] = {"ours": [], "bare": []}
    with engine:
        measure.warm_up(engine, images, 0.5, 20)
        for batch in itertools.islice(itertools.cycle(images), runs):
            times_ms["ours"] += measure.measure(engine, [batch], 1e-9, 1).timings.compute_ms
            start = time.perf_counter()
            session.run(None, {"input": batch})
            times_ms["bare"].append(1000 * (time.perf_counter() - start))
    rates = {name: 1000 * batch_size / statistics.median(times) for name, times in times_ms.items()}
    ratio = rates["ours"] / rates["bare"]
    return {
        "batch": batch_size,
        "ours_images_per_s": round(rates["ours"], 2),
        "bare_images_per_s": round(rates["bare"], 2),
        "ratio": round(ratio, 4),
        "runs": runs,
        "within_3_percent": abs(ratio - 1) <= 0.03,
    }


def _export(model_name: str, path: Path) -> None:
    import torch

    from smlp.models import architectures

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            architectures.create(model_name),
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            opset_version=11,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            dynamo=False,
        )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--model_name", default="smlpnet_tiny", help="model, with random weights")
    parser.add_argument("--batch_sizes", type=cli.positive_int, nargs="+", default=[1, 8], help="engines to compare on")
    parser.add_argument("--runs", type=cli.positive_int, default=40, help="runs of each")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "measure.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
