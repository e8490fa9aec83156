"""The emulator's aclruntime against its contract. A comment at each test names file and section.

Tests and emulator are written from the same contracts: what these tests hold true is the contract, not an NPU.
"""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cann import HERE
from emulated import IMAGES, OUTPUT, expected, infer, open_session, printed


def test_names(acl):  # aclruntime_api.md 1
    classes = (
        "BaseTensor session_options tensor_desc sumary InferenceSession MemorySummary Tensor dtype type model batch"
    )
    assert all(hasattr(acl, name) for name in classes.split()) and not hasattr(acl, "__version__")
    assert acl.SMLP_EMULATED is True
    assert int(acl.dtype(1)) == 1 and acl.float16 is acl.dtype.float16 and acl.float16 == 1 and acl.double.value == 11
    assert acl.memory_device == 1 and acl.bool.name == "bool" and len({acl.int8, acl.dtype.int8}) == 1
    assert len(acl.dtype.__members__) == 12


def test_options(acl):  # aclruntime_api.md 2
    options = acl.session_options()
    assert (options.loop, options.log_level, options.acl_json_path) == (1, 2, "")
    for name, value, error in (("loops", 1, AttributeError), ("loop", 1.0, TypeError), ("acl_json_path", 1, TypeError)):
        with pytest.raises(error):
            setattr(options, name, value)


def test_constructor(acl, oms, capfd):  # aclruntime_api.md 3
    options = acl.session_options()
    for wrong in ((oms.fp16,), (oms.fp16, 0), (oms.fp16, 0.0, options), (Path(oms.fp16), 0, options)):
        with pytest.raises(TypeError):
            acl.InferenceSession(*wrong)
    with pytest.raises(TypeError):
        acl.InferenceSession(model_path=oms.fp16, device_id=0, options=options)
    with pytest.raises(TypeError):
        acl.model(oms.fp16, -1, options)
    session = acl.InferenceSession(oms.fp16, 0, options)
    lines = ["acl init success", "open device 0 success", f"load model {oms.fp16} success"]
    assert printed(capfd) == "".join(f"[INFO] {line}\n" for line in [*lines, "create model description success"])
    assert session.options() is options
    assert repr(session) == (
        "<Model>\ndevice:\t0\ninput:\n  #0    input  (2, 3, 8, 8)  float32  1536  1536\n"
        f"output:\n  #0    {OUTPUT}  (2, 5)  float32  40  40\n"
    )
    del session
    assert printed(capfd) == "[INFO] unload model success, model Id is 1\n"


def test_constructor_failures(acl, oms, capfd, monkeypatch):  # aclruntime_api.md 3, table; atc_contract.md 7
    with pytest.raises(RuntimeError, match=r"^\[507033\]\[Error code unknown\] $"):
        open_session(acl, oms.fp16, 5)
    assert "[ERROR] acl open device 5 failed\nSetDevice failed. ret=507033\n" in printed(capfd)
    for path in ("missing.om", str(oms.onnx)):
        with pytest.raises(RuntimeError, match=r"^\[1\]\[ACL: invalid parameter\] $"):
            open_session(acl, path)
        out = printed(capfd)
        assert f"\n[ERROR] load model from file failed, model file is {path}\n[WARN] Check failed:" in out
        assert out.endswith("ret:1\n\n[WARN] no model had been loaded, unload failed\n")
    monkeypatch.setenv("SMLP_EMULATOR_SOC", "Ascend910B3")
    with pytest.raises(RuntimeError, match=r"\[1\]"):
        open_session(acl, oms.fp16)
    monkeypatch.setenv("SMLP_EMULATOR_SOC", "Ascend310P3")
    assert infer(acl, open_session(acl, oms.fp16), IMAGES[:2]).shape == (2, 5)  # the process stays usable


def test_results_are_fp16_but_plausible(acl, oms):  # README (b); atc_contract.md 7
    exact = expected(IMAGES[:2], oms.onnx)
    half, single = (infer(acl, open_session(acl, path), IMAGES[:2]) for path in (oms.fp16, oms.fp32))
    assert half.dtype == np.float32 and half.shape == (2, 5)
    np.testing.assert_allclose(half, exact, atol=5e-3)
    assert (half != exact).any() and (half == half.astype(np.float16)).all()
    np.testing.assert_allclose(single, exact, atol=1e-6)


