"""Result files and published figures are checked when they are read."""

import json

import pytest
from result_files import (
    ACCURACY,
    PUBLISHED,
    ROOT,
    Sweep,
    assert_refused,
    both_ways,
    failure,
    throughput,
)

from smlp.results import reader


def test_order_is_that_of_the_files_but_batches_ascend(tmp_path):
    contents = [throughput("openvino", "fp32", 8, 9.0), throughput("aotinductor", "fp32", 16, 8.0)]
    contents += [throughput("aotinductor", "fp32", 2, 7.0), throughput("openvino", "fp32", 1, 6.0)]
    found = reader.read_throughput(Sweep(tmp_path, [], contents).files["throughput"])
    assert [(record.target.backend, record.batch) for record in found] == [
        ("openvino", 1),
        ("openvino", 8),
        ("aotinductor", 2),
        ("aotinductor", 16),
    ]


@pytest.mark.parametrize(
    ("stage", "edit", "named"),
    [
        ("accuracy", lambda text: text[:-1], "is not JSON"),
        ("accuracy", lambda text: "[]", "is no summary"),
        ("accuracy", lambda text: '{"smlp": 3}', "is no summary"),
        ("accuracy", lambda text: text.replace('"model": "smlpnet_tiny"', '"model": null'), "does not say its model"),
        ("accuracy", lambda text: text.replace('"top1":', '"top_1":'), "top1 is None"),
        ("accuracy", lambda text: text.replace('"top5": 95.8', '"top5": NaN'), "top5 is nan"),
        ("accuracy", lambda text: text.replace('"skipped": 0', '"skipped": "none"'), "skipped is 'none'"),
        ("accuracy", lambda text: text.replace('"batch": 1', '"batch": 0'), "batch is 0"),
        ("accuracy", lambda text: text.replace('"flips": null', '"flips": 3'), "flips is 3, a list"),
        ("accuracy", lambda text: text.replace('"flips": null', '"flips": [3]'), "flips.0 is 3, a mapping"),
        ("throughput", lambda text: text.replace('"batch": 1', '"batch": null'), "batch is None"),
        ("throughput", lambda text: text.replace('"images_per_s": 40.0', '"images_per_s": -1'), "images_per_s is -1"),
        (
            "throughput",
            lambda text: text.replace('"images_per_s": 40.0', '"images_per_s": true'),
            "images_per_s is True",
        ),
        ("throughput", lambda text: json.dumps(ACCURACY[0]), "is it a file of another stage?"),
        ("throughput", lambda text: json.dumps({"throughput": 3.0, "args": []}), "does not say its model"),
    ],
)
def test_a_damaged_file_is_refused_by_name(sweep, stage, edit, named, capsys):
    path = sweep.files[stage][0]
    path.write_text(edit(path.read_text()))
    assert_refused(sweep, capsys, path, named)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda facts: facts.update(throughput_way=3), "throughput_way is 3, a mapping"),
        (lambda facts: facts.update(settings=[]), "settings is [], a mapping"),
        (lambda facts: facts["settings"].update(streams="2"), "settings.streams is '2'"),
        (lambda facts: facts["throughput_way"].update(settings=None), "the number of requests"),
        (lambda facts: facts["throughput_way"]["settings"].update(requests=2.5), "throughput_way.settings.requests"),
        (lambda facts: facts["throughput_way"].update(images_per_s=0), "throughput_way.images_per_s is 0"),
        (lambda facts: facts["throughput_way"].pop("latency_ms_p50"), "throughput_way.latency_ms_p50 is None"),
        (lambda facts: facts["throughput_way"].update(latency_ms_p99="x"), "throughput_way.latency_ms_p99 is 'x'"),
    ],
)
def test_a_damaged_throughput_way_is_refused(tmp_path, edit, named, capsys):
    content = both_ways("openvino", "bf16", 8, 40.0, 44.0)
    edit(content["smlp"])
    sweep = Sweep(tmp_path, [], [content])
    assert_refused(sweep, capsys, sweep.files["throughput"][0], named)


def test_the_same_measurement_twice_is_refused(sweep, capsys):
    copied = sweep.root / "copy.json"
    copied.write_text(sweep.files["throughput"][1].read_text())
    sweep.files["throughput"].append(copied)
    assert_refused(sweep, capsys, copied, sweep.files["throughput"][1], "batch size 8")


def test_a_missing_file_is_refused(sweep, capsys):
    sweep.files["accuracy"][0].unlink()
    assert_refused(sweep, capsys, sweep.files["accuracy"][0])


def test_a_failed_file_may_hold_anything_beside_its_reason(tmp_path):
    content = failure("openvino", "fp32", 1, " ")
    content["smlp"] |= {"images_per_s": "none", "threads": [], "throughput_way": 3, "settings": 4, "stable": False}
    made = Sweep(tmp_path, [], [content]).make()
    assert "openvino fp32, batch size 1: no reason was given\n" in made.text("throughput.md")
    assert made.rows("throughput.csv")[0]["images_per_s"] == ""


def test_a_failed_measurement_must_say_its_batch_size(tmp_path, capsys):
    content = failure("openvino", "fp32", 1)
    del content["smlp"]["batch"]
    sweep = Sweep(tmp_path, [], [json.loads(json.dumps(content))])
    assert_refused(sweep, capsys, sweep.files["throughput"][0], "batch is None")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("value", "number"), "no column value"),
        (lambda text: text.replace("81.74", "many"), "line 5"),
        (lambda text: text.replace("171.6", "0"), "line 9"),
        (lambda text: text.replace("CANN 5.1,4,", "CANN 5.1,,"), "line 10"),
        (lambda text: text + '"', "is no CSV file"),
    ],
)
def test_damaged_published_figures_are_refused(sweep, edit, named, capsys):
    table = sweep.root / "published.csv"
    table.write_text(edit((ROOT / "resources" / "published.csv").read_text()))
    assert_refused(sweep, capsys, table, named, flags=["--published", table])


def test_the_shipped_figures():
    best = {}
    for line in PUBLISHED:
        if line.what == "throughput":
            best[line.device] = max(best.get(line.device, (0, 0)), (line.value, line.batch))
    assert best == {"Ascend310P3": (298.7, 8), "Tesla T4": (371.0, 32)}
