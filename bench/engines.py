"""Our engines beside what a user would use instead, in one run on the same images, and beside the machine's ceiling.

On the CPU: eager PyTorch, torch.compile, ONNX Runtime as it comes, OpenVINO's own benchmark_app, and every engine of
ours, each with a bare loop of the same runtime on the same file, which it must agree with within 3%. With --device cuda
it is eager PyTorch and torch.compile(mode="max-autotune") in fp32, fp16 and bf16 beside AOTInductor.

All take turns, a block of runs each, so that a busy machine slows all alike; the median latency of all blocks counts.
An engine and its bare loop share their blocks, a run each in turn, and are compared pair by pair: what the machine does
meanwhile hits both. A run that is not counted goes before each, since the threads of the other one (ONNX Runtime's)
spin for a while after theirs. Each loads the file for itself; where one load is faster than the next, they differ.
The ceiling is the rate of matrix products in the row's precision, as the stage `ceilings` measures it; `of_ceiling` is
a row's multiply-adds (counted in the exported graph, two operations each) in one second as a fraction of it.

    python bench/engines.py --batch_sizes 1 8 32
"""

from __future__ import annotations

import argparse
import collections
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
from ceilings_probes import of_cpu, of_cuda

from smlp import backends
from smlp.core import cli, files
from smlp.data import dataset

# each with both graphs
ENGINES = {
    "cpu": [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8"),
        ("aotinductor", "fp32"),
        ("aotinductor", "bf16"),
    ],
    "cuda": [("aotinductor", "fp32"), ("aotinductor", "fp16"), ("aotinductor", "bf16")],
}
GRAPHS = ("reference", "fused")
TOLERANCE = 0.03
BLOCK_RUNS_MIN = 3
CEILINGS_S = 4
BASE, OWN = "ONNX Runtime, default", "ours: "


class Contender(NamedTuple):
    """run: takes the images, returns the milliseconds of one run. bare: the same by a bare loop, to agree with.

    warms_up: a run is many runs already, after some to warm up; it is a block by itself.
    """

    name: str
    precision: str
    run: Callable[[np.ndarray], float]
    bare: Callable[[np.ndarray], float] | None = None
    warms_up: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    threads = cli.default_workers()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(Path(scratch), flags.model_name, flags.device, threads)
        found = of_cpu(threads, CEILINGS_S) if flags.device == "cpu" else of_cuda("cuda:0", CEILINGS_S)
        ceilings = {
            precision: found["operations_per_s"].get(precision) for precision in ("fp32", "fp16", "bf16", "int8")
        }
        for batch_size in flags.batch_sizes:
            images = np.ascontiguousarray(np.resize(work.images, (batch_size, *work.images.shape[1:])))
            with work.contenders(batch_size) as contenders:
                latencies_ms = take_turns(contenders, images, flags.rounds, flags.block_s)
            rates = {name: 1000 * batch_size / statistics.median(times) for name, times in latencies_ms.items()}
            for contender in contenders:
                rate, top = rates[contender.name], ceilings[contender.precision]
                own_ms, bare_ms = latencies_ms[contender.name], latencies_ms.get(_bare(contender))
                pairs = [bare / own for own, bare in zip(own_ms, bare_ms, strict=True)] if bare_ms else None
                rows.append(
                    {
                        "batch": batch_size,
                        "what": contender.name,
                        "precision": contender.precision,
                        "images_per_s": round(rate, 2),
                        "to_eager": round(rate / rates[f"eager PyTorch {_eager_precision(contender, flags)}"], 3),
                        "to_onnxruntime": round(rate / rates[BASE], 3) if BASE in rates else None,
                        "bare_loop_images_per_s": round(rates[_bare(contender)], 2) if pairs else None,
                        "to_bare_loop": round(statistics.median(pairs), 4) if pairs else None,
                        "of_ceiling": round(rate * 2 * work.macs / top, 3) if top else None,
                        "runs": len(own_ms),
                    }
                )
            common.show(f"batch {batch_size}", [row for row in rows if row["batch"] == batch_size])
    top = {f"ceiling_{precision}_gflop_per_s": rate and round(rate / 1e9, 1) for precision, rate in ceilings.items()}
    device = {"device": work.device_name, "threads": threads, "gflop_per_image": round(2 * work.macs / 1e9, 2)}
    common.write_csv(flags.output, [{**row, **device, **top, **common.machine()} for row in rows])
    apart = [row for row in rows if row["to_bare_loop"] and abs(row["to_bare_loop"] - 1) > TOLERANCE]
    for row in apart:
        cli.say(f"batch {row['batch']}: {row['what']} differs from its bare loop by {row['to_bare_loop'] - 1:+.1%}")
    return int(bool(apart))