@pytest.mark.parametrize("form", ["list", "tuple", "dict"])
def test_run_with_tensors(acl, oms, form):  # aclruntime_api.md 3.1, 4.3, 4.4
    session = open_session(acl, oms.fp16)
    tensor = acl.Tensor(IMAGES[:2])
    assert (tensor.shape, tensor.dtype, tensor.device, tensor.type) == ([2, 3, 8, 8], acl.float32, -1, acl.memory_host)
    tensor.to_device(0)
    assert (tensor.device, tensor.type) == (0, acl.memory_device)
    feeds = {"list": [tensor], "tuple": (tensor,), "dict": {"input": tensor}}[form]
    (output,) = session.run((OUTPUT,), feeds)
    assert session.run([], feeds) == []
    del session
    assert repr(output) == "<Tensor>\nshape:\t(2, 5)\ndtype:\tfloat32\ndevice:\t0"
    with pytest.raises(BufferError, match="tensor is in npu"):  # section 9: never on the device
        np.array(output)
    output.to_host()
    np.testing.assert_array_equal(np.array(output), infer(acl, open_session(acl, oms.fp16), IMAGES[:2]))


def test_run_checks(acl, oms, capfd):  # aclruntime_api.md 4.1
    session = open_session(acl, oms.fp16)
    small = np.zeros(40, np.uint8)
    cases = [
        ([acl.BaseTensor(small.ctypes.data, 40)], "[ERROR] Check i:0 name:input in size:40 needsize:1536 not match\n"),
        ([], "[WARN] intensors in:0 need:1 not match\n[ERROR] Set InputsData failed ret:-1\n"),
        ({"x": device_tensor(acl)}, "[ERROR] intensors i:0 name:input not find\n"),
        ({"input": device_tensor(acl), "x": device_tensor(acl)}, "[ERROR] intensors size:2 need size:1 not match\n"),
    ]
    for feeds, message in cases:
        printed(capfd)
        with pytest.raises(RuntimeError, match=r"^\[-1\]\[ACL: general failure\] $"):
            session.run([OUTPUT], feeds)
        assert message in printed(capfd)
    for feeds in (None, [IMAGES[:2]], {"input": acl.BaseTensor(IMAGES.ctypes.data, 1536)}, [None]):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            session.run([OUTPUT], feeds)
    assert session.sumary().exec_time_list == []
    with pytest.raises(RuntimeError, match=r"\[-1\]"):  # names are looked at after the execution
        session.run(["output"], [device_tensor(acl)])
    assert "[ERROR] outnames output not valid\n[ERROR] Get OutTensors failed ret:-1\n" in printed(capfd)
    assert len(session.sumary().exec_time_list) == 1
    first, second = session.run([OUTPUT, OUTPUT], [device_tensor(acl)])
    first.to_host()
    with pytest.raises(RuntimeError, match=r"^\[1004\]\[Invalid parameter\] $"):
        second.to_host()


def device_tensor(acl):
    tensor = acl.Tensor(IMAGES[:2])
    tensor.to_device(0)
    return tensor


def test_base_tensor_is_a_bare_address(acl, oms):  # aclruntime_api.md 4.1, 4.2
    session = open_session(acl, oms.fp16)
    images = IMAGES[:2].copy()
    feed = acl.BaseTensor(images.ctypes.data, images.nbytes)
    right = infer(acl, session, images)
    images[:] = 0  # changed after the BaseTensor was made, before run()
    (output,) = session.run([OUTPUT], [feed])
    output.to_host()
    assert not np.allclose(np.array(output), right)
    scrambled = np.asfortranarray(IMAGES[:2])  # neither strides nor dtype are looked at
    assert not np.allclose(infer(acl, session, scrambled), right)
    assert infer(acl, session, IMAGES[:1].astype(np.float64)).shape == (2, 5)
    for wrong in ((1.0, 2), (images, 2), (1,)):
        with pytest.raises(TypeError):
            acl.BaseTensor(*wrong)


def test_tensor_copies_and_converts(acl, oms):  # aclruntime_api.md 9
    with pytest.raises(RuntimeError, match=r"^\[2\]"):  # section 8: no context before the first session
        acl.Tensor(IMAGES)
    session = open_session(acl, oms.fp16)
    for kind in sorted({*acl.dtype.__members__} - {"double"}):
        assert acl.Tensor(np.zeros(2, kind)).dtype is acl.dtype[kind]
    assert acl.Tensor(np.zeros(2)).dtype is acl.double
    for odd in (np.zeros(2, np.longlong), np.zeros(2, ">f4"), np.zeros(2, complex)):
        assert (acl.Tensor(odd).dtype, len(bytes(np.array(acl.Tensor(odd))))) == (acl.uint8, 2)
    assert acl.Tensor(b"abc").shape == [3] and acl.Tensor(np.float32(1)).shape == []
    for wrong in ([1.0], None):
        with pytest.raises(TypeError):
            acl.Tensor(wrong)
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(np.array(acl.Tensor(source.T)), [[0, 1], [2, 3], [4, 5]])  # strides are ignored
    tensor = acl.Tensor(source)
    source[:] = 9
    shared = np.asarray(tensor)
    assert shared[0, 1] == 1  # a deep copy
    tensor.to_device(0)
    assert np.isnan(shared).all()  # dangles
    for device, message in ((9, r"\[1004\]"), (-1, r"\[1004\]")):
        with pytest.raises(RuntimeError, match=message):
            tensor.to_device(device)
    assert acl.batch([tensor, tensor]).shape == [2, 2, 3] and acl.batch([tensor, tensor], True).shape == [4, 3]
    with pytest.raises(RuntimeError, match=r"\[1004\]"):
        acl.batch([])
    assert session.get_inputs()


