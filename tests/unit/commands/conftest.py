"""Fixtures of several commands' tests: engines and bins to run infer.py on."""

import json
import time

import numpy as np
import pytest

SIZE = (3, 4, 4)


@pytest.fixture(scope="session")
def infer(load_command):
    return load_command("infer")


@pytest.fixture
def place(tmp_path, mixer_onnx):
    """A folder with engines bs1.onnx and bs4.onnx, and functions to fill bins and run."""
    return Place(tmp_path / "a place", mixer_onnx)


@pytest.fixture
def clock(monkeypatch):
    """The time that engines of this test spend; nothing else takes any."""

    class Clock:
        now_s = 100.0

        def perf_counter(self):
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.perf_counter)
    return clock


class Place:
    def __init__(self, root, mixer_onnx):
        root.mkdir()
        self.root, self.mixer_onnx = root, mixer_onnx
        self.engine, self.weights = root / "bs4.onnx", mixer_onnx(root / "bs4.onnx", 4)
        self.bins, self.out = root / "the bins", root / "the output"
        self.bins.mkdir()
        self.images = {}

    def add(self, *names, count=1):
        """Bins of `count` images each; a name ending in .npy makes that."""
        for name in names:
            images = np.random.default_rng(len(self.images)).normal(size=(count, *SIZE)).astype(np.float32)
            self.images[name] = images
            if name.endswith(".npy"):
                np.save(self.bins / name, images)
            else:
                images.tofile(self.bins / name)
        return [self.bins / name for name in names]

    def own(self, name):
        """What an image scores without its batch."""
        return self.images[name].reshape(len(self.images[name]), -1) @ self.weights

    def expected(self, *names):
        """Scores of a batch of these images: the mixer adds the sum over the batch."""
        own = np.concatenate([self.own(name) for name in names])
        return own + own.sum(axis=0)

    def flags(self, *more, engine=None):
        where = ["--input", self.bins, "--output", self.out, "--output_dirname", "run"]
        return ["--model", str(engine or self.engine), *map(str, where), *map(str, more)]

    def load(self, name):
        return np.load(self.out / "run" / name)

    def summary(self):
        return json.loads((self.out / "run_summary.json").read_text())

    def written(self):
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*"))