def _eager_precision(contender: Contender, flags: argparse.Namespace) -> str:
    return "fp32" if flags.device == "cpu" else contender.precision


def take_turns(
    contenders: Sequence[Contender], images: np.ndarray, rounds: int, block_s: float
) -> dict[str, list[float]]:
    """Latencies in ms by name: `rounds` blocks of `block_s` seconds each. Left out: the first run after another's.

    Those of an engine and of its bare loop stand in the same order, so that they can be compared pair by pair.
    """
    latencies_ms: dict[str, list[float]] = collections.defaultdict(list)
    previous = None
    for _, contender in itertools.product(range(rounds), contenders):
        runs = {contender.name: contender.run}
        if contender.bare:
            runs[_bare(contender)] = contender.bare
        started = time.perf_counter()
        for count in itertools.count(1):
            for name, run in runs.items():
                if run is not previous and not contender.warms_up:
                    run(images)
                latencies_ms[name].append(run(images))
                previous = run
            done = count >= BLOCK_RUNS_MIN and time.perf_counter() - started >= block_s * len(runs)
            if contender.warms_up or done:
                break
    return latencies_ms


def _bare(contender: Contender) -> str:
    return f"bare loop: {contender.name}"


def _synchronise(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


class Work:
    """The model with random weights: its checkpoint, its graphs, its images, and what runs it."""

    def __init__(self, folder: Path, model_name: str, device: str, threads: int) -> None:
        import torch

        from smlp.models import architectures

        torch.manual_seed(0)
        torch.set_num_threads(threads)
        self.folder, self.device, self.threads = folder, device, threads
        self.device_name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
        self.checkpoint = folder / "checkpoint.pth"
        self.model = architectures.create(model_name).eval()
        torch.save(self.model.state_dict(), self.checkpoint)
        files.write_json(files.sidecar_path(self.checkpoint), {"model_name": model_name})
        export = common.load_command("export")
        self.images = export.photographs(model_name)
        self.graphs = {name: folder / f"{name}.onnx" for name in GRAPHS}
        for name, path in self.graphs.items():
            facts = export.export(model_name, self.checkpoint, path, 11, None, self.images, 1e-3, fused=name == "fused")
            self.macs = facts["macs"]
        self.calibration = folder / "calibration"
        self.calibration.mkdir()
        rows = [dataset.Row(index, dataset.bin_name(index), str(index), "0", 0, str(index)) for index in range(3)]
        for row, image in zip(rows, self.images, strict=True):
            image.tofile(self.calibration / row.bin)
        dataset.write_manifest(self.calibration / dataset.MANIFEST, rows)

    def contenders(self, batch_size: int) -> Running:
        """Everything that takes part at a batch size, to be entered."""
        return Running(self, batch_size)


class Running:
    """Opened engines and rivals, closed at the end of the block."""

    def __init__(self, work: Work, batch_size: int) -> None:
        self.work, self.batch_size = work, batch_size
        self.engines: list[backends.Engine] = []

    def __enter__(self) -> list[Contender]:
        found = [*self._rivals()]
        for (backend, precision), graph in itertools.product(ENGINES[self.work.device], GRAPHS):
            found += self._ours(backend, precision, graph)
        return found

    def __exit__(self, *exception: object) -> None:
        for engine in self.engines:
            engine.__exit__()

    def _rivals(self) -> list[Contender]:
        import torch

        device, on_cpu = self.work.device, self.work.device == "cpu"
        found = []
        dtypes = {"fp32": torch.float32} if on_cpu else {
            "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16
        }  # fmt: skip
        for precision, dtype in dtypes.items():
            model = self.work.model.to(device, dtype)
            compiled = torch.compile(model, dynamic=False, mode="default" if on_cpu else "max-autotune")
            for name, network in {"eager PyTorch": model, "torch.compile": compiled}.items():
                found.append(Contender(f"{name} {precision}", precision, self._torch(network, dtype)))
        if on_cpu:
            import onnxruntime

            path = self.work.graphs["reference"]
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            found.append(Contender(BASE, "fp32", _timing(lambda images: session.run(None, {"input": images}))))
        return found

    def _torch(self, network: Any, dtype: Any) -> Callable[[np.ndarray], float]:
        import torch

        device = self.work.device

        def run(images: np.ndarray) -> float:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                batch = torch.from_numpy(images).to(device, dtype)
                _synchronise(device)
                start = time.perf_counter()
                network(batch)
                _synchronise(device)
                return 1000 * (time.perf_counter() - start)

        return run

    def _ours(self, backend: str, precision: str, graph: str) -> list[Contender]:
        """Our engine, and the bare loop of the same runtime on the same file; none where this machine cannot."""
        module = backends.load(backend)
        from_checkpoint = module.compiles_from == "checkpoint"
        path = self.work.folder / f"{backend}-{precision}-{graph}-bs{self.batch_size}{module.suffix}"
        options = {"graph": graph, "device": self.work.device} if from_checkpoint else {}
        if precision == "int8":
            options["calibration"] = str(self.work.calibration)
        source = self.work.checkpoint if from_checkpoint else self.work.graphs[graph]
        cli.say(f"compiling {path.name}")
        try:
            common.load_command("compile").compile_engine(backend, precision, self.batch_size, source, path, options)
        except backends.EngineFailure as failure:
            cli.say(f"left out: {failure}")
            return []
        engine = backends.open_engine(path, backend=None, device=None, threads=self.work.threads)[2]
        engine.__enter__()
        self.engines.append(engine)
        name = f"{backend} {precision}, {graph} graph"
        bare = getattr(self, f"_bare_{backend}")(path)
        found = [Contender(OWN + name, precision, lambda images: engine.run(images)[1].compute_ms[0], bare)]
        if backend == "openvino":
            found.append(Contender(f"benchmark_app: {name}", precision, self._benchmark_app(path), warms_up=True))
        return found

    def _bare_onnxruntime(self, path: Path) -> Callable[[np.ndarray], float]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.work.threads
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return _timing(lambda images: session.run(None, {"input": images}))

    def _bare_openvino(self, path: Path) -> Callable[[np.ndarray], float]:
        import openvino

        properties = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": self.work.threads}
        properties["INFERENCE_PRECISION_HINT"] = _hint(path)
        request = openvino.Core().compile_model(path, "CPU", properties).create_infer_request()
        return _timing(lambda images: request.infer({0: images}, share_inputs=True))

    def _bare_aotinductor(self, path: Path) -> Callable[[np.ndarray], float]:
        import torch

        package = torch._inductor.aoti_load_package(str(path))
        return self._torch(package, torch.float32)

    def _benchmark_app(self, path: Path) -> Callable[[np.ndarray], float]:
        """One block is one process of benchmark_app: its median latency in ms."""
        tool = shutil.which("benchmark_app", path=str(Path(sys.executable).parent)) or "benchmark_app"
        command = [tool, "-m", str(path), "-d", "CPU", "-hint", "none", "-nstreams", "1", "-api", "sync", "-t", "3"]
        command += ["-nthreads", str(self.work.threads), "-infer_precision", _hint(path)]

        def run(images: np.ndarray) -> float:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            median = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
            if done.returncode or not median:
                raise cli.UserError(
                    f"benchmark_app failed: {' '.join(command)}: {done.stdout[-500:]}{done.stderr[-500:]}"
                )
            return float(median[1])

        return run


def _hint(path: Path) -> str:
    """The floating-point type of an OpenVINO engine, as it states it; int8 leaves the rest to it."""
    return files.read_json(files.sidecar_path(path), "the sidecar of an engine")["inference_precision"]


def _timing(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], float]:
    return lambda images: backends.timed(function, images)[1]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--model_name", default="smlpnet_tiny", help="an sMLPNet, with random weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what to compare on")
    parser.add_argument("--batch_sizes", type=cli.positive_int, nargs="+", help="1 8 32, on CUDA 1 8 64 256")
    parser.add_argument("--rounds", type=cli.positive_int, default=3, help="blocks of each")
    parser.add_argument("--block_s", type=cli.positive_number, default=2, help="length of a block")
    parser.add_argument("--output", type=Path, help="CSV to write; bench/results/engines-<device>.csv unless given")
    flags = parser.parse_args(argv)
    flags.batch_sizes = flags.batch_sizes or ([1, 8, 32] if flags.device == "cpu" else [1, 8, 64, 256])
    flags.output = flags.output or common.RESULTS / f"engines-{flags.device}.csv"
    return flags


if __name__ == "__main__":
    cli.run(main)
