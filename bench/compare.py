"""How often the gate is wrong, and how often it finds what was planted: simulated, and with --pairs measured here.

Simulated: comparisons of 20 pairs with 3 to 10 loads a side and a spread between loads of 0.5% to 5%. Of pairs of
identical engines at most 1 may be called slower or faster; of pairs whose head is 8% slower, at least 19 must be called
slower. Then accuracies: a loss of one point on 1,000 images, beside images that only change sides.

Measured: two copies of one network, and one that computes 8% more (27 equal steps in place of 25), in turn, every load
in a fresh process of measure.py, as scripts/compare.py --remeasure does.

    python bench/compare.py
    python bench/compare.py --pairs 20 --rounds 7
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import common
import numpy as np

from smlp.core import cli
from smlp.results import gate

PAIRS = 20
SLOWER = 1.08  # times as long
_BATCH, _WIDTH, _SIDE = 64, 1024, 32
# The first product, of 3 * 32 * 32 inputs, costs as much as three of the others.
_STEPS = {"base": 22, "same": 22, "slower": 24}


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    tables = {"speed": simulate_speed(flags.comparisons), "accuracy": simulate_accuracy(flags.comparisons)}
    common.show(f"{flags.comparisons} simulated comparisons of {PAIRS} pairs each", tables["speed"])
    common.show("one point lost on 1,000 images, simulated", tables["accuracy"])
    rows = [{"kind": kind, **row} for kind, found in tables.items() for row in found]
    if flags.pairs:
        measured = measure(flags.pairs, flags.rounds, flags.min_time_s)
        common.show(f"{flags.pairs} pairs measured in turn, {flags.rounds} rounds each", measured)
        rows += [{"kind": "measured", **row, **common.machine()} for row in measured]
    common.write_csv(flags.output, rows)
    return 0


def simulate_speed(comparisons: int) -> list[dict[str, Any]]:
    """One row per number of loads and spread: in how many comparisons the gate did what it must."""
    found = []
    for loads in (3, 5, 7, 10):
        for spread_percent in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
            random = np.random.default_rng([loads, int(10 * spread_percent)])
            passed = planted = wrong = slower = 0
            for _ in range(comparisons):
                draw = _draws(random, loads, spread_percent / 100)
                same = _verdicts([(draw(), draw()) for _ in range(PAIRS)])
                slow = _verdicts([(draw(), draw() / SLOWER) for _ in range(PAIRS)])
                wrong += PAIRS - same.count("same") - same.count("undecided")
                passed += same.count("slower") + same.count("faster") <= 1
                slower += slow.count("slower")
                planted += slow.count("slower") >= PAIRS - 1
            found.append(
                {
                    "loads": loads,
                    "spread_percent": spread_percent,
                    "at_most_1_of_20_wrong_percent": round(100 * passed / comparisons, 1),
                    "rows_wrong_percent": round(100 * wrong / comparisons / PAIRS, 2),
                    "at_least_19_of_20_found_percent": round(100 * planted / comparisons, 1),
                    "rows_found_percent": round(100 * slower / comparisons / PAIRS, 2),
                }
            )
    return found


def _draws(random: np.random.Generator, loads: int, spread: float) -> Callable[[], np.ndarray]:
    return lambda: 50 * np.exp(random.normal(0, spread, loads))


def _verdicts(pairs: Sequence[tuple[Any, Any]], how: Callable = gate.unpaired) -> list[str]:
    return [one.verdict for one in gate.judge_speed([how(*pair) for pair in pairs])]


def simulate_accuracy(comparisons: int) -> list[dict[str, Any]]:
    """Of heads that change `changed` images between right and wrong: how often a loss is said.

    Once ten more are lost than won, and once each change is as likely the one as the other.
    """
    images, found = 1000, []
    labels = np.zeros(images, dtype=np.int64)
    for changed in (10, 14, 20, 26, 40):
        random = np.random.default_rng(changed)
        said = {"planted": 0, "none": 0}
        for _ in range(10 * comparisons):
            base = (random.random(images) < 0.2).astype(np.int64)
            right, wrong = np.flatnonzero(base == 0), np.flatnonzero(base == 1)
            for kind, lost in (("planted", changed // 2 + 5), ("none", random.binomial(changed, 0.5))):
                head = base.copy()
                head[random.choice(right, lost, replace=False)] = 1
                head[random.choice(wrong, changed - lost, replace=False)] = 0
                said[kind] += gate.judge_accuracy(labels, base, head).verdict == "worse"
        shares = {name: round(100 * count / (10 * comparisons), 1) for name, count in said.items()}
        row = {"changed_images": changed, "lost_more_than_won": 10, "found_percent": shares["planted"]}
        found.append({**row, "said_of_no_loss_percent": shares["none"]})
    return found


# --- measured


def measure(pairs: int, rounds: int, min_time_s: float) -> list[dict[str, Any]]:
    """Verdicts on pairs of this host, by rounds of both in turn, and by the same loads as if they were apart."""
    import compare_remeasure

    rates: list[dict[str, list[float]]] = [{name: [] for name in _STEPS} for _ in range(pairs)]
    with tempfile.TemporaryDirectory(prefix="smlp-bench-") as folder:
        place = Path(folder)
        images = np.random.default_rng(0).normal(size=(_BATCH, 3, _SIDE, _SIDE)).astype(np.float32)
        (place / "bins").mkdir()
        images.tofile(place / "bins" / "batch-00000.bin")
        for name, steps in _STEPS.items():
            _write_network(place / f"{name}.onnx", steps)
        bounds = ["--min_time_s", str(min_time_s), "--min_runs", "5", "--warmup_window_s", str(min_time_s / 10)]
        bounds += ["--warmup_max_s", str(min_time_s), "--threads", str(cli.default_workers())]
        for pair in range(pairs):
            for number in range(rounds):
                order = list(_STEPS) if number % 2 == 0 else list(reversed(_STEPS))
                for name in order:
                    words = ["--model", str(place / f"{name}.onnx"), "--input", str(place / "bins"), *bounds]
                    rates[pair][name].append(compare_remeasure.measure_load(words, place)["images_per_s"])
            cli.say(f"pair {pair + 1} of {pairs}")
    found = []
    for how in (gate.paired, gate.unpaired):
        for name in ("same", "slower"):
            verdicts = _verdicts([(one["base"], one[name]) for one in rates], how)
            ratios = np.exp([np.log(one[name]).mean() - np.log(one["base"]).mean() for one in rates])
            row = {"how": how.__name__, "head": name, "pairs": pairs, "rounds": rounds, "min_time_s": min_time_s}
            row |= {verdict: verdicts.count(verdict) for verdict in ("slower", "faster", "same", "undecided")}
            spread = np.median([np.log(one["base"]).std(ddof=1) for one in rates])
            row |= {"median_ratio": round(float(np.median(ratios)), 4), "spread_percent": round(100 * float(spread), 2)}
            found.append(row)
    return found


def _write_network(path: Path, steps: int) -> None:
    """Equal products one after the other, of weights that they share."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    inputs = 3 * _SIDE * _SIDE
    weights = {
        "first": random.normal(size=(inputs, _WIDTH)) / inputs**0.5,
        "step": random.normal(size=(_WIDTH, _WIDTH)) / _WIDTH**0.5,
        "last": random.normal(size=(_WIDTH, 10)) / _WIDTH**0.5,
    }
    nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "first"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{step}", "step"], [f"x{step + 1}"]) for step in range(steps)]
    nodes.append(helper.make_node("MatMul", [f"x{steps}", "last"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "equal steps",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [_BATCH, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [_BATCH, 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--comparisons", type=cli.positive_int, default=200, help="simulated, of 20 pairs each")
    parser.add_argument("--pairs", type=int, default=0, help="pairs to measure here; none unless given")
    parser.add_argument("--rounds", type=cli.positive_int, default=7, help="rounds of each pair")
    parser.add_argument("--min_time_s", type=cli.positive_number, default=1.0, help="how long a load is measured")
    parser.add_argument("--output", type=Path, default=common.RESULTS / "compare.csv", help="CSV to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
