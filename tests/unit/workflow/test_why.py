"""Why jobs would run, in words: values of then and now are paired, and equal reasons are one paragraph."""

import json

import pytest

from smlp.core import code
from smlp.workflow import why

TOOLS = {"onnxruntime": "1.27.0", "numpy": "2.4.6"}


def written(**values):
    """Parameters as Snakemake keeps them: {name: the value as Python writes it}."""
    return {name: repr(value) for name, value in values.items()}


def changed(was, now):
    return why.changed_params(sorted(written(**was).values()), written(**now))


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """Two digests and what they consist of."""
    monkeypatch.setattr(why, "NOTES", tmp_path)
    modules = {"compile.py": "1", "smlp/backends/onnxruntime.py": "2", "smlp/core/cli.py": "3"}
    (tmp_path / f"{'a' * 16}.json").write_text(json.dumps(modules))
    (tmp_path / f"{'b' * 16}.json").write_text(json.dumps({**modules, "smlp/backends/onnxruntime.py": "4"}))
    return "a" * 16, "b" * 16


def test_equal_parameters_are_no_difference():
    assert changed({"flags": ["--seed", "1"], "tools": TOOLS}, {"flags": ["--seed", "1"], "tools": TOOLS}) == []


@pytest.mark.parametrize(
    "was, now, told",
    [
        (["--option", "graph=fused"], ["--option", "graph=reference"], ["option: graph=fused → graph=reference"]),
        (["--option", "threads=1", "--option", "a=b"], ["--option", "a=b"], ["option: threads=1 → not set"]),
        (
            ["--opset_version", "11", "--seed", "0"],
            ["--opset_version", "13", "--seed", "0"],
            ["opset_version: 11 → 13"],
        ),
        (["--seed", "0"], ["--seed", "0", "--allow_busy"], ["allow_busy: not set → given"]),
        ([], ["--variant", "loud"], ["variant: not set → loud"]),
        (["--name", "a=x", "b=y"], ["--name", "a=x", "b=z"], ["name: b=y → b=z"]),
        (["my images", "val", "0/3"], ["my images", "val", "0/4"], ["value: 0/3 → 0/4"]),
        (TOOLS, {**TOOLS, "onnxruntime": "1.28.0"}, ["onnxruntime: 1.27.0 → 1.28.0"]),
        ({"tiny.pth": "3f2a" * 16}, {"tiny.pth": "91bc" * 16}, ["tiny.pth: other content (3f2a3f… → 91bc91…)"]),
        ("3f2a" * 16, "91bc" * 16, ["value: other content (3f2a3f… → 91bc91…)"]),
        (["3f2a" * 16], ["91bc" * 16], ["value: other content (3f2a3f… → 91bc91…)"]),
        (["1.0", "3f2a" * 16], ["1.0", "91bc" * 16], ["value: 3f2a3f… → 91bc91…"]),
        (5.0, 1.0, ["value: 5.0 → 1.0"]),
        (1, 1.5, ["value: 1 → 1.5"]),
        (None, "Agg", ["value: not set → Agg"]),
    ],
)
def test_a_difference_is_named_with_both_values(was, now, told):
    assert changed({"value": was, "code": "c" * 16}, {"value": now, "code": "c" * 16}) == told


def test_values_are_paired_though_no_names_were_kept(noted):
    old, new = noted
    was = {
        "code": old,
        "flags": ["--min_runs", "3"],
        "images": "3f2a" * 16,
        "margin": 5.0,
        "python": "python",
        "tools": TOOLS,
    }
    now = {
        "code": new,
        "flags": ["--min_runs", "5"],
        "images": "91bc" * 16,
        "margin": 1.0,
        "python": "python3.9",
        "tools": {**TOOLS, "numpy": "2.5.0"},
    }
    assert sorted(changed(was, now)) == [
        "code: scripts/smlp/backends/onnxruntime.py",
        "images: other content (3f2a3f… → 91bc91…)",
        "margin: 5.0 → 1.0",
        "min_runs: 3 → 5",
        "numpy: 2.4.6 → 2.5.0",
        "python: python → python3.9",
    ]


def test_a_new_parameter_and_one_that_is_gone_are_told():
    assert changed({}, {"images": "ab" * 32, "margin": 5.0})[1:] == ["margin: not set → 5.0"]
    assert changed({"margin": 5.0}, {}) == ["no longer given: 5.0"]


def test_code_whose_modules_nobody_noted_is_just_its_code(noted):
    assert changed({"code": "c" * 16}, {"code": noted[0]}) == ["its code"]


def test_a_run_notes_what_its_digests_consist_of_and_a_plan_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(why, "NOTES", tmp_path / "code")
    monkeypatch.setattr(why, "_noting", False)
    why.code_digest.cache_clear()
    before = why.code_digest("evaluate")
    assert before == code.code_digest("evaluate") and not why.NOTES.exists()
    why.note_code()
    after = why.code_digest("tabulate")
    for digest, command in ((before, "evaluate"), (after, "tabulate")):
        modules = json.loads((why.NOTES / f"{digest}.json").read_text())
        assert modules == code.code_modules(command) and f"{command}.py" in modules


def test_a_parameter_that_restates_others_is_left_out():
    was = {"shown": "# atc --a=1\n", "options": ["--option", "a=1"]}
    now = {"shown": "# atc --a=2\n", "options": ["--option", "a=2"]}
    assert changed(was, now) == ["option: a=1 → a=2"]


def test_files_that_are_read_anew_and_no_longer():
    was = ["aipp.cfg", "results/infer/a/shard-0", "results/infer/a/shard-1"]
    now = [
        "results/infer/a/shard-0",
        *(f"results/{stage}/{n}.json" for stage in ("evaluate", "measure") for n in (1, 2)),
    ]
    assert why.changed_inputs(was, now) == [
        "now also reads 2 results of evaluate, 2 results of measure",
        "no longer reads aipp.cfg, 1 result of infer",
    ]
    assert why.changed_inputs(was, was) == []


def planned(batches, shards=(0, 1, 2), reasons=("follows from compile",), model="tiny"):
    return [
        why.Planned("infer", {"model": model, "batch": str(batch), "shard": str(shard)}, reasons)
        for batch in batches
        for shard in shards
    ]


def test_jobs_with_equal_reasons_are_one_paragraph_with_a_count():
    assert why.page(planned([1, 4, 16])).splitlines() == [
        "infer  tiny, batch 1 4 16, shard 0 1 2 (9 jobs)",
        "    follows from compile",
        "",
        "9 jobs would run",
    ]


def test_jobs_that_are_no_product_are_told_apart():
    lines = why.page(planned([1, 4]) + planned([1], [0], model="other")).splitlines()
    assert lines[:2] == ["infer  other, batch 1, shard 0", "infer  tiny, batch 1 4, shard 0 1 2 (6 jobs)"]


def test_hundreds_of_jobs_fit_a_page_of_100_columns():
    long = [f"a_model_with_a_long_name_{number}" for number in range(12)]
    jobs = [job for model in long for job in planned([1, 4, 8], range(50), ("x: y → z",), model)]
    lines = why.page(jobs).splitlines()
    assert len(lines) <= 6 and max(map(len, lines)) <= 100
    assert "shard 0 … 49 (1800 jobs)" in " ".join(map(str.strip, lines))


def test_no_job_is_nothing_to_do():
    assert why.page([]) == "nothing to do"
