"""Every column of the tables, stated once: frames, CSV, Parquet, the page and the checks of files follow it.

To add a column, add one `Column` to its table below, and compute it: by the command whose result file holds the key,
or by the module that makes the table.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas

PERCENTILES = ("p50", "p90", "p95", "p99")
# Ways of running an engine: one request at a time, or several at once.
LATENCY_WAY, THROUGHPUT_WAY = "latency", "throughput"

_PANDAS_DTYPES = {"json": "string", "list": "string"}
_JSON_TYPES = {
    "string": "string",
    "Int64": "integer",
    "Float64": "number",
    "boolean": "boolean",
    "json": "object",
    "list": "array",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    name: in frames; also the key in a result file that holds it.
    dtype: nullable dtype of pandas, or "json" or "list": a mapping or a list as JSON text.
    unit: of the values. A percentage whose name does not say so gets the suffix _percent in CSV and Parquet.
    header: in tables for people; only columns with a header are shown there.
    format: format specification of a cell for people.
    legend: what the page says under "How to read this", under `term`, or else under the header without its unit.
    upper: name of the column with the upper end, if a cell shows an interval.
    after: name of the column that it follows in tables for people, if that is not the one before it here.
    optional: not shown for people if no row has a value (empty texts and counts of 0 are none).
    """

    name: str
    dtype: str
    unit: str = ""
    header: str = ""
    format: str = ""
    legend: str = ""
    term: str = ""
    upper: str = ""
    after: str = ""
    optional: bool = False

    @property
    def title(self) -> str:
        """Its name in CSV and Parquet."""
        return f"{self.name}_percent" if self.unit == "percent" and "percent" not in self.name else self.name

    @property
    def json_type(self) -> str:
        """The type of its values in a result file, as JSON Schema names it."""
        return _JSON_TYPES[self.dtype]


MODEL = Column("model", "string", header="model")
BACKEND = Column("backend", "string", header="backend")
PRECISION = Column("precision", "string", header="precision")
VARIANT = Column("variant", "string", header="variant", optional=True)
BATCH = Column("batch", "Int64", "images", header="batch size")
DEVICE = Column("device", "string")
EMULATED = Column(
    "emulated",
    "boolean",
    term="(emulated)",
    legend="an emulator stood in for the device: it says nothing about the device's speed.",
)
FAILED = Column(
    "failed",
    "string",
    term="failed",
    legend="could not be compiled, run or measured here; the note with its number says why. The rest went on.",
)
CONDITIONS = Column("conditions", "string")
OTHER_CONDITIONS = Column(
    "other_conditions",
    "string",
    legend="measured under other conditions than most rows of the model: another host, other threads or versions. It "
    "enters no ratio and no best row with the others; the note says what differs, and how to measure it again.",
    term="†",
)
CEILING = Column(
    "ceiling_percent",
    "Float64",
    "percent",
    "% of ceiling",
    ".1f",
    "images/s as a share of what the device allows at most: the lower of the roof of computing (matrix products in "
    "this precision, as measured here or on the data sheet) and that of moving parameters and tensors (bandwidth). "
    "Roof says which of the two binds. See the table of ceilings and the roofline.",
    optional=True,
)
ROOF = Column("roof", "string", header="roof", optional=True)
IMPLAUSIBLE = Column(
    "implausible",
    "string",
    legend="implausible: above its ceiling, flat latency over batch sizes, int8 slower than half of fp32, or equal to "
    "an unlike row. It enters no ratio and is no best row; the note with its number says why.",
    term="‡",
)
ENGINE = Column("engine_id", "string")

ACCURACY = (
    MODEL,
    BACKEND,
    PRECISION,
    VARIANT,
    BATCH,
    DEVICE,
    EMULATED,
    Column("is_reference", "boolean"),
    FAILED,
    Column("images", "Int64", "images", "images"),
    Column("images_of", "Int64", "images"),
    Column("skipped", "Int64", "images", "skipped", optional=True),
    Column("num_classes", "Int64", "classes"),
    Column("classes_scored", "Int64", "classes"),
    Column("transform", "string"),
    Column(
        "top1",
        "Float64",
        "percent",
        "top-1 (%)",
        ".2f",
        "share of images whose label is the engine's first guess, or among its first five.",
        term="top-1, top-5",
    ),
    Column("top5", "Float64", "percent", "top-5 (%)", ".2f"),
    Column(
        "top1_wilson_low",
        "Float64",
        "percent",
        "95% interval (%)",
        ".2f",
        "Wilson's interval of top-1: where it would lie on other images of the same kind.",
        upper="top1_wilson_high",
        after="top1",
    ),
    Column("top1_wilson_high", "Float64", "percent"),
    Column(
        "agreement",
        "Float64",
        "percent",
        "agreement (%)",
        ".2f",
        "share of images with the same top-1 class as the reference, right or wrong.",
    ),
    Column(
        "flips_right_to_wrong",
        "Int64",
        "images",
        "flips right → wrong",
        legend="images that the reference got right and the engine wrong, and the reverse.",
        term="flips",
    ),
    Column("flips_wrong_to_right", "Int64", "images", "flips wrong → right"),
    Column(
        "mcnemar_p",
        "Float64",
        "probability",
        "McNemar p",
        ".3g",
        "chance of flips at least as one-sided as these if engine and reference were equally good (exact).",
    ),
    Column(
        "drop_points",
        "Float64",
        "points",
        "reference → engine (points)",
        "+.2f",
        "top-1 of the reference minus that of the engine on the same images, in points, with Tango's 95% interval "
        "for paired proportions. Positive = the engine is worse.",
        term="drop",
    ),
    Column("drop_low_points", "Float64", "points", "95% interval (points)", "+.2f", upper="drop_high_points"),
    Column("drop_high_points", "Float64", "points"),
    Column("margin_points", "Float64", "points"),
    Column("noninferiority_p", "Float64", "probability"),
    Column("inferiority_p", "Float64", "probability"),
    Column(
        "verdict",
        "string",
        header="verdict",
        legend="pass: the whole interval of the drop lies below the margin; fail: it lies above, or the engine agrees "
        "with the reference on less than half of the images; undecided: too few images to tell; none: the reference "
        "is too close to guessing to judge anything by it.",
    ),
    Column("verdict_reason", "string"),
    Column("published_top1", "Float64", "percent"),
    Column("published_device", "string"),
    Column(
        "published_to_reference_drop_points",
        "Float64",
        "points",
        "published → reference (points)",
        "+.2f",
        "published top-1 minus that of the reference: the share of weights and preprocessing. The drop above is the "
        "share of conversion.",
        after="top5",
        optional=True,
    ),
    ENGINE,
)

