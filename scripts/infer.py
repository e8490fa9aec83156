"""Run an engine over preprocessed images: the accuracy pass.

Files and summary are those of ais_bench, for every backend: `<output>/<output_dirname>/<stem>_0.npy`, one per file of
--input, shape (its images, classes), and `<output_dirname>_summary.json` beside the folder. A short last batch is
padded with its first image; the outputs of the padding are dropped. The folder appears when it is complete.

  scripts/infer.py --model bs8.onnx --input bins/ --output out/ --output_dirname bs8 --outfmt NPY

Without --input the engine runs once on made-up data, as ais_bench does. Needs NumPy and the backend's runtime.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smlp import backends
from smlp.backends.base import Engine, EngineFailure, Timings, batch_size_of, failure_record
from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.core.tensor import TensorInfo
from smlp.data import arrays, bins, manifest
from smlp.results import aisbench

# the files of a result folder; one with anything else in it is not ours to replace
OWN_FILES = r".+_\d+\.(npy|bin|txt)"
# what outputs are named after if there is no --input, as ais_bench does
_MADE_UP = Path("pure_infer_data")


# Significant digits from which a reader gets back the same float, by its bytes (IEEE 754-2019, 5.12.2).
_DIGITS = {2: 5, 4: 9, 8: 17}


class Done(NamedTuple):
    """What a run leaves. made: one entry per input file, its outfiles by their names alone; images: without padding;
    outputs: name, dtype and shape of what a batch gave."""

    timings: Timings
    made: list[aisbench.Entry]
    images: int
    outputs: list[Facts]


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    if flags.output_dirname and not flags.output:
        raise UserError("--output_dirname needs --output, the folder to make it in")
    folder = flags.output and flags.output / (flags.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S"))
    try:
        report = infer(flags, folder)
    except EngineFailure as failure:
        if not (flags.record_failure and folder):
            raise
        cli.say(f"no results: {failure}")
        report = failure_record(failure, flags)
        with files.whole_folder(folder, OWN_FILES):
            summary_of(folder).unlink(missing_ok=True)
    else:
        aisbench.print_summary(report, report["smlp"]["batch"], flags.display_all_summary)
    if folder:
        files.write_json(summary_of(folder), report)
    return 0


def summary_of(folder: Path) -> Path:
    """The summary of a result folder. An old one goes before the folder gets its name: it is not of these outputs."""
    return folder.with_name(folder.name + "_summary.json")


def infer(flags: argparse.Namespace, folder: Path | None) -> Facts:
    """Run the engine over the images, its results into `folder`; returns the summary."""
    first, *more = flags.device.split(",") if flags.device else [None]
    backend, sidecar, engine = backends.open_engine(
        flags.model, backend=flags.backend, device=first, threads=flags.threads
    )
    asked = RunFacts.asked(flags, sidecar)
    engines = {engine.device: engine}
    for device in more:
        engine = backend.open(flags.model, device=device, threads=flags.threads, facts=sidecar)
        engines[engine.device] = engine
    # the CPU has room for several processes, a device is for one alone
    with lock.hold(*engines, exclusive=engine.device != "cpu") as device, engines[device] as engine:
        taken_at = provenance.now()
        batch_size = batch_size_of(engine, flags.batchsize)
        inputs = None if flags.input is None else bins.find(flags.input)
        made_from = bins.made_from(inputs or [])
        _, *classes = engine.outputs[0].shape
        if inputs and len(classes) == 1:
            manifest.require_classes({path.parent for path in inputs}, classes[0], f"the engine {flags.model}")
        if folder is None:
            done, content = _run(engine, batch_size, inputs, None, flags), {}
        else:
            with files.whole_folder(folder, OWN_FILES) as partial:
                done = _run(engine, batch_size, inputs, partial, flags)
                content = identity.contents(partial)
                summary_of(folder).unlink(missing_ok=True)
        run = aisbench.facts_of_run(asked, backend, engine, batch_size)
        deciding = {"outfmt": flags.outfmt, "made_up": None if inputs else flags.pure_data_type}
        state = aisbench.state_of_run(
            "infer", "outputs", content, run, backend, engine, made_from, deciding, dict(flags.env)
        )
        made = [entry._replace(outfiles=[str(folder / name) for name in entry.outfiles]) for entry in done.made]
        report = aisbench.summary(done.timings, batch_size, made)
        report["smlp"] = provenance.describe(
            packages=backend.packages,
            state=state,
            **run.of_engine(),
            settings=engine.settings,
            environment=dict(flags.env),
            images=done.images,
            outputs=done.outputs,
            device_taken_at=taken_at,
            device_released_at=provenance.now(),
        )
    return report


def _run(
    engine: Engine, batch_size: int, inputs: list[Path] | None, folder: Path | None, flags: argparse.Namespace
) -> Done:
    """All batches through the engine, outputs into `folder`."""
    info = engine.inputs[0]
    if inputs is None:
        counts = {_MADE_UP: batch_size}
        batches = iter([bins.Batch(_made_up(info, batch_size, flags.pure_data_type), [(_MADE_UP, batch_size)])])
    else:
        _refuse_collisions(inputs)
        batches = bins.batches(inputs, info, batch_size)
        counts = {path: bins.count(path, info) for path in inputs}
    total_images = sum(counts.values())
    timings, made, images, stated = Timings([], [], []), [], 0, []
    started = said = time.monotonic()
    current = None
    for index, batch in enumerate(batches):
        for _ in range(flags.warmup_count if index == 0 else 0):
            engine.run(batch.images)
        for _ in range(flags.loop):
            outputs, new_timings = engine.run(batch.images)
            for have, new in zip(timings, new_timings):
                have.extend(new)
        stated = stated or [
            {"name": output_info.name, "dtype": str(output.dtype), "shape": list(output.shape)}
            for output_info, output in zip(engine.outputs, outputs)
        ]
        first = 0
        for path, size in batch.parts:
            if path != current:
                current = path
                stem = path.name.split(".")[0]  # as ais_bench: up to the first dot
                names = [f"{stem}_{number}.{flags.outfmt.lower()}" for number in range(len(outputs))]
                made.append(aisbench.Entry([str(path)] if inputs else [], names if folder else []))
            for name, output in zip(made[-1].outfiles, outputs):
                _append(folder / name, output[first : first + size], counts[path])
            first += size
        images += first
        if time.monotonic() - said > 10:
            said = time.monotonic()
            rate = images / (said - started)
            cli.say(
                f"{images} of {total_images} images, {rate:.1f} images/s, {(total_images - images) / rate:.0f} s left"
            )
    return Done(timings, made, images, stated)


def _refuse_collisions(inputs: Sequence[Path]) -> None:
    # ais_bench cuts names at the first dot and lets the second file win in silence; we refuse that
    seen: dict[str, Path] = {}
    for path in inputs:
        stem = path.name.split(".")[0]
        if stem in seen:
            raise UserError(
                f"{path}: its output would overwrite that of {seen[stem].name}; "
                "rename one, names count up to the first dot"
            )
        seen[stem] = path


def _made_up(info: TensorInfo, batch_size: int, kind: str) -> np.ndarray:
    shape = (batch_size, *info.shape[1:])
    if kind == "zero":
        return np.zeros(shape, info.dtype)
    # ais_bench fills in random bytes, among which floats that are NaN; ours are images
    values = np.random.default_rng(0).uniform(0, 255 if info.dtype == np.uint8 else 1, shape)
    return values.astype(info.dtype)


def _append(path: Path, rows: np.ndarray, of: int) -> None:
    """Write the next outputs into a file that is to hold those of `of` images."""
    with open(path, "ab") as stream:
        if path.suffix == ".txt":
            # ais_bench writes %f, which makes small scores of a softmax equal
            form = f"%.{_DIGITS[rows.dtype.itemsize]}g " if rows.dtype.kind == "f" else "%d "
            lines = rows.reshape(-1, rows.shape[-1])
            stream.write("".join("".join(form % value for value in line) + "\n" for line in lines).encode("ascii"))
            return
        if path.suffix == ".npy" and not stream.tell():
            stream.write(arrays.header_bytes(rows.dtype, (of, *rows.shape[1:])))
        stream.write(np.ascontiguousarray(rows).data)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    aisbench.add_engine_flags(parser)
    parser.add_argument("--input", help="folder of .bin files or of a packed shard's .npy, or a comma list of files")
    parser.add_argument("--output", type=Path, help="folder for the result folder; nothing is written without it")
    parser.add_argument("--output_dirname", help="name of the result folder; a time stamp unless given")
    parser.add_argument("--outfmt", type=str.upper, choices=("NPY", "BIN", "TXT"), default="BIN", help="output format")
    parser.add_argument("--loop", type=cli.positive_int, default=1, help="executions per batch")
    parser.add_argument("--warmup_count", type=cli.count, default=1, help="untimed executions before the first batch")
    parser.add_argument(
        "--pure_data_type", choices=("zero", "random"), default="zero", help="data if --input is absent"
    )
    parser.add_argument("--display_all_summary", action="store_true", help="print the transfer times too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
