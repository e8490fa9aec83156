"""What many verdicts say together: how many were given, the chance of a false pass, and Holm's way to judge them."""

from __future__ import annotations

import pandas

from ..core.cli import UserError
from .columns import rows
from .reader import Target

# One-sided level of a verdict: that of the bound of a 95% interval.
ALPHA = 0.025
FAMILYWISE = ("none", "holm")

_ROW = ["model", *Target._fields, "batch"]


def judge_together(accuracy: pandas.DataFrame, flips: pandas.DataFrame) -> pandas.DataFrame:
    """The accuracy table with verdicts that hold together: passes are false with a chance of ALPHA at most, so fails.

    Holm 1979, Scandinavian Journal of Statistics 6:65-70, over the p values of the score test; engines that predict
    the same are one test. Verdicts for another reason than the drop stay. Raises UserError for a row without p values.
    """
    from statsmodels.stats.multitest import multipletests  # takes a second, and few tables need it

    found = _given(accuracy, flips)
    for row in rows(found[found["noninferiority_p"].isna() | found["inferiority_p"].isna()]):
        target = Target(row.backend, row.precision, row.variant)
        raise UserError(
            f"--familywise holm: {row.model}, {target}, batch size {row.batch} has no one-sided p values; evaluate it "
            "again"
        )
    judged = accuracy.copy()
    judged.loc[found.index, "verdict"] = "undecided"
    for column, verdict in (("inferiority_p", "fail"), ("noninferiority_p", "pass")):
        of_test = found.groupby("same")[column].first()
        rejected = multipletests(of_test, alpha=ALPHA, method="holm")[0] if len(of_test) else []
        judged.loc[found.index[found["same"].isin(of_test.index[rejected])], "verdict"] = verdict
    return judged


def multiplicity_notes(accuracy: pandas.DataFrame, flips: pandas.DataFrame, familywise: str) -> list[str]:
    """How many verdicts the table gives, and how likely one of them is a false pass; nothing if it gives none.

    The chance 1 - (1 - ALPHA)^n is that of independent tests, and at most that of tests on the same images, which
    depend on each other positively (Sidak 1967, Journal of the American Statistical Association 62:626-633).
    """
    found = _given(accuracy, flips)
    given, tests = len(found), found["same"].nunique()
    if not given:
        return []
    note = f"verdicts: {given} {'was' if given == 1 else 'were'} given"
    note += f", on {tests} different sets of predictions" if tests < given else ""
    if familywise == "holm":
        return [
            f"{note}, judged together by Holm's method: if every engine lost exactly the margin, the chance of a false "
            f"pass among them would be at most {100 * ALPHA:.1f} %."
        ]
    return [
        f"{note}, each by itself: if every engine lost exactly the margin, the chance of at least one false pass would "
        f"be at most {100 * (1 - (1 - ALPHA) ** tests):.1f} %. accuracy.familywise: holm judges them together."
    ]


def _given(accuracy: pandas.DataFrame, flips: pandas.DataFrame) -> pandas.DataFrame:
    """The rows whose verdict rests on their drop, with a column `same`: equal if their predictions are.

    flips: every image that a row predicts otherwise than the reference. A row of which they are not known, though
    some were counted, is taken for different from all others.
    """
    by_drop = accuracy["verdict"].isin(("pass", "fail", "undecided")) & accuracy["verdict_reason"].isna()
    found = accuracy[by_drop & ~accuracy["is_reference"]].copy()
    changed: dict[tuple, list] = {}
    for row in rows(flips):
        changed.setdefault(tuple(getattr(row, name) for name in _ROW), []).append((row.image, row.predicted))
    same = []
    for place, row in zip(found.index, rows(found)):
        known = changed.get(tuple(getattr(row, name) for name in _ROW), [])
        counted = None if row.agreement is None else round(row.images * (1 - row.agreement / 100))
        alike = (row.model, row.images, row.margin_points, *sorted(known))
        same.append(str(alike) if len(known) == counted else f"row {place}")
    found["same"] = pandas.Series(same, index=found.index, dtype="string")
    return found
