"""One contract for the engines of every backend while they run: shapes, bytes, threads, devices."""

import numpy as np
import pytest
import torch
from contract import BACKENDS, BATCHES, TOLERANCE, every_backend, every_precision, feed, opened

from smlp.backends.base import batch_size_of
from smlp.core.cli import UserError
from smlp.core.tensor import shape_text


@every_precision
@pytest.mark.parametrize("batch", BATCHES)
def test_logits_agree_with_eager_pytorch(name, precision, batch, engine_path, images, expected, tiny):
    module = BACKENDS[name]
    with opened(engine_path(name, precision, batch), name) as engine:
        assert engine.batch == (None if module.compiles_from is None else batch)
        assert batch_size_of(engine, batch) == batch
        (image,), (scores,) = engine.inputs, engine.outputs
        assert image.name and scores.name
        assert image.shape[1:] == (3, 160, 160)
        assert scores.shape[1:] == (tiny.classes,)
        assert engine.device.split(":")[0] == module.device.split(":")[0]
        feed = images.astype(image.dtype)
        for start in range(0, len(images), batch):
            (logits,), timings = engine.run(feed[start : start + batch])
            assert logits.shape == (batch, tiny.classes)
            assert logits.dtype == scores.dtype
            assert np.isfinite(logits).all()
            wanted = expected[start : start + batch]
            assert np.abs(logits.astype(np.float32) - wanted).max() <= TOLERANCE[precision] * np.abs(expected).max()
            assert timings.compute_ms and all(0 < time_ms < 60_000 for time_ms in timings.compute_ms)
            assert all(0 <= time_ms < 60_000 for time_ms in (*timings.h2d_ms, *timings.d2h_ms))


@every_backend
def test_images_that_do_not_lie_in_order_in_memory(name, engine, images):
    in_order = feed(engine, images)
    wanted = engine.run(in_order)[0][0].copy()
    transposed = np.ascontiguousarray(in_order.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    reversed_twice = np.ascontiguousarray(in_order[..., ::-1])[..., ::-1]
    every_other = np.repeat(in_order, 2, axis=0)[::2]
    for scattered in (transposed, reversed_twice, every_other, np.asfortranarray(in_order)):
        assert not scattered.flags.c_contiguous
        np.testing.assert_array_equal(engine.run(scattered)[0][0], wanted)


@every_backend
def test_outputs_outlive_the_next_run(name, engine, images):
    first = engine.run(feed(engine, images))[0][0]
    kept = first.copy()
    second = engine.run(feed(engine, images[::-1].copy()))[0][0]
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


@every_backend
def test_the_same_images_give_the_same_bytes(name, engine, images):
    assert engine.run(feed(engine, images))[0][0].tobytes() == engine.run(feed(engine, images))[0][0].tobytes()


@every_backend
def test_images_are_not_changed(name, engine, images):
    given = feed(engine, images)
    engine.run(given)
    np.testing.assert_array_equal(given, feed(engine, images))


@every_backend
def test_what_run_refuses(name, engine, images):
    good = feed(engine, images)
    other_dtype = np.float64 if engine.inputs[0].dtype != np.float64 else np.float32
    for wrong in (
        good.astype(other_dtype),
        good.astype(np.uint8 if good.dtype != np.uint8 else np.float32),
        good[0],
        good[:, :, :159],
        good[:, :1],
        good.transpose(0, 2, 3, 1),
        good.reshape(3, -1),
        good[None],
    ):
        with pytest.raises(UserError, match="takes .* 3x160x160|takes .*x3x160x160") as error:
            engine.run(wrong)
        assert shape_text(wrong.shape) in str(error.value)
        assert str(wrong.dtype) in str(error.value)


@every_backend
def test_another_number_of_images(name, engine, images):
    if engine.batch is None:
        for count in (1, 2, 3):
            assert engine.run(feed(engine, images)[:count])[0][0].shape[0] == count
        assert (batch_size_of(engine, None), batch_size_of(engine, 5)) == (1, 5)
        return
    for wrong in (feed(engine, images)[:2], np.concatenate([feed(engine, images)] * 2)):
        with pytest.raises(UserError, match=f"but got .* {len(wrong)}x3x160x160"):
            engine.run(wrong)
    assert (batch_size_of(engine, None), batch_size_of(engine, 3)) == (3, 3)
    with pytest.raises(UserError, match="--batchsize 5: the engine was compiled for batch 3"):
        batch_size_of(engine, 5)


@every_backend
def test_the_device_is_held_only_inside_the_with(name, engine_path, images):
    engine = opened(engine_path(name, BACKENDS[name].precisions[0], 3), name)
    results = []
    for _ in range(2):  # it can be taken again
        with engine:
            results.append(engine.run(feed(engine, images))[0][0].copy())
        with pytest.raises((AttributeError, UserError, RuntimeError)):
            engine.run(feed(engine, images))
    np.testing.assert_array_equal(*results)


@every_backend
def test_threads(name, engine_path, images, expected):
    threads = torch.get_num_threads()
    try:
        with opened(engine_path(name, BACKENDS[name].precisions[0], 3), name, threads=1) as engine:
            logits = engine.run(feed(engine, images))[0][0].astype(np.float32)
    finally:
        torch.set_num_threads(threads)
    tolerance = TOLERANCE[BACKENDS[name].precisions[0]]
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


@every_backend
def test_a_device_that_is_not_there(name, engine_path):
    path = engine_path(name, BACKENDS[name].precisions[0], 1)
    with pytest.raises(UserError, match="nowhere"), opened(path, name, device="nowhere"):
        pytest.fail("runs nowhere")
