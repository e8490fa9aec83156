"""Every runtime's own profiling: it names the operators, and they add up to a run of the engine."""

import numpy as np
import pytest
from contract import BACKENDS, feed, opened, require_runtime

RUN_HERE = ["aotinductor", "onnxruntime", "openvino", "pytorch"]


def profiled(path, name, images, runs=3):
    with opened(path, name) as engine:
        batch = feed(engine, images)
        plain = engine.run(batch)[0][0]
        profiler = engine.profiler()
        profiler.run(batch, 2)
        profiler.begin()
        run_ms = profiler.run(batch, runs)
        operations = profiler.end()
        # the profiler gave the engine back as it was
        np.testing.assert_array_equal(engine.run(batch)[0][0], plain)
    return operations, run_ms


@pytest.mark.parametrize("name", RUN_HERE)
def test_operators_add_up_to_the_runs(name, engine_path, images):
    operations, run_ms = profiled(engine_path(name, BACKENDS[name].precisions[0], 3), name, images)
    assert len(run_ms) == 3
    # they cannot be more than the run that they are of, but for the resolution of the runtime's clock
    total_ms = sum(one.ms for one in operations)
    assert 0 < total_ms <= 1.1 * np.mean(run_ms)
    assert all(one.name and one.type and one.unit and one.ms >= 0 and one.calls >= 1 for one in operations)
    assert not any(one.elsewhere for one in operations)
    told = sum(one.ms for one in operations if one.precision == "fp32")
    assert told > 0.5 * total_ms


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_int8_profile_names_what_stays_in_floating_point(name, engine_path, images):
    require_runtime(name)
    operations, _ = profiled(engine_path(name, "int8", 3), name, images)
    computing = {one.precision for one in operations if not one.moves}
    assert "int8" in computing
    assert computing & {"fp32", "bf16"}
    products = {one.precision for one in operations if "conv" in one.type.lower() or "MatMul" in one.type}
    assert "int8" in products


def test_bf16_kernels_of_a_package_are_told_from_those_in_fp32(engine_path, images):
    operations, _ = profiled(engine_path("aotinductor", "bf16", 3), "aotinductor", images)
    assert {one.precision for one in operations if one.type.startswith("aoti_")} == {"bf16"}


def test_a_package_does_not_say_where_the_code_lies_that_made_it(engine_path):
    import zipfile

    with zipfile.ZipFile(engine_path("aotinductor", "fp32", 3)) as archive:
        code = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".cpp"))
    assert b"RecordFunction" in code
    assert b"smlp/" not in code
