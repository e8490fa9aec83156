"""Score inference results against the labels: top-1, top-5, and what the engine changed against a reference.

Reads result folders as infer.py or the real ais_bench write them (`<stem>_0.npy`, `.bin` or `.txt`, (1, classes) per
file, or (n, classes) if a bin holds n images or a whole shard) and the manifests of preprocess.py (columns index, bin,
image, label). A result belongs to the bin of the same stem, so labels never depend on the order of files. Every image
of the manifests must be there exactly once: a missing, surplus, cut-off or non-finite result is an error.

Prints `acc1:0.8125, acc5:0.9549`. With --json it also writes the figures with their intervals, with --predictions a
table that can be the --reference of another run.

  scripts/evaluate.py --infer_result_dir out/bs8 --labels bins/manifest.csv --reference pytorch.csv --json bs8.json

Equal scores rank by class index, lowest first. With C < 5 classes top-5 means top-C. It needs NumPy alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.runs import RunFacts
from smlp.results import chain, outputs, statistics
from smlp.results.comparison import Changes, compare
from smlp.results.mislabelled import explain
from smlp.results.predictions import Prediction, labels_and_predicted, predict, write_predictions


class Accuracy(NamedTuple):
    """Percent of the images, with the 95% Wilson interval of top-1."""

    images: int
    top1: float
    top5: float
    top1_wilson_low: float
    top1_wilson_high: float


def main(argv: Sequence[str] | None = None) -> int:
    evaluate(_parse(argv))
    return 0


@lock.hold("cpu", exclusive=False)
def evaluate(flags: argparse.Namespace) -> None:
    """Everything that the flags ask for."""
    given = RunFacts(
        model=flags.model_label,
        backend=flags.backend,
        precision=flags.precision,
        variant=flags.variant,
        batch=flags.batchsize,
        device=flags.device,
        num_classes=flags.num_classes,
    )
    chain.check_chain(flags.made_from, flags.sources_sha256)
    chain.check_images(flags.labels, flags.images_sha256)
    failure = outputs.find_failure(flags.infer_result_dir)
    if failure and not (flags.json and flags.reference):
        raise UserError(f"there are no results to score: {failure['failed']}")
    if failure:
        cli.say(f"no results to score: {failure['failed']}")
        run = RunFacts.read(failure["smlp"])
        chain.check_engine(run.engine_id, outputs.summary_of(flags.infer_result_dir[0]), flags.engine)
        run = dataclasses.replace(run, model=given.model or run.model, variant=run.variant or given.variant)
        files.write_json(flags.json, run.failure(failure["failed"]))
        return
    bins = outputs.read_bins(flags.labels)
    results = outputs.find_results(flags.infer_result_dir, bins)
    run, summaries = outputs.run_facts(flags.infer_result_dir, given)
    made = chain.of_outputs(flags.infer_result_dir, flags.labels, flags.engine)
    images = chain.images_of(bins.values())
    reference = None
    if flags.reference:
        reference = chain.of_reference(flags.reference, made, images, flags.infer_result_dir[0])
    dtype = flags.outputs_dtype and np.dtype(flags.outputs_dtype)
    given_form = outputs.Form(run.num_classes, dtype)
    form = outputs.read_form(summaries, flags.reference, flags.labels, given_form)
    predictions, num_classes = predict(bins, results, form)
    run = dataclasses.replace(run, num_classes=num_classes, engine_id=made.engine_id)
    accuracy = score(predictions)
    changes = compare(predictions, num_classes, flags.reference, flags.margin_points) if flags.reference else Changes()
    if flags.predictions:
        write_predictions(flags.predictions, predictions)
    if flags.json:
        inputs = {f"labels_{number}": path for number, path in enumerate(flags.labels)}
        inputs.update({f"summary_{number}": path for number, path in enumerate(summaries)})
        if flags.reference:
            inputs["reference"] = flags.reference
            figures = flags.reference.with_suffix(".json")
            inputs |= {"reference_figures": figures} if figures.exists() else {}
        skipped = outputs.count_skipped(flags.labels)
        state = identity.state(
            "accuracy",
            {flags.predictions.suffix: files.digest(flags.predictions)} if flags.predictions else {},
            made_from={**made.ids, "reference": reference.id} if reference else made.ids,
            flags={
                "margin_points": flags.margin_points,
                "num_classes": num_classes,
                "dtype": flags.outputs_dtype,
                "images": images,
            },
            code=code_digest("evaluate"),
            versions=provenance.versions(["numpy"]),
        )
        own = {**run.of_scores(), "reference_id": reference and reference.id, "skipped": skipped}
        own["classes_scored"] = len({prediction.label for prediction in predictions})
        own["transform"] = outputs.transform_of(flags.labels)
        own["images_of"] = outputs.images_of(flags.labels)
        own.update(**accuracy._asdict(), **changes.facts())
        files.write_json(flags.json, provenance.describe(inputs, packages=("numpy",), state=state, **own))
    print(f"acc1:{accuracy.top1 / 100:.4f}, acc5:{accuracy.top5 / 100:.4f}")
    limit = statistics.chance_limit_percent(num_classes)
    if not flags.reference and accuracy.top1 <= limit:
        cli.say(
            f"warning: {accuracy.top1:.4g} % top-1 is too close to guessing, of {num_classes} classes up to "
            f"{limit:.4g} % is; {explain(*labels_and_predicted(predictions), num_classes)}"
        )
    if flags.reference:
        cli.say(
            f"{changes.verdict or 'no verdict'}: {changes.drop_points:+.3f} points lost against {flags.reference}, "
            f"95% interval {changes.drop_low_points:+.3f} to {changes.drop_high_points:+.3f}, "
            f"margin {flags.margin_points:g}" + (f"; {changes.verdict_reason}" if changes.verdict_reason else "")
        )


def score(predictions: Sequence[Prediction]) -> Accuracy:
    """The accuracies of these images."""
    images = len(predictions)
    right = sum(prediction.rank == 0 for prediction in predictions)
    among_five = sum(prediction.rank < 5 for prediction in predictions)
    low, high = statistics.wilson_interval(right, images)
    return Accuracy(images, 100 * right / images, 100 * among_five / images, 100 * low, 100 * high)


def _manifest(text: str) -> Path:
    path = Path(text)
    return path / "manifest.csv" if path.is_dir() else path


def _points(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percentage points between 0 and 100")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--infer_result_dir", type=Path, nargs="+", required=True, help="folders of results, one per shard or device"
    )
    parser.add_argument(
        "--labels", type=_manifest, nargs="+", required=True, help="manifest.csv of every shard, or its folder"
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--predictions", type=Path, help="file for the prediction of every image")
    parser.add_argument("--reference", type=Path, help="the --predictions of the reference, to compare with")
    parser.add_argument(
        "--made_from",
        type=Path,
        nargs="*",
        default=[],
        metavar="SIDECAR",
        help="sidecars of all that engine and bins come from, which must have been made from one another",
    )
    parser.add_argument(
        "--sources_sha256", nargs="*", default=[], help="checksums of files outside that they must start from"
    )
    parser.add_argument(
        "--images_sha256", nargs="*", default=[], help="digest of the images outside, one per manifest of --labels"
    )
    parser.add_argument(
        "--engine", type=Path, help="engine that must have made the results, or its sidecar; any unless given"
    )
    parser.add_argument("--margin_points", type=_points, default=1.0, help="top-1 drop that is still accepted")
    parser.add_argument("--num_classes", type=cli.positive_int, help="classes of the model, if nothing else says it")
    parser.add_argument(
        "--outputs_dtype", choices=("float32", "float16"), help="type of .bin results, if nothing says how many classes"
    )
    parser.add_argument("--model_label", help="the model's name in tables; the summary's unless given")
    parser.add_argument("--backend", help="runtime, if no summary says it")
    parser.add_argument("--precision", help="precision, if no summary says it")
    parser.add_argument("--variant", default="", help="name of the target's variant, if no summary says it")
    parser.add_argument("--batchsize", type=cli.positive_int, help="batch size, if no summary says it")
    parser.add_argument("--device", help="device, if no summary says it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
