"""Fixtures of several unit tests: results to score, and a tabulated sweep."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import result_files
from result_files import Sweep
from sklearn.metrics import top_k_accuracy_score

from smlp.core import cli

CLASSES = 10


def _write_manifest(path, bins, first=0):
    """bins: {bin name: [label, ...]}. Image names and indices count through from `first`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = first
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "bin", "image", "class", "label", "sha256"])
        for name, labels in bins.items():
            for label in labels:
                writer.writerow([index, name, f"{label}_class/val, {index}.JPEG", f"{label}_class", label, "0" * 64])
                index += 1
    return path


def _write_result(path, logits):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, logits)
    elif path.suffix == ".bin":
        logits.tofile(path)
    else:
        path.write_text("".join("".join(f"{value:f} " for value in row) + "\n" for row in logits))


class Run:
    """Twelve images, one per bin, and scores that are right for some of them."""

    def __init__(self, root, images=12, suffix=".npy", seed=0):
        random = np.random.default_rng(seed)
        self.root = root
        self.labels = [int(label) for label in random.integers(0, CLASSES, images)]
        self.logits = random.normal(size=(images, CLASSES)).astype(np.float32)
        self.logits[np.arange(images), self.labels] += 1
        self.manifest = _write_manifest(
            root / "bins" / "shard-0" / "manifest.csv",
            {f"batch-{index:05d}.bin": [label] for index, label in enumerate(self.labels)},
        )
        self.results = root / "out put" / "bs1"
        for index in range(images):
            _write_result(self.result(index, suffix), self.logits[index : index + 1])

    def result(self, index, suffix=".npy"):
        return self.results / f"batch-{index:05d}_0{suffix}"

    def flags(self, *more):
        return ["--infer_result_dir", str(self.results), "--labels", str(self.manifest), *map(str, more)]

    write_result = staticmethod(_write_result)

    def top(self, k):
        return top_k_accuracy_score(self.labels, self.logits, k=k, labels=range(CLASSES))

    def write_summary(self, **changes):
        """What infer.py leaves beside the results."""
        known = {
            "model": "smlpnet_tiny",
            "backend": "openvino",
            "precision": "bf16",
            "batch": 8,
            "device": "CPU",
            "emulated": True,
            "engine": {"path": "bs8.xml", "id": "ab" * 32},
        }
        path = self.results.with_name(self.results.name + "_summary.json")
        path.write_text(json.dumps({"throughput": 1.0, "smlp": {**known, **changes}}))
        return path


@pytest.fixture
def write_manifest():
    """write_manifest(path, {bin name: [label, ...]}, first=0): image names and indices count through from `first`."""
    return _write_manifest


@pytest.fixture
def write_result():
    """write_result(path, logits): a result file of the kind that its suffix says."""
    return _write_result


@pytest.fixture(scope="session")
def evaluate(load_command):
    return load_command("evaluate")


@pytest.fixture
def evaluated(evaluate):
    """evaluated(run, *flags): the JSON of a run that must succeed."""

    def report(run, *more):
        target = run.root / "report.json"
        assert evaluate.main(run.flags("--json", target, *more)) == 0
        return json.loads(target.read_text())

    return report


@pytest.fixture
def make_run():
    """make_run(root, images=12, suffix=".npy", seed=0): a scored run below `root`."""
    return Run


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


@pytest.fixture
def assert_refused(evaluate, capsys):
    """assert_refused(flags, *named): evaluate.py ends with status 1 and one line that names the culprit, and writes
    nothing.
    """

    def refused(flags, *named):
        root = Path(flags[1]).parents[1]
        before = sorted(root.rglob("*"))
        outputs = ["--json", str(root / "refused.json"), "--predictions", str(root / "refused.csv")]
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda _: evaluate.main([*flags, *outputs]))
        out, err = capsys.readouterr()
        assert ended.value.code == 1
        assert err.startswith("error: ") and err.count("\n") == 1
        for name in named:
            assert str(name) in err
        assert out == ""
        assert sorted(root.rglob("*")) == before

    return refused


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A sweep that is tabulated; only to be read."""
    return Sweep(tmp_path_factory.mktemp("sweep")).make()


@pytest.fixture(scope="session")
def decided(tmp_path_factory):
    """A sweep that is tabulated with a limit of 500 ms; only to be read."""
    sweep = Sweep(tmp_path_factory.mktemp("decision"), result_files.DECIDED_ACCURACY, result_files.DECIDED_THROUGHPUT)
    return sweep.make("--latency_ms_max", 500, "--latency_percentile", 95)


@pytest.fixture
def without_heif(monkeypatch):
    """As if pillow-heif were not installed, which it may be."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name != "pillow_heif" and find(name, *more))


@pytest.fixture(scope="session")
def pil_loader():
    importlib.import_module("smlp.models.architectures")  # makes torchvision importable beside every build of torch
    from torchvision.datasets.folder import pil_loader

    return pil_loader
