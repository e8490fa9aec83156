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
import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.core.runs import RunFacts
from smlp.results import chain, outputs, statistics


class Prediction(NamedTuple):
    """predicted: top-1 class index; rank: position of the true label, 0 if top-1 is right."""

    index: int
    image: str
    label: int
    predicted: int
    rank: int


class Accuracy(NamedTuple):
    """Percent of the images, with the 95% Wilson interval of top-1."""

    images: int
    top1: float
    top5: float
    top1_wilson_low: float
    top1_wilson_high: float


class Flip(NamedTuple):
    """An image whose top-1 class the engine changed. kind: right_to_wrong, wrong_to_right or wrong_to_wrong."""

    image: str
    label: int
    reference: int
    predicted: int
    kind: str


class Changes(NamedTuple):
    """What the engine changed against the reference; all None if there is none. agreement: percent of the images."""

    agreement: float | None = None
    flips_right_to_wrong: int | None = None
    flips_wrong_to_right: int | None = None
    mcnemar_p: float | None = None
    drop_points: float | None = None
    drop_low_points: float | None = None
    drop_high_points: float | None = None
    margin_points: float | None = None
    verdict: str | None = None
    flips: list[Flip] | None = None

    def facts(self) -> Facts:
        """As they are written."""
        flips = None if self.flips is None else [flip._asdict() for flip in self.flips]
        return {**self._asdict(), "flips": flips}


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
    predictions, num_classes = predict(bins, results, run.num_classes)
    run = dataclasses.replace(run, num_classes=num_classes, engine_id=made.engine_id)
    accuracy = score(predictions)
    changes = compare(predictions, flags.reference, flags.margin_points) if flags.reference else Changes()
    if flags.predictions:
        write_predictions(flags.predictions, predictions)
    if flags.json:
        inputs = {f"labels_{number}": path for number, path in enumerate(flags.labels)}
        inputs.update({f"summary_{number}": path for number, path in enumerate(summaries)})
        if flags.reference:
            inputs["reference"] = flags.reference
        skipped = outputs.count_skipped(flags.labels)
        state = identity.state(
            "accuracy",
            {flags.predictions.suffix: files.digest(flags.predictions)} if flags.predictions else {},
            made_from={**made.ids, "reference": reference.id} if reference else made.ids,
            flags={"margin_points": flags.margin_points, "num_classes": num_classes, "images": images},
            code=code_digest("evaluate"),
            versions=provenance.versions(["numpy"]),
        )
        own = {**run.of_scores(), "reference_id": reference and reference.id, "skipped": skipped}
        own.update(**accuracy._asdict(), **changes.facts())
        files.write_json(flags.json, provenance.describe(inputs, packages=("numpy",), state=state, **own))
    print(f"acc1:{accuracy.top1 / 100:.4f}, acc5:{accuracy.top5 / 100:.4f}")
    if flags.reference:
        cli.say(
            f"{changes.verdict}: {changes.drop_points:+.3f} points lost against {flags.reference}, 95% interval "
            f"{changes.drop_low_points:+.3f} to {changes.drop_high_points:+.3f}, margin {flags.margin_points:g}"
        )


def predict(
    bins: Mapping[str, outputs.Bin], results: Mapping[str, Path], num_classes: int | None
) -> tuple[list[Prediction], int | None]:
    """Rank every image's classes; one result file, or a block of a large one, is in memory at a time.

    num_classes: None takes it from the first result. Returns the predictions, by index, and num_classes. Raises
    UserError for a result that is not (images, classes) finite numbers, and for a label that is no class.
    """
    predictions: list[Prediction] = []
    first: tuple[Path, np.dtype] | None = None
    for stem, held in bins.items():
        path = results[stem]
        labels = np.array([row.label for row in held.rows])
        done = 0
        for logits in outputs.read_logits(path, len(held.rows), num_classes):
            if first is None:
                first = (path, logits.dtype)
                num_classes = logits.shape[1]
            if logits.dtype != first[1]:
                raise UserError(
                    f"{path}: holds {logits.dtype} where {first[0]} holds {first[1]}; they are of two runs, or it is "
                    "cut off; run the inference again"
                )
            if labels.max() >= logits.shape[1]:
                row = held.rows[int(labels.argmax())]
                raise UserError(
                    f"{held.manifest}: image {row.image} has label {row.label} but the model has "
                    f"{logits.shape[1]} classes; score a model of this data set"
                )
            block = slice(done, done + len(logits))
            ranked = (values.tolist() for values in rank_labels(logits, labels[block]))
            for row, predicted, rank in zip(held.rows[block], *ranked):
                predictions.append(Prediction(row.index, row.image, row.label, predicted, rank))
            done += len(logits)
    return sorted(predictions), num_classes