def test_times(acl, oms, capfd):  # aclruntime_api.md 7
    acl.MemorySummary().reset()
    session = open_session(acl, oms.fp16, loop=3)
    output = infer(acl, session, IMAGES[:2])
    times = session.sumary().exec_time_list
    assert len(times) == 3 and all(isinstance(time, float) and 0 < time < 1e3 for time in times)
    assert "\n\rloop inference exec: (1/3)\rloop inference exec: (2/3)\rloop inference exec: (3/3)\n" in printed(capfd)
    session.sumary().exec_time_list.append(1.0)  # a fresh list
    assert len(session.sumary().exec_time_list) == 3
    memory = acl.MemorySummary()
    assert len(memory.H2D_time_list) == 1 and len(acl.MemorySummary().D2H_time_list) == 1
    session.options().loop = 0  # executes nothing and still returns tensors
    assert np.isnan(infer(acl, session, IMAGES[:2])).all() and output.shape == (2, 5)
    assert session.reset_sumaryinfo() == 0 and session.sumary().exec_time_list == []


def test_descriptions_are_live(acl, oms):  # aclruntime_api.md 6
    session = open_session(acl, oms.fp16)
    (desc,) = session.get_inputs()
    assert session.get_inputs()[0] is desc and (desc.name, desc.datatype, desc.format) == ("input", acl.float32, 0)
    desc.shape.append(1)
    assert desc.shape == [2, 3, 8, 8]
    desc.realsize = 40
    with pytest.raises(RuntimeError, match=r"\[-1\]"):
        infer(acl, session, IMAGES[:2])


def test_gears(acl, oms, capfd):  # aclruntime_api.md 5
    session = open_session(acl, oms.gears)
    (desc,) = session.get_inputs()
    assert (desc.shape, desc.size, desc.realsize) == ([-1, 3, 8, 8], 3072, 3072)  # the largest by default
    whole = infer(acl, session, IMAGES)
    assert session.set_dynamic_batchsize(2) == 0
    assert (desc.shape, desc.size, desc.realsize) == ([-1, 3, 8, 8], 3072, 1536)
    np.testing.assert_allclose(infer(acl, session, IMAGES[:2]), whole[:2], atol=1e-3)
    printed(capfd)
    with pytest.raises(RuntimeError, match=r"^\[1\]\[ACL: invalid parameter\] $"):
        session.set_dynamic_batchsize(3)
    assert "[ERROR] model has dynamic batch size:{[1][2][4]}, please set correct dynamic batch size" in printed(capfd)
    assert desc.realsize == 1536  # the previous gear stays
    with pytest.raises(RuntimeError, match=r"\[1\]"):
        open_session(acl, oms.fp16).set_dynamic_batchsize(2)
    assert "[ERROR] the dynamic_batch_size parameter is not specified for model conversion" in printed(capfd)


def test_two_devices_in_one_process(load_acl, oms):  # aclruntime_api.md 8
    acl = load_acl(devices=2)
    first, second = open_session(acl, oms.fp16, 0), open_session(acl, oms.fp16, 1)
    with pytest.raises(RuntimeError, match="context of device 1"):
        infer(acl, first, IMAGES[:2])
    first.run([OUTPUT], [device_tensor(acl)])  # to_device(0) switched the context
    with pytest.raises(RuntimeError, match="context of device 0"):
        infer(acl, second, IMAGES[:2])
    acl = load_acl("0.0.2-pairs", devices=2)  # section 10: one context a session
    first, second = open_session(acl, oms.fp16, 0), open_session(acl, oms.fp16, 1)
    np.testing.assert_array_equal(infer(acl, first, IMAGES[:2]), infer(acl, second, IMAGES[:2]))


def test_other_thread_has_no_context(acl, oms, capfd):  # aclruntime_api.md 8
    session, errors = open_session(acl, oms.fp16), []

    def work():
        for call in (lambda: infer(acl, session, IMAGES[:2]), lambda: acl.Tensor(IMAGES)):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["[-1][ACL: general failure] ", "[2][ACL: memory allocation fail] "]
    assert "in size:2 needsize:1536 not match" in printed(capfd)


