"""What can be edited in a sweep: its inputs, settings, code and environment, each with a few values."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from conftest import ROOT, copy_product

TOY = ROOT / "tests" / "data" / "toy_backend"
OLD_S = 1_000_000_000

SETTINGS = {
    "models": {"net": {"model_name": "test_resnet", "num_classes": 4, "checkpoint": "inputs/net.pth"}},
    "dataset": {"name": "photos", "root": "inputs/images", "shards": 1},
    "targets": [{"backend": "toy"}, {"backend": "toy", "precision": "int8"}],
    "backends": {"toy": {}},
    "batch_sizes": [1],
    "calibration": {"images": 2},
    # the page shows what was before, which a sweep from scratch has not
    "history": None,
    "accuracy": {"reference_batch_size": 1},
    "ceilings": {"measure": False},
    "measure": {
        "loads": 1,
        "retry_max_s": 0,
        "min_time_s": 0.001,
        "min_runs": 3,
        "warmup_window_s": 0.001,
        "warmup_max_s": 0.01,
    },
    "confirm": {"best": False},
    "profile": {"best": False},
}


class Knob(NamedTuple):
    """Something that has one of a few values; the first is that of the beginning. file: which one has to be written."""

    file: str
    values: tuple[Any, ...]
    write: Callable[["State", Any], Any]


State = dict[str, Any]


def setting(*path, values):
    """A setting; None leaves it out."""

    def write(settings, value):
        *above, last = path
        for key in above:
            settings = settings.setdefault(key, {})
        if value is None:
            settings.pop(last, None)
        else:
            settings[last] = value

    return Knob("config.yaml", values, write)


def copied(file, source, values):
    """An input file with one of several contents: `source` is the name of each in the stock, None if it is absent."""
    return Knob(f"inputs/{file}", values, lambda stock, value: None if value is None else stock / source.format(value))


def appended(file, *texts):
    """Code: what is added at the end of a file of the product."""
    return Knob(file, ("", *texts), lambda text, value: text + value)


def replaced(file, old, *new):
    """Code: what stands in place of a text."""

    def write(text, value):
        assert old in text, f"{file} has no longer: {old}"
        return text.replace(old, value)

    return Knob(file, (old, *new), write)


IMAGES = [f"images/val/image-{number}.png" for number in (10, 20, 30, 40, 50)]

KNOBS = {
    "gain": setting("backends", "toy", "gain", values=(None, 2, 3)),
    "env": setting("backends", "toy", "env", values=(None, {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"})),
    "targets": setting(
        "targets",
        values=(
            SETTINGS["targets"],
            [*SETTINGS["targets"], {"name": "loud", "backend": "toy", "options": {"gain": 5}}],
            [*SETTINGS["targets"], {"name": "loud", "backend": "toy", "options": {"gain": 6}}],
            SETTINGS["targets"][:1],
        ),
    ),
    "batch_sizes": setting("batch_sizes", values=([1], [1, 2], [2])),
    "reference_batch_size": setting("accuracy", "reference_batch_size", values=(1, 2)),
    "margin": setting("accuracy", "margin_points", values=(1.0, 60.0)),
    "shards": setting("dataset", "shards", values=(1, 2)),
    "layout": setting("dataset", "layout", values=("files", "packed")),
    "pixels": setting("dataset", "pixels", values=("float32", "uint8")),
    "decision": setting("decision", "latency_ms_max", values=(None, 1.5)),
    "opset": setting("export", "opset_version", values=(11, 13)),
    "min_runs": setting("measure", "min_runs", values=(3, 4)),
    "loads": setting("measure", "loads", values=(1, 2)),
    "calibration": setting("calibration", "seed", values=(0, 1)),
    "weights": copied("net.pth", "net-{}.pth", (0, 1, 2)),
    "labels": copied("images/val_label.txt", "labels-{}.txt", (0, 1)),
    "image": copied(IMAGES[2], "image-{}.png", (3, 8)),
    "later image": copied(IMAGES[4], "image-{}.png", (5, 9)),
    "more": copied("images/val/image-60.png", "image-{}.png", (None, 6)),
    "before": copied("images/val/image-05.png", "image-{}.png", (None, 7)),
    "training image": copied("images/train/image-1.png", "image-{}.png", (11, 12)),
    "toy's code": replaced("scripts/smlp/backends/toy.py", "FACTOR = 1\n", "FACTOR = 4\n", "FACTOR = 1  # a comment\n"),
    "code of evaluate": appended("scripts/evaluate.py", "\nADDED = 1\n", "\n# a comment\n"),
    "code of all": appended("scripts/smlp/core/files.py", "\nADDED = 1\n"),
    "code of preprocess": appended("scripts/preprocess.py", "\nADDED = 1\n"),
    "code of export": appended("scripts/export.py", "\nADDED = 1\n"),
    "code of the tables": appended("scripts/smlp/results/cells.py", "\nADDED = 1\n"),
    "published": appended("resources/published.csv", "\n"),
    # of whoever starts the run
    "environment": Knob("", (None, "BF16"), lambda nothing, value: None),
}


def beginning():
    """The state that a sequence begins with."""
    return {name: knob.values[0] for name, knob in KNOBS.items()}


def key(state):
    """What tells states apart."""
    return repr(sorted(state.items()))


def stock(folder):
    """Every content that an input file may have, in a folder of its own."""
    import torch
    from PIL import Image

    from smlp.models import architectures

    folder.mkdir()
    for number in range(1, 15):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"image-{number}.png")
    for number in range(3):
        torch.manual_seed(number)
        weights = architectures.create("test_resnet", 4).state_dict()
        weights["fc.weight"] *= 1000  # else images make no difference beside the bias
        torch.save(weights, folder / f"net-{number}.pth")
    names = [Path(image).name for image in [*IMAGES, "image-05.png", "image-60.png"]]
    for number in range(2):
        (folder / f"labels-{number}.txt").write_text(
            "".join(f"{name} {(place + number * (place % 2)) % 4}\n" for place, name in enumerate(names))
        )
    return folder


def product(folder):
    """A copy of the product with a toy, which states are made from: who works on the product does not disturb a run."""
    copy_product(folder)
    shutil.copy2(ROOT / "tests/data/edited_toy/toy.py", folder / "scripts/smlp/backends")
    shutil.copy2(TOY / "toy.yaml", folder / "envs")
    with open(folder / "rules/compile.smk", "a") as rules:
        rules.write((TOY / "compile_toy.smk").read_text())
    return folder


class Edited:
    """A copy of the product whose inputs, settings and code are those of a state."""

    def __init__(self, folder, product, stock):
        self.folder, self._stock, self.state = folder, stock, {}
        shutil.copytree(product, folder)
        images = folder / "inputs/images"
        for name in ("val", "train"):
            (images / name).mkdir(parents=True)
        for place, image in enumerate(IMAGES, 1):
            shutil.copy2(stock / f"image-{place}.png", folder / "inputs" / image)
        for number in (13, 14):
            shutil.copy2(stock / f"image-{number}.png", images / "train" / f"image-{number - 11}.png")
        (images / "train_label.txt").write_text("image-1.png 0\nimage-2.png 1\nimage-3.png 2\n")
        self._plain = {
            knob.file: (folder / knob.file).read_text()
            for knob in KNOBS.values()
            if knob.file.startswith(("scripts", "resources"))
        }
        self.write(beginning())

    def write(self, state, times="now"):
        """Bring the files to a state. times: of what is written: "now", "old", or "kept" as those of before."""
        changed = {KNOBS[name].file for name in KNOBS if name not in self.state or self.state[name] != state[name]}
        self.state = dict(state)
        for file in changed - {""}:
            path = self.folder / file
            before = path.stat() if path.exists() else None
            self._write(path, file)
            if path.exists() and times == "old":
                os.utime(path, (OLD_S, OLD_S))
            if path.exists() and times == "kept" and before:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _write(self, path, file):
        names = [name for name, knob in KNOBS.items() if knob.file == file]
        if file == "config.yaml":
            settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
            for name in names:
                KNOBS[name].write(settings, self.state[name])
            path.write_text(yaml.safe_dump(settings, sort_keys=False))
        elif file.startswith("inputs"):
            (name,) = names
            source = KNOBS[name].write(self._stock, self.state[name])
            path.unlink(missing_ok=True)
            if source:
                shutil.copyfile(source, path)
            if file.endswith("val_label.txt") or Path(file).parent.name == "val":
                self._label()
        else:
            text = self._plain[file]
            for name in names:
                text = KNOBS[name].write(text, self.state[name])
            path.write_text(text)

    def _label(self):
        """The labels of those images that are there: a line too many is an error."""
        images = self.folder / "inputs/images"
        there = {path.name for path in (images / "val").iterdir()}
        lines = (self._stock / f"labels-{self.state['labels']}.txt").read_text().splitlines()
        (images / "val_label.txt").write_text("".join(f"{line}\n" for line in lines if line.split()[0] in there))