def rank_labels(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 class and the label's rank (0 = best) of every image; equal scores rank by class index, lowest first.

    logits: (N, classes), any monotonic score; labels: int (N,). Returns two int (N,).
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    lower_index = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > own) | ((logits == own) & lower_index)).sum(axis=1)


def score(predictions: Sequence[Prediction]) -> Accuracy:
    """The accuracies of these images."""
    images = len(predictions)
    right = sum(prediction.rank == 0 for prediction in predictions)
    among_five = sum(prediction.rank < 5 for prediction in predictions)
    low, high = statistics.wilson_interval(right, images)
    return Accuracy(images, 100 * right / images, 100 * among_five / images, 100 * low, 100 * high)


def compare(predictions: Sequence[Prediction], reference_path: Path, margin_points: float) -> Changes:
    """What the engine changed, image by image.

    Raises UserError unless the reference covers the same images with the same labels.
    """
    reference = read_predictions(reference_path)
    surplus = reference.keys() - {prediction.image for prediction in predictions}
    if surplus:
        raise UserError(
            f"{reference_path}: holds {len(surplus)} images that were not scored here, {min(surplus)} for one; "
            "make the reference from the same manifests"
        )
    flips = []
    for found in predictions:
        wanted = reference.get(found.image)
        if wanted is None:
            raise UserError(f"{reference_path}: lacks image {found.image}; make the reference from the same manifests")
        if wanted.label != found.label:
            raise UserError(
                f"{reference_path}: gives image {found.image} label {wanted.label} but the manifest {found.label}; "
                "make the reference from the same manifests"
            )
        if wanted.predicted != found.predicted:
            kind = "right_to_wrong" if wanted.rank == 0 else "wrong_to_right" if found.rank == 0 else "wrong_to_wrong"
            flips.append(Flip(found.image, found.label, wanted.predicted, found.predicted, kind))
    drop = statistics.verdict(
        np.array([reference[found.image].rank == 0 for found in predictions]),
        np.array([found.rank == 0 for found in predictions]),
        margin_points,
    )
    return Changes(
        agreement=100 * (len(predictions) - len(flips)) / len(predictions),
        flips_right_to_wrong=drop.right_to_wrong,
        flips_wrong_to_right=drop.wrong_to_right,
        mcnemar_p=statistics.mcnemar_exact_p(drop.right_to_wrong, drop.wrong_to_right),
        drop_points=drop.drop_points,
        drop_low_points=drop.drop_low_points,
        drop_high_points=drop.drop_high_points,
        margin_points=margin_points,
        verdict=drop.verdict,
        flips=flips,
    )


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """One line per image, by index: index, image, label, predicted class, rank of the label.

    Names that are not UTF-8 keep their bytes.
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # as in manifests: Python before 3.13 does not quote a carriage return, which ends a line for readers
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(Prediction._fields)
    for prediction in predictions:
        (quoted if "\r" in prediction.image else plain).writerow(prediction)
    with files.whole_file(path) as partial:
        partial.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def read_predictions(path: Path) -> dict[str, Prediction]:
    """What `write_predictions` wrote, by image."""
    predictions: dict[str, Prediction] = {}
    for row in _rows(path):
        numbers = {column: _whole(path, row, column) for column in Prediction._fields if column != "image"}
        found = Prediction(image=row["image"], **numbers)
        if found.image in predictions or (found.rank == 0) != (found.predicted == found.label):
            raise UserError(f"{path}: contradicts itself about image {found.image}; evaluate the reference again")
        predictions[found.image] = found
    return predictions


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a table of predictions; it may have more columns."""
    what = "a --predictions table of evaluate.py"
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [column for column in Prediction._fields if column not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; {what} was expected")
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{path}: line {reader.line_num} has not the header's number of fields; make it again"
                    )
                yield row
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV file ({error}); {what} was expected") from None


def _whole(path: Path, row: dict[str, str], column: str) -> int:
    # isascii: int() also takes the digits of other scripts, which no program of ours writes
    if not (row[column].isascii() and row[column].isdigit() and len(row[column]) < 19):
        raise UserError(f"{path}: {column} {row[column]!r} of image {row['image']} is not a whole number of at least 0")
    return int(row[column])


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
        "--engine", type=Path, help="engine that must have made the results, or its sidecar; any unless given"
    )
    parser.add_argument("--margin_points", type=_points, default=1.0, help="top-1 drop that is still accepted")
    parser.add_argument("--num_classes", type=cli.positive_int, help="classes of the model; needed for .bin results")
    parser.add_argument("--model_label", help="the model's name in tables; the summary's unless given")
    parser.add_argument("--backend", help="runtime, if no summary says it")
    parser.add_argument("--precision", help="precision, if no summary says it")
    parser.add_argument("--variant", default="", help="name of the target's variant, if no summary says it")
    parser.add_argument("--batchsize", type=cli.positive_int, help="batch size, if no summary says it")
    parser.add_argument("--device", help="device, if no summary says it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
