"""Small result files of evaluate.py and measure.py, and the tables that tabulate.py makes of them."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from smlp.core import cli, identity
from smlp.results import columns, reader

ROOT = Path(__file__).parents[2]


SCRIPT = ROOT / "scripts" / "tabulate.py"


# by its path: an installed package has the same name
_SPEC = importlib.util.spec_from_file_location("command_tabulate", SCRIPT)


tabulate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tabulate)


PUBLISHED = reader.read_published(ROOT / "resources" / "published.csv")


OUTPUTS = {
    "answer.md",
    "tradeoff.png",
    "tradeoff.svg",
    "accuracy.csv",
    "accuracy.md",
    "accuracy.parquet",
    "throughput.csv",
    "throughput.md",
    "throughput.parquet",
    "throughput.png",
    "throughput.svg",
    "latency.png",
    "latency.svg",
    "decision.csv",
    "decision.parquet",
    "profile.csv",
    "profile.md",
    "profile.parquet",
    "flips.csv",
    "flips.parquet",
    "roofline.png",
    "roofline.svg",
    "report.html",
}


HOST = {"cpu_model": "Testor 9000", "cpu_count": 4, "machine": "x86_64", "system": "Linux-6"}


def about(backend, precision, batch, **more):
    return {
        "model": "smlpnet_tiny",
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "device": "cpu",
        "emulated": False,
        "versions": {"python": "3.11.7", "numpy": "2.4.0", backend: "1.2.3"},
        "host": HOST,
        "started_at": "2026-01-02T03:04:05+00:00",
        **more,
    }


def engine_id(backend, precision, batch, model="smlpnet_tiny", variant="", **_):
    return identity.digest([model, backend, precision, variant, batch])


COMPARED = {
    "agreement": 99.6,
    "flips_right_to_wrong": 3,
    "flips_wrong_to_right": 1,
    "mcnemar_p": 0.625,
    "drop_points": 0.2,
    "drop_low_points": -0.25,
    "drop_high_points": 0.83,
    "margin_points": 1.0,
    "verdict": "pass",
    "flips": [{"image": "a/<b>.JPEG", "label": 3, "reference": 3, "predicted": 8, "kind": "right_to_wrong"}],
}


def accuracy(backend, precision, batch, **more):
    figures = {
        "images": 1000,
        "skipped": 0,
        "num_classes": 10,
        "top1": 81.7,
        "top5": 95.8,
        "top1_wilson_low": 79.2,
        "top1_wilson_high": 83.98,
        "engine_id": engine_id(backend, precision, batch, **more),
    }
    figures |= dict.fromkeys(COMPARED)
    return {**about(backend, precision, batch), **figures, **more}


def throughput(backend, precision, batch, images_per_s, **more):
    latency_ms = 1000 * batch / images_per_s
    figures = {
        "threads": 2,
        "runs": 64,
        "warmup_runs": 9,
        "stable": True,
        "latency_ms_mean": latency_ms,
        "latency_ms_p50": latency_ms * 0.98,
        "latency_ms_p90": latency_ms * 1.1,
        "latency_ms_p95": latency_ms * 1.2,
        "latency_ms_p99": None,
        "images_per_s": images_per_s,
        "images_per_s_low": images_per_s * 0.97,
        "images_per_s_high": images_per_s * 1.02,
        "end_to_end_images_per_s": images_per_s * 0.9,
        "host_load_before": 0.25,
        "host_load_after": 1.5,
        "engine": {"path": "bs.onnx", "id": engine_id(backend, precision, batch, **more)},
    }
    return {"throughput": images_per_s, "smlp": {**about(backend, precision, batch), **figures, **more}}


def failure(backend, precision, batch, reason="out of memory"):
    return {"failed": reason, "smlp": about(backend, precision, batch)}


def judged(backend, precision, batch, verdict="pass", **more):
    return accuracy(backend, precision, batch, **{**COMPARED, "verdict": verdict, **more})


def both_ways(backend, precision, batch, images_per_s, together_images_per_s, **together):
    """A measurement that holds the throughput way too: two requests over two streams."""
    content = throughput(backend, precision, batch, images_per_s, settings={"threads": 2, "streams": 1})
    latency_ms = 2000 * batch / together_images_per_s
    content["smlp"]["throughput_way"] = {
        "settings": {"requests": 2, "streams": 2, "threads": 4, "inference_precision": precision},
        "runs": 300,
        "warmup_runs": 5,
        "stable": True,
        "images_per_s": together_images_per_s,
        "images_per_s_low": together_images_per_s - 1,
        "images_per_s_high": together_images_per_s + 1,
        "latency_ms_mean": latency_ms,
        "latency_ms_p50": latency_ms,
        "latency_ms_p90": latency_ms * 1.25,
        "latency_ms_p95": latency_ms * 1.5,
        "latency_ms_p99": latency_ms * 2,
        **together,
    }
    return content


ACCURACY = [
    accuracy("pytorch", "fp32", 1),
    accuracy("onnxruntime", "fp32", 1, **COMPARED),
    accuracy("onnxruntime", "fp32", 8, **COMPARED),
    failure("openvino", "int8", 1, "no calibration images"),
    accuracy("ascend", "fp16", 8, **{**COMPARED, "verdict": "undecided", "emulated": True}),
]


THROUGHPUT = [
    throughput("onnxruntime", "fp32", 1, 40.0),
    throughput("onnxruntime", "fp32", 8, 80.0),
    throughput("openvino", "fp32", 1, 60.0),
    throughput("openvino", "fp32", 8, 72.0, stable=False),
    failure("openvino", "fp32", 64),
    throughput("ascend", "fp16", 8, 2.0, emulated=True, runs=300, latency_ms_p99=5000.0),
]


DECIDED_ACCURACY = [
    *(accuracy("pytorch", "fp32", batch) for batch in (1, 8)),
    *(judged("onnxruntime", "fp32", batch) for batch in (1, 8)),
    judged("openvino", "int8", 1, drop_points=0.4, top1=81.3),
    judged("openvino", "int8", 8, "fail", drop_points=7.5),
    judged("openvino", "bf16", 8),
]


DECIDED_THROUGHPUT = [
    throughput("pytorch", "fp32", 1, 10.0),
    throughput("pytorch", "fp32", 8, 20.0),
    throughput("onnxruntime", "fp32", 1, 15.0),
    throughput("onnxruntime", "fp32", 8, 30.0, stable=False),
    throughput("openvino", "int8", 1, 50.0),
    throughput("openvino", "int8", 8, 80.0),
    both_ways("openvino", "bf16", 8, 40.0, 44.0),
]


def dicts(table):
    """The rows of a frame, None for what is absent."""
    return [row._asdict() for row in columns.rows(table)]


class Sweep:
    """The JSON files of a sweep, and the flags to tabulate them."""

    def __init__(self, root, accuracy=ACCURACY, throughput=THROUGHPUT):
        self.root = root
        self.output = root / "out put" / "tables"
        self.files = {"accuracy": [], "throughput": []}
        for stage, contents in (("accuracy", accuracy), ("throughput", throughput)):
            for number, content in enumerate(contents):
                path = root / f"{stage}-{number}.json"
                path.write_text(json.dumps(content))
                self.files[stage].append(path)

    def flags(self, *more):
        stages = [part for stage, paths in self.files.items() for part in (f"--{stage}", *map(str, paths))]
        return [*stages, "--output_dir", str(self.output), *map(str, more)]

    def make(self, *more):
        assert tabulate.main(self.flags(*more)) == 0
        return self

    def text(self, name):
        return (self.output / name).read_text(encoding="utf-8")

    def rows(self, name):
        with open(self.output / name, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def table(self, name, title):
        """The cells of a Markdown table: {first cell: [the others]}, the header under ""."""
        part = self.text(name).split(f"## {title}\n")[1].split("\n## ")[0]
        lines = [line for line in part.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return {"": cells[0], **{row[0]: row[1:] for row in cells[2:]}}


def cells_of(text, title):
    part = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def assert_refused(sweep, capsys, *named, flags=()):
    """Status 1, one line on stderr that names the culprit, and nothing written."""
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda _: tabulate.main(sweep.flags(*flags)))
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("error: ") and err.count("\n") == 1 and out == ""
    for name in named:
        assert str(name) in err
    assert not sweep.output.exists()
