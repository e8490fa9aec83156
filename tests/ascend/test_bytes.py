"""Engines that take the bytes of images, compiled and run on the emulated host: the normalisation is inside."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from cann import environment, make_cann_tree

from smlp.data import pixels
from smlp.models import preprocessing


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The environment of an emulated host."""
    root = tmp_path_factory.mktemp("Ascend")
    make_cann_tree(root, "7.0.0")
    return environment(root)


def test_bytes_give_the_scores_of_normalised_floats(host, tiny, tmp_path, command):
    facts = preprocessing.resolve(tiny.model_name)
    images = np.random.default_rng(0).integers(0, 256, (3, *facts.uint8.shape), np.uint8)
    for folder, content in (("bytes", images), ("floats", pixels.normalise(images, facts.mean, facts.std))):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "images-00000.npy", content)
    as_bytes = tmp_path / "model_uint8.onnx"
    flags = ["--model_name", tiny.model_name, "--source_onnx_path", tiny.onnx, "--onnx_path", as_bytes]
    assert command("normalise", *flags).returncode == 0
    scores = {}
    for folder, onnx_path in (("bytes", as_bytes), ("floats", tiny.onnx)):
        engine = tmp_path / folder / "engine" / "bs2.om"
        flags = ["--backend", "ascend", "--precision", "fp32", "--batch_size", 2, "--onnx_path", onnx_path]
        options = ["--option", "soc_version=Ascend310P3", "--option", f"python={sys.executable}"]
        done = command("compile", *flags, *options, "--output", engine, env=host)
        assert done.returncode == 0, done.stderr
        line = " ".join(json.loads(engine.with_suffix(".json").read_text())["atc_command"])
        wanted = "ND --input_shape=input:2,160,160,3" if folder == "bytes" else "NCHW --input_shape=input:2,3,160,160"
        assert f"--input_format={wanted} " in line
        flags = ["--model", engine, "--input", tmp_path / folder, "--output", tmp_path / folder, "--outfmt", "NPY"]
        done = command("infer", *flags, "--output_dirname", "run", env=host)
        assert done.returncode == 0, done.stderr
        scores[folder] = np.load(tmp_path / folder / "run" / "images-00000_0.npy")
    assert scores["bytes"].shape == (3, tiny.classes)
    np.testing.assert_allclose(scores["bytes"], scores["floats"], rtol=0, atol=1e-5)
