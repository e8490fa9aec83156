"""What an engine changed against the reference, and the verdict. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.cli import UserError
from ..core.provenance import Facts
from . import statistics
from .mislabelled import explain
from .predictions import Prediction, labels_and_predicted, read_predictions

# An engine that says what the reference says less often than this has computed something else.
MIN_AGREEMENT_PERCENT = 50.0


class Flip(NamedTuple):
    """An image whose top-1 class the engine changed. kind: right_to_wrong, wrong_to_right or wrong_to_wrong."""

    image: str
    label: int
    reference: int
    predicted: int
    kind: str


class Changes(NamedTuple):
    """What the engine changed against the reference; all None if there is none. agreement: percent of the images.

    verdict: None also if none can be given. verdict_reason: why, or why it is not what the interval of the drop says.
    """

    agreement: float | None = None
    flips_right_to_wrong: int | None = None
    flips_wrong_to_right: int | None = None
    mcnemar_p: float | None = None
    drop_points: float | None = None
    drop_low_points: float | None = None
    drop_high_points: float | None = None
    margin_points: float | None = None
    noninferiority_p: float | None = None
    inferiority_p: float | None = None
    verdict: str | None = None
    verdict_reason: str | None = None
    flips: list[Flip] | None = None

    def facts(self) -> Facts:
        """As they are written."""
        flips = None if self.flips is None else [flip._asdict() for flip in self.flips]
        return {**self._asdict(), "flips": flips}


def compare(predictions: Sequence[Prediction], num_classes: int, reference_path: Path, margin_points: float) -> Changes:
    """What the engine changed, image by image.

    num_classes: of the model. Raises UserError unless the reference covers the same images with the same labels.
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
    right = np.array([reference[found.image].rank == 0 for found in predictions])
    drop = statistics.verdict(right, np.array([found.rank == 0 for found in predictions]), margin_points)
    agreement = 100 * (len(predictions) - len(flips)) / len(predictions)
    verdict, reason = judge(drop.verdict, 100 * float(right.mean()), agreement, num_classes)
    if verdict is None:
        same = [reference[found.image] for found in predictions]
        reason += f"; {explain(*labels_and_predicted(same), num_classes)}"
    return Changes(
        agreement=agreement,
        flips_right_to_wrong=drop.right_to_wrong,
        flips_wrong_to_right=drop.wrong_to_right,
        mcnemar_p=statistics.mcnemar_exact_p(drop.right_to_wrong, drop.wrong_to_right),
        drop_points=drop.drop_points,
        drop_low_points=drop.drop_low_points,
        drop_high_points=drop.drop_high_points,
        margin_points=margin_points,
        noninferiority_p=drop.noninferiority_p,
        inferiority_p=drop.inferiority_p,
        verdict=verdict,
        verdict_reason=reason,
        flips=flips,
    )


def judge(verdict: str, reference_top1: float, agreement: float, num_classes: int) -> tuple[str | None, str | None]:
    """The verdict on a drop where such a verdict means something, and why it is another one or none.

    reference_top1, agreement: percent of the images. A reference that does no better than guessing has nothing to
    lose, so that an engine which computes noise would pass.
    """
    limit = statistics.chance_limit_percent(num_classes)
    if reference_top1 <= limit:
        return None, (
            f"the reference itself has only {reference_top1:.4g} % top-1; of {num_classes} classes up to {limit:.4g} % "
            "is too close to guessing, nothing can be lost"
        )
    if agreement < MIN_AGREEMENT_PERCENT:
        return "fail", f"only {agreement:.4g} % of the images have the reference's top-1 class, less than half"
    return verdict, None