DECISION = (
    Column(
        "rule",
        "string",
        legend="the highest images/s of a device and precision among all engines, batch sizes and ways whose verdict "
        "at that batch size is pass, or which are the reference. A faster one that its verdict kept out is named. "
        "Within a limit: whose latency of a batch, at the same percentile of all rows, is at most that too.",
        term="best row",
    ),
    Column("latency_ms_max", "Float64", "ms"),
    replace(MODEL, header=""),
    replace(DEVICE, header="device"),
    EMULATED,
    PRECISION,
    VARIANT,
    replace(BACKEND, header="engine"),
    Column("way", "string", header="way"),
    BATCH,
    Column("requests", "Int64", "requests"),
    Column("stable", "boolean"),
    Column("images_per_s", "Float64", "images/s", "images/s", ".1f"),
    Column("images_per_s_low", "Float64", "images/s", "95% interval (images/s)", ".1f", upper="images_per_s_high"),
    Column("images_per_s_high", "Float64", "images/s"),
    Column(
        "confirmed_images_per_s",
        "Float64",
        "images/s",
        "confirmed (images/s)",
        ".1f",
        "measured again: each load a fresh process, in turn with other rows within 5% of the fastest and with the best "
        "of the reference. The fastest of many rows wins partly by luck; this figure does not.",
        term="confirmed",
        optional=True,
    ),
    Column(
        "confirmed_images_per_s_low",
        "Float64",
        "images/s",
        "95% interval, confirmed (images/s)",
        ".1f",
        upper="confirmed_images_per_s_high",
        optional=True,
    ),
    Column("confirmed_images_per_s_high", "Float64", "images/s"),
    Column("confirmed_loads", "Int64", "loads"),
    Column("confirmed_stable", "boolean"),
    Column("confirmed_disturbed", "string"),
    Column("latency_ms", "Float64", "ms", "latency (ms)", ".3f"),
    Column("latency_percentile", "string"),
    Column("verdict", "string"),
    Column("top1", "Float64", "percent", "top-1 (%)", ".2f"),
    Column("drop_points", "Float64", "points", "drop (points)", "+.2f"),
    replace(CEILING, legend=""),
    ROOF,
    Column("reference", "string"),
    Column("reference_images_per_s", "Float64", "images/s"),
    Column("reference_stable", "boolean"),
    Column("ratio_stable", "boolean"),
    Column("ratio_confirmed", "boolean"),
    Column(
        "ratio_to_reference",
        "Float64",
        header="ratio to best",
        format=".2f",
        legend="images/s over the best that the reference reached at any batch size; not of an emulator.",
    ),
    Column("fastest_of_model", "boolean"),
    CONDITIONS,
    replace(OTHER_CONDITIONS, legend=""),
    Column("note", "string"),
)

FLIPS = (
    MODEL,
    BACKEND,
    PRECISION,
    VARIANT,
    replace(BATCH, header="batch"),
    Column("kind", "string", header="kind"),
    Column("image", "string", header="image"),
    Column("label", "Int64", "class index", "label"),
    Column("reference", "Int64", "class index", "reference"),
    Column("predicted", "Int64", "class index", "predicted"),
)


def frame(columns: Sequence[Column], facts: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """A typed frame with one row per mapping, from the keys that have the columns' names; absent ones are NA."""
    values = {column.name: [_plain(one.get(column.name)) for one in facts] for column in columns}
    return typed(columns, pandas.DataFrame(values, dtype=object))


def typed(columns: Sequence[Column], table: pandas.DataFrame) -> pandas.DataFrame:
    """`table` with these columns and no others, in their order and with their dtypes; a column it lacks is NA."""
    dtypes = {column.name: _PANDAS_DTYPES.get(column.dtype, column.dtype) for column in columns}
    return table.reindex(columns=list(dtypes)).astype(dtypes)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def printable(text: str) -> str:
    r"""`text` as UTF-8 can hold it: the name of a file may have bytes that are no text, which then read \udce9."""
    return text.encode("utf-8", "backslashreplace").decode()


def rows(table: pandas.DataFrame) -> Iterator[Any]:
    """The rows as named tuples of plain values; NA is None."""
    # by columns, since pandas takes three times as long to bring all of them to one dtype first
    columns = (zip(column.tolist(), column.isna()) for _, column in table.items())
    values = ([None if missing else value for value, missing in column] for column in columns)
    return map(collections.namedtuple("Row", table.columns, rename=True)._make, zip(*values))


def unique(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions, in the order of their first appearance."""
    return list(dict.fromkeys(values))
