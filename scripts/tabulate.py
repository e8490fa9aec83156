"""Make the two tables, the plots and the report from what evaluate.py and measure.py found.

Reads the JSON files of evaluate.py (--accuracy) and measure.py (--throughput) and the published figures. Models and
targets (backend, precision, variant) appear in the order of the files. Writes into --output_dir:
  answer.md                     in words: what to deploy on each device, and what keeps that from being certain
  accuracy.csv, .parquet        one row per model, target and batch size, with two separate drops:
                                published -> reference (weights, preprocessing), reference -> engine (conversion)
  accuracy.md                   of these one row per engine, if all its batch sizes do the same
  throughput.csv, .parquet      one row per model, target, batch size and way of running, with all that was measured
  throughput.md                 the model-zoo guide's table for each model: batch sizes down, targets across; the best
                                row per device and precision whose accuracy holds; ratios;
                                what others published
  decision.csv, .parquet        those best rows, and with --latency_ms_max those that stay within it too
                                (--confirmed: as they were measured again)
  tradeoff.png, .svg            accuracy against speed, each engine at its best batch size
  throughput.png, .svg          images/s against batch size
  latency.png, .svg             latency percentiles against batch size
  profile.csv, .parquet, .md    every operator of the engines that profile_engine.py profiled (--profile)
  sustained.png, .svg           rate, temperature, clock and power over time, of sustain.py's runs (--sustained)
  roofline.png, .svg            operations a second against operations per byte, under the device's roofs
  flips.csv, .parquet           every image whose top-1 class the engine changed
  report.html                   all of it in one file
The same files give the same tables and plots, byte for byte. --print shows the answer and both tables.
With --history the sweep is added to a folder of finished sweeps, and the page says what changed since the last one.

  scripts/tabulate.py --accuracy acc/*.json --throughput perf/*.json --output_dir results/tables --print

resources/results.schema.yaml states the format of the files; smlp/results/columns.py states every column.
A file {"failed": "reason", "smlp": {"model", "backend", "precision", "batch"}} shows as a failed cell.
If a runtime also ran several requests at once (`throughput_way` of measure.py), that is a row and a column too.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas

from smlp import backends
from smlp.core import cli, files, lock
from smlp.core.cli import UserError
from smlp.core.provenance import Facts
from smlp.results import best, finished, history, plausibility, roofs, series, sustained_tables
from smlp.results.accuracy import (
    lost_batches,
    make_accuracy,
    make_accuracy_details,
    make_accuracy_tables,
    make_flips,
    published_notes,
)
from smlp.results.answer import make_answers
from smlp.results.answer import markdown as answer_text
from smlp.results.columns import ACCURACY, DECISION, FLIPS, frame, printable, unique
from smlp.results.confirmed import read_confirmed
from smlp.results.decision import make_decision, make_decision_table
from smlp.results.plots import plot_latency, plot_roofline, plot_sustained, plot_throughput, render
from smlp.results.profiles import PROFILE, make_profile, make_profile_tables
from smlp.results.reader import (
    Target,
    check_join,
    choose_published,
    read_accuracy,
    read_profiles,
    read_published,
    read_sustained,
    read_throughput,
)
from smlp.results.report import Section, csv_text, make_report, markdown, parquet_bytes
from smlp.results.throughput import make_detail_table, make_lines, make_throughput, make_throughput_tables
from smlp.results.throughput_columns import THROUGHPUT
from smlp.results.tradeoff import plot_tradeoff
from smlp.results.verdicts import FAMILYWISE, judge_together, multiplicity_notes

_PUBLISHED = Path(__file__).resolve().parents[1] / "resources" / "published.csv"


def main(argv: Sequence[str] | None = None) -> int:
    tabulate(_parse(argv))
    return 0


@lock.hold("cpu", exclusive=False)
def tabulate(flags: argparse.Namespace) -> None:
    """Everything that the flags ask for."""
    if not flags.accuracy + flags.throughput:
        raise UserError(
            "nothing to tabulate; name files of evaluate.py with --accuracy, of measure.py with --throughput"
        )
    of_accuracy, of_throughput = read_accuracy(flags.accuracy), read_throughput(flags.throughput)
    check_join(of_accuracy, of_throughput)
    models = unique(record.model for record in of_accuracy + of_throughput)
    published = choose_published(read_published(flags.published), models, flags.published_name)
    reference = Target(flags.reference_backend, flags.reference_precision)
    own_references = {model: Target(backend, flags.reference_precision) for model, backend in flags.reference_of}

    accuracy, flips = make_accuracy(of_accuracy, reference, published, own_references), make_flips(of_accuracy)
    if flags.familywise == "holm":
        accuracy = judge_together(accuracy, flips)
    ceilings = roofs.read(flags.ceilings, flags.graphs, flags.ceiling_sheet, flags.chip)
    over = [ceilings.of_record(record) for record in of_throughput]
    throughput = make_throughput(of_throughput, over, ceilings.chips)
    starts = {record.model: record.start_id for record in of_accuracy + of_throughput if record.start_id}
    throughput["implausible"], doubts = plausibility.mark(throughput, over, published, ceilings, starts)
    of_sustained = read_sustained(flags.sustained)
    throughput = sustained_tables.joined(throughput, of_sustained)
    lines = {model: make_lines(throughput, model, published[model], doubts) for model in models}
    confirmed = read_confirmed(flags.confirmed)
    limits = [(None, None)]
    if flags.latency_ms_max is not None:
        limits.append((flags.latency_ms_max, f"p{flags.latency_percentile}"))
    decisions = {
        model: [
            make_decision(model, throughput, accuracy, own_references.get(model, reference), *limit, confirmed.records)
            for limit in limits
        ]
        for model in models
        if lines[model]
    }
    decision = pandas.concat([frame(DECISION, []), *itertools.chain(*decisions.values())], ignore_index=True)

    profile = make_profile(read_profiles(flags.profile), throughput)
    profile_tables = make_profile_tables(profile)
    notes = multiplicity_notes(accuracy, flips, flags.familywise) + published_notes(of_accuracy, accuracy, published)
    accuracy_tables = make_accuracy_tables(accuracy, notes)
    answers = [
        found
        for model, of_model in decisions.items()
        for found in make_answers(
            model, of_model, throughput, accuracy, own_references.get(model, reference), of_throughput
        )
    ]
    throughput_tables = []
    for model, found in decisions.items():
        own = own_references.get(model, reference)
        no_base = lost_batches(accuracy, model, own) if lines[model][0].target == own else ()
        rates, *others = make_throughput_tables(model, lines[model], no_base)
        missing = confirmed.missing.get(model, ())
        best_rows = [make_decision_table(table, missing) for table in found if len(table)]
        throughput_tables += [rates, *best_rows, *others]
    if table_of_ceilings := roofs.make_table(over):
        throughput_tables.append(table_of_ceilings)
    contents: dict[str, str | bytes] = {
        "answer.md": answer_text(answers),
        "accuracy.md": markdown(accuracy_tables),
        "throughput.md": markdown(throughput_tables),
        "profile.md": markdown(profile_tables) if profile_tables else "nothing was profiled\n",
    }
    for name, columns, table in (
        ("accuracy", ACCURACY, accuracy),
        ("throughput", THROUGHPUT, throughput),
        ("decision", DECISION, decision),
        ("flips", FLIPS, flips),
        ("profile", PROFILE, profile),
    ):
        contents[f"{name}.csv"] = csv_text(columns, table)
        contents[f"{name}.parquet"] = parquet_bytes(columns, table)
    panels = roofs.panels(throughput, over)
    roofline = functools.partial(plot_roofline, panels=panels)
    tradeoff = functools.partial(plot_tradeoff, accuracy=accuracy)
    plots = {"tradeoff": tradeoff, "throughput": plot_throughput, "latency": plot_latency, "roofline": roofline}
    if flags.sustained:
        plots["sustained"] = functools.partial(plot_sustained, courses=sustained_tables.courses(of_sustained))
    drawn = [name for name in plots if panels or name != "roofline"]
    for name, plot in plots.items():
        for suffix in (".png", ".svg"):
            contents[name + suffix] = render(plot, lines, name + suffix)
    sections = [Section("Where the time goes", profile_tables)] if profile_tables else []
    if flags.history:
        records = (of_accuracy, of_throughput, accuracy, throughput)
        entry = finished.make_entry(*records, flags.references, flags.settings, "this sweep")
        sections += series.make_sections(entry, history.read_all(flags.history, series.NEWEST))
    contents["report.html"] = make_report(
        answers,
        [*accuracy_tables, *throughput_tables],
        {name: contents[f"{name}.svg"].decode() for name in drawn},
        [make_accuracy_details(accuracy), make_detail_table(throughput)],
        flips,
        of_accuracy + of_throughput,
        sections,
    )
    for name, content in contents.items():
        with files.whole_file(flags.output_dir / name) as partial:
            partial.write_bytes(content if isinstance(content, bytes) else printable(content).encode())
    if flags.history:  # last: what is in the history has its tables
        history.append(flags.history, entry)
    if flags.print:
        sys.stdout.reconfigure(errors="replace")  # a terminal without → is no reason to fail
        print(*(contents[f"{name}.md"] for name in ("answer", "accuracy", "throughput")), sep="\n", end="")


def _pair(text: str) -> tuple[str, str]:
    model, equals, name = text.partition("=")
    if not (model and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form model=name")
    return model, name


def _settings(text: str) -> Facts:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no JSON mapping")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--accuracy", type=Path, nargs="*", default=[], help="JSON files of evaluate.py")
    parser.add_argument("--throughput", type=Path, nargs="*", default=[], help="JSON files of measure.py")
    parser.add_argument("--confirmed", type=Path, nargs="*", default=[], help="JSON files of confirm.py")
    parser.add_argument("--profile", type=Path, nargs="*", default=[], help="JSON files of profile_engine.py")
    parser.add_argument("--sustained", type=Path, nargs="*", default=[], help="JSON files of sustain.py")
    parser.add_argument(
        "--reference_backend",
        default=backends.reference("checkpoint").name,
        help="backend of the reference rows",
    )
    parser.add_argument("--reference_precision", default="fp32", help="precision of the reference rows")
    parser.add_argument(
        "--reference_of",
        type=_pair,
        nargs="*",
        default=[],
        metavar="MODEL=BACKEND",
        help="backend of a model's reference rows, if it is another, as without a checkpoint",
    )
    parser.add_argument("--published", type=Path, default=_PUBLISHED, help="table of published figures")
    parser.add_argument(
        "--published_name",
        type=_pair,
        nargs="*",
        default=[],
        metavar="MODEL=PUBLISHED",
        help="a model's name in the table of published figures, if it is another",
    )
    parser.add_argument(
        "--familywise",
        choices=FAMILYWISE,
        default=FAMILYWISE[0],
        help="judge every verdict by itself, or all of the table together by Holm's method",
    )
    best.add_limit_flags(parser)
    parser.add_argument("--ceilings", type=Path, nargs="*", default=[], help="JSON files of ceilings.py")
    parser.add_argument("--graphs", type=Path, nargs="*", default=[], help="sidecars of export.py: what images cost")
    parser.add_argument("--ceiling_sheet", type=Path, default=roofs.SHEET, help="table of data sheets' ceilings")
    parser.add_argument(
        "--chip",
        type=_pair,
        nargs="*",
        default=[],
        metavar="BACKEND=CHIP",
        help="the chip of a backend's imported results, as that table names it",
    )
    parser.add_argument(
        "--history", type=Path, help="folder of finished sweeps to add this one to; scripts/compare.py compares them"
    )
    parser.add_argument(
        "--references",
        type=Path,
        nargs="*",
        default=[],
        help="tables of predictions that the accuracies were judged by, so that the history keeps what engines predict",
    )
    parser.add_argument("--settings", type=_settings, metavar="JSON", help="settings of the sweep, for the history")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for tables, plots and report")
    parser.add_argument("--print", action="store_true", help="show the answer and both tables")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