def test_other_sessions_are_dead_after_finalize(acl, oms):  # aclruntime_api.md 8
    first, second = open_session(acl, oms.fp16), open_session(acl, oms.fp16)
    assert first.finalize() == 0 and first.finalize() == 0
    with pytest.raises(RuntimeError, match=r"\[-1\]"):
        infer(acl, second, IMAGES[:2])
    with pytest.raises(RuntimeError, match=r"\[507033\]"):
        open_session(acl, oms.fp16)


@pytest.mark.parametrize(
    "misuse",
    [
        "acl.InferenceSession(path, 0, None)",
        "session.run([], [feed, feed])",
        "session.run([], [acl.Tensor(images)])",
        "session.finalize(); session.run([], [feed])",
        "desc = session.get_inputs()[0]; del session; desc.name",
        "session.set_custom_outsize([8]); session.run([], [feed])",
    ],
)
def test_undefined_behaviour_dies(oms, misuse):  # aclruntime_api.md 3, 4.1, 4.3, 6, 8
    program = (
        "import aclruntime as acl, numpy as np\n"
        f"path, images = {oms.fp16!r}, np.zeros((2, 3, 8, 8), np.float32)\n"
        "session = acl.InferenceSession(path, 0, acl.session_options())\n"
        "feed = acl.BaseTensor(images.ctypes.data, images.nbytes)\n" + misuse
    )
    done = oms.run(sys.executable, "-c", program)
    assert done.returncode == -11 and "aclruntime emulator: " in done.stderr, done


def test_host_without_onnxruntime(oms, load_acl, monkeypatch):  # README (b): computing in the atc interpreter
    here = load_acl()
    right = infer(here, open_session(here, oms.fp16), IMAGES[:2])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    acl = load_acl()
    session = open_session(acl, oms.fp16, loop=2)
    np.testing.assert_array_equal(infer(acl, session, IMAGES[:2]), right)
    assert len(session.sumary().exec_time_list) == 2
    for path in (HERE / "site").glob("*.py"):  # the interpreters of such hosts are old
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_import_needs_cann(host):  # aclruntime_api.md 10
    done = host.run(sys.executable, "-c", "import aclruntime", sourced=False)
    assert "ImportError: libascendcl.so: cannot open shared object file" in done.stderr


@pytest.mark.parametrize("variant", ["0.0.1", "0.0.2", "0.0.2-pairs", "0.0.2-g25", "0.0.3"])
def test_versions(load_acl, oms, variant):  # aclruntime_api.md 10
    acl = load_acl(variant)
    old, new = variant == "0.0.1", variant == "0.0.3"
    assert (hasattr(acl, "MemorySummary"), hasattr(acl, "BaseTensor")) == (not old, not old)
    assert (hasattr(acl, "sumary"), hasattr(acl, "Summary")) == (not new, new)
    session = open_session(acl, oms.fp16)
    assert hasattr(session, "finalize") != old
    assert (hasattr(session, "summary"), hasattr(session, "reset_summaryinfo")) == (new, new)
    assert hasattr(session, "reset_sumaryinfo") != new
    tensor = acl.Tensor(IMAGES[:2])
    tensor.to_device(0)
    session.run([OUTPUT], [tensor])
    (time,) = session.sumary().exec_time_list
    if variant in ("0.0.1", "0.0.2"):
        assert 0 < time < 1e3
    else:
        assert 0 < time[0] < time[1] < 1e5
    if not old:
        assert infer(acl, session, IMAGES[:2]).shape == (2, 5)
    if new:
        assert acl.Tensor(IMAGES[:2], 0).device == 0 and tensor.nbytes == 1536


def test_newest_validates(load_acl, oms, tmp_path):  # aclruntime_api.md 10, row G25
    acl = load_acl("0.0.2-g25")
    for options, message in (({"loop": 0}, "loop num out of range"), ({"log_level": 9}, "log level out of range")):
        with pytest.raises(RuntimeError, match=message):
            open_session(acl, oms.fp16, **options)
    (tmp_path / "link.om").symlink_to(oms.fp16)
    (tmp_path / "a b.om").write_bytes(Path(oms.fp16).read_bytes())
    (tmp_path / "wide.om").write_bytes(Path(oms.fp16).read_bytes())
    (tmp_path / "wide.om").chmod(0o666)
    for path in ("link.om", "a b.om", "wide.om", "missing.om"):
        with pytest.raises(RuntimeError, match="please check model path"):
            open_session(acl, str(tmp_path / path))
    with pytest.raises(RuntimeError, match=r"\[-1\]"):  # surplus feeds are an error there
        open_session(acl, oms.fp16).run([], [acl.BaseTensor(IMAGES.ctypes.data, 1536)] * 2)
