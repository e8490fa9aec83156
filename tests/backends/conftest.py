"""Engines of every backend, each compiled once."""

import numpy as np
import pytest
import torch
from contract import BACKENDS, opened, require_runtime

from smlp import backends
from smlp.core.cli import UserError
from smlp.data import dataset
from smlp.models.checkpoint import load_model


@pytest.fixture(scope="session")
def images():
    """Images for the small model, float32 (3, 3, 160, 160)."""
    return np.random.default_rng(0).normal(size=(3, 3, 160, 160)).astype(np.float32)


@pytest.fixture(scope="session")
def expected(tiny, images):
    """Their logits by eager PyTorch."""
    model, _ = load_model(tiny.model_name, tiny.pth)
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="session")
def options(images, tmp_path_factory):
    """A function: backend, precision -> what compiling needs beside the source."""
    folder = tmp_path_factory.mktemp("calibration images")
    rows = [dataset.Row(index, dataset.bin_name(index), f"{index}.png", "0", 0, str(index)) for index in range(3)]
    for row, image in zip(rows, images):
        image.tofile(folder / row.bin)
    dataset.write_manifest(folder / dataset.MANIFEST, rows)

    def make(name, precision):
        return {"calibration": str(folder)} if precision in BACKENDS[name].calibrated else {}

    return make


@pytest.fixture(scope="session")
def engine_path(tiny, load_command, options, tmp_path_factory):
    """A function: path of the small model's engine, compiled once; the checkpoint where there is nothing to compile."""
    compiler = load_command("compile")
    made = {}

    def path(name, precision, batch):
        require_runtime(name)
        module = BACKENDS[name]
        if module.compiles_from is None:
            return tiny.pth
        key = (name, precision, batch)
        if key not in made:
            source = {"onnx": tiny.onnx, "checkpoint": tiny.pth}[module.compiles_from]
            target = tmp_path_factory.mktemp("an engine") / f"{name}-{precision}-bs{batch}{module.suffix}"
            try:
                compiler.compile_engine(name, precision, batch, source, target, options(name, precision))
            except backends.EngineFailure as failure:
                pytest.skip(str(failure))
            except UserError as error:
                if "on CUDA devices only" not in str(error):
                    raise
                pytest.skip(str(error))
            made[key] = target
        return made[key]

    return path


@pytest.fixture
def engine(name, engine_path):
    """The backend's engine for batch 3, holding its device."""
    with opened(engine_path(name, BACKENDS[name].precisions[0], 3), name) as engine:
        yield engine
