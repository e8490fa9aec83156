"""resources/results.schema.yaml documents what evaluate.py and measure.py write, and agrees with the tables."""

import json
import time

import jsonschema
import pytest
import yaml
from result_files import ACCURACY, DECIDED_THROUGHPUT, THROUGHPUT, Sweep, accuracy, assert_refused, failure, throughput

from smlp.results import columns, reader, throughput_columns

SCHEMA = yaml.safe_load(reader.SCHEMA.read_text(encoding="utf-8"))
NUMBERS = ("integer", "number")


def described(properties, path=()):
    """(path, schema) of every key, also inside mappings and lists."""
    for key, schema in properties.items():
        yield (*path, key), schema
        yield from described(schema.get("properties", {}), (*path, key))
        yield from described(schema.get("items", {}).get("properties", {}), (*path, key))


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "content", [*ACCURACY, *THROUGHPUT, *DECIDED_THROUGHPUT], ids=lambda content: str(len(content))
)
def test_result_files_fit_the_whole_schema(content):
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)) == []


def test_every_key_has_a_description_and_a_type():
    parts = [SCHEMA["$defs"], *(part.get("properties", {}) for part in SCHEMA["oneOf"])]
    found = [(path, schema) for part in parts for path, schema in described(part)]
    assert len(found) > 100
    for path, schema in found:
        assert "$ref" in schema or len(path) == 1 or {"description", "type"} <= schema.keys(), path


@pytest.mark.parametrize(
    ("part", "table"),
    [("accuracy", columns.ACCURACY), ("throughput", throughput_columns.THROUGHPUT)],
    ids=["accuracy", "throughput"],
)
def test_a_column_has_the_type_and_unit_of_its_key(part, table):
    properties = SCHEMA["$defs"][part]["properties"]
    known = [column for column in table if column.name in properties]
    assert len(known) > 20
    for column in known:
        schema = properties[column.name]
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert column.json_type in kinds, column.name
        assert column.json_type not in NUMBERS or column.unit == schema.get("unit", column.unit), column.name


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"top1": float("inf")}, "top1 is inf, a number was expected"),
        ({"top1": True}, "top1 is True"),
        ({"drop_points": float("nan")}, "drop_points is nan"),
        ({"images": 1000.0}, "images is 1000.0, a whole number was expected"),
        ({"images": 2**63}, "images is 9223372036854775808"),
        ({"skipped": 10**400}, "skipped is 1000"),
        ({"mcnemar_p": 10**400}, "mcnemar_p is 1000"),
        ({"batch": True}, "batch is True, a whole number of at least 1 was expected"),
        ({"emulated": "no"}, "emulated is 'no', true or false was expected"),
        ({"device": 3}, "device is 3, a text was expected"),
        ({"verdict": 3}, "verdict is 3, a text was expected"),
        ({"versions": {"numpy": 2}}, "versions.numpy is 2"),
        ({"host": {"cpu_model": 9000}}, "host.cpu_model is 9000"),
        ({"flips": [{"label": "cat"}]}, "flips.0.label is 'cat', a whole number was expected"),
        ({"backend": None}, "does not say its backend"),
        ({"published_top1": "81"}, "published_top1 is '81', a number was expected"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path, edit, named, capsys):
    sweep = Sweep(tmp_path, [{**accuracy("pytorch", "fp32", 1), **edit}], [])
    assert_refused(sweep, capsys, sweep.files["accuracy"][0], named)


def test_a_message_says_what_the_key_means_and_what_to_do(tmp_path, capsys):
    sweep = Sweep(tmp_path, [], [throughput("openvino", "fp32", 1, 40.0, latency_ms_p50=0)])
    assert_refused(
        sweep,
        capsys,
        sweep.files["throughput"][0],
        "latency_ms_p50 is 0, a number of more than 0 was expected (median latency of a batch)",
        "is it a file of another stage? If not, measure again",
    )


def test_a_failure_must_say_what_it_is_about(tmp_path, capsys):
    content = failure("openvino", "fp32", 1)
    del content["smlp"]["precision"]
    sweep = Sweep(tmp_path, [content], [])
    assert_refused(sweep, capsys, sweep.files["accuracy"][0], "does not say its precision")


def test_other_keys_are_allowed(tmp_path):
    made = Sweep(tmp_path, [accuracy("pytorch", "fp32", 1, fresh={"a": [1]})], []).make()
    assert len(made.rows("accuracy.csv")) == 1


def test_many_files_are_read_fast(tmp_path):
    """500 files whose single times would take seconds if they were checked one by one."""
    content = throughput("openvino", "fp32", 1, 40.0)
    content["npu_compute_time_list"] = [25.0] * 3000
    paths = []
    for batch in range(1, 501):
        content["smlp"]["batch"] = batch
        paths.append(tmp_path / f"bs{batch}.json")
        paths[-1].write_text(json.dumps(content))
    started = time.perf_counter()
    assert len(reader.read_throughput(paths)) == 500
    assert time.perf_counter() - started < 5  # about 1 s on an idle machine
