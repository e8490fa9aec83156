"""What runtimes write about their operators. TensorRT and msprof: samples written from the public documentation of the
formats, not recorded on hardware; the other two are cut down from files of this machine."""

import csv
import datetime
import io
from types import SimpleNamespace

import pytest

from smlp.backends import _tensorrt_profile, _torch_profile, onnxruntime, openvino
from smlp.backends.ascend import msprof
from smlp.core.cli import UserError


def by_name(operations):
    return {one.name: one for one in operations}


# --- ONNX Runtime


def node(name, index, kind, us, inputs, outputs, provider="CPUExecutionProvider"):
    types = {
        f"{side}_type_shape": [{kind: [1]} for kind in kinds]
        for side, kinds in (("input", inputs), ("output", outputs))
    }
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": us,
        "args": {"op_name": kind, "provider": provider, "node_index": str(index), **types},
    }


def test_onnxruntime_runs_to_warm_up_do_not_count():
    run = {"cat": "Session", "name": "model_run", "dur": 9}
    events = [node("a", 0, "Conv", 9000, ["float"], ["float"]), run]
    events += [node("a", 0, "Conv", 1000, ["float"], ["float"]), run] * 2
    (operation,) = onnxruntime.parse_profile(events, "cpu", skip=1)
    assert (operation.name, operation.ms, operation.precision) == ("a", 1.0, "fp32")


def test_onnxruntime_precision_is_that_of_the_kernel():
    events = [
        node("q", 0, "QuantizeLinear", 1, ["float", "float", "uint8"], ["uint8"]),
        node("m", 1, "QLinearMatMul", 1, ["uint8", "float", "uint8", "float", "int8"], ["uint8"]),
        node("d", 2, "DequantizeLinear", 1, ["uint8", "float", "uint8"], ["float"]),
        node("g", 3, "Gelu", 1, ["float"], ["float"]),
        {"name": "model_run", "dur": 5},
    ]
    found = by_name(onnxruntime.parse_profile(events, "cpu"))
    assert {name: (one.precision, one.moves) for name, one in found.items()} == {
        "q": ("fp32 to int8", True),
        "m": ("int8", False),
        "d": ("int8 to fp32", True),
        "g": ("fp32", False),
    }


def test_onnxruntime_names_what_fell_back_to_the_cpu():
    events = [
        node("a", 0, "Conv", 1, ["float"], ["float"], "CUDAExecutionProvider"),
        node("b", 1, "NonZero", 1, ["float"], ["int64"]),
        {"name": "model_run", "dur": 5},
    ]
    found = by_name(onnxruntime.parse_profile(events, "cuda:0"))
    assert (found["a"].elsewhere, found["b"].elsewhere) == (False, True)


# --- OpenVINO


def info(name, us, exec_type="jit_avx512_FP32", status="Status.EXECUTED", kind="Convolution"):
    real_time = datetime.timedelta(microseconds=us)
    return SimpleNamespace(node_name=name, node_type=kind, exec_type=exec_type, real_time=real_time, status=status)


def test_openvino_means_over_all_runs_are_undone_for_runs_to_warm_up():
    (operation,) = openvino.parse_profile([info("a", 2000)], 4, [info("a", 5000)], 1)
    assert operation.ms == pytest.approx(1.0)  # 4 x 2 ms - 1 x 5 ms, over three runs


def test_openvino_tells_the_precision_of_a_kernel_and_leaves_out_what_did_not_run():
    nodes = [
        info("a", 10, "brgemm_avx512_amx_I8"),
        info("b", 10, "unknown", kind="Subgraph"),
        info("c", 10, status="Status.OPTIMIZED_OUT"),
        info("d", 10, status="Status.NOT_RUN"),
        info("e", 10, "jit_uni_bf16", kind="Reorder"),
    ]
    found = by_name(openvino.parse_profile(nodes, 1))
    assert {name: (one.precision, one.moves) for name, one in found.items()} == {
        "a": ("int8", False),
        "b": (None, False),
        "e": ("bf16", True),
    }


# --- torch

CODE = """
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(2, s, t, cached_torch_dtype_bfloat16, cpu, i, &buf0_handle));
    cpp_fused__to_copy_clone_0((const float*)(arg3_1.data_ptr()), (at::BFloat16*)(buf0.data_ptr()));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mkldnn__convolution_pointwise(buf0, _frozen_param1, &buf2_handle));
    auto buf3 = wrap_with_raii_handle_if_needed(reinterpret_tensor_wrapper(buf2, 4, a, b, 0L)); buf2.reset();  // reuse
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_bmm_out(buf3, _frozen_param2, buf9));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_bmm_out(buf8, _frozen_param2, buf9));
"""


def test_precisions_are_followed_through_a_packages_code():
    assert _torch_profile.package_calls(CODE) == {
        "cpp_fused__to_copy_clone_0": ["fp32"],
        "aoti_torch_cpu_mkldnn__convolution_pointwise": ["bf16"],
        "aoti_torch_cpu_bmm_out": ["bf16", None],
    }


def test_calls_of_a_package_are_told_apart_and_helpers_added_up():
    event = _torch_profile.Event
    run = [
        event("graph_0_cpp_fused__to_copy_clone_0", 1.0),
        event("aoti_torch_cpu_bmm_out", 2.0),
        event("aten::copy_", 0.5, ("c10::BFloat16",), nested=True),
        event("aoti_torch_cpu_bmm_out", 3.0),
        event("aten::copy_", 0.5, ("c10::BFloat16",), nested=True),
    ]
    found = by_name(_torch_profile.operations(run * 2, 2, "cpu", _torch_profile.package_calls(CODE)))
    assert {name: (one.ms, one.calls, one.precision, one.moves) for name, one in found.items()} == {
        "cpp_fused__to_copy_clone_0": (1.0, 1, "fp32", True),
        "aoti_torch_cpu_bmm_out #1": (2.0, 1, "bf16", False),
        "aoti_torch_cpu_bmm_out #2": (3.0, 1, None, False),
        "aten::copy_": (1.0, 2, "bf16", True),
    }


def test_on_a_gpu_only_what_ran_there_counts_and_no_transfers():
    """Names as NVIDIA's libraries have them; not recorded on a GPU."""
    event = _torch_profile.Event
    seen = [
        event("aten::mm", 9.0, ("float",)),
        event("ampere_bf16_s16816gemm_bf16_128x128", 2.0, on_device=True),
        event("Memcpy HtoD (Pinned -> Device)", 5.0, on_device=True),
        event("Memcpy DtoD (Device -> Device)", 1.0, on_device=True),
    ]
    found = _torch_profile.operations(seen, 1, "cuda:0")
    assert [(one.ms, one.precision, one.moves) for one in found] == [(2.0, "bf16", False), (1.0, None, True)]


# --- TensorRT

PROFILE = [
    {"count": 100},
    {"name": "Reformatting CopyNode for Input Tensor 0", "timeMs": 2.0, "averageMs": 0.02, "percentage": 10.0},
    {"name": "conv1 + relu1", "timeMs": 18.0, "averageMs": 0.18, "medianMs": 0.17, "percentage": 90.0},
]
HALF = {"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}
SINGLE = {"Format/Datatype": "Row major linear FP32"}
LAYERS = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0",
            "LayerType": "Reformat",
            "Inputs": [SINGLE],
            "Outputs": [HALF],
            "TacticName": "",
        },
        {
            "Name": "conv1 + relu1",
            "LayerType": "CaskConvolution",
            "Inputs": [HALF],
            "Outputs": [HALF],
            "TacticName": "sm80_xmma_fprop_implicit_gemm",
        },
    ]
}


def test_tensorrt_layers_are_the_mean_over_all_profiles():
    moved, convolution = _tensorrt_profile.layer_times([PROFILE, PROFILE], LAYERS)
    assert (moved.ms, moved.precision, moved.moves) == (pytest.approx(0.02), "fp32 to fp16", True)
    assert (convolution.ms, convolution.precision, convolution.unit, convolution.moves) == (
        *(pytest.approx(0.18), "fp16", "sm80_xmma_fprop_implicit_gemm"),
        False,
    )


def test_tensorrt_layers_without_details_have_no_precision():
    moved, convolution = _tensorrt_profile.layer_times([PROFILE], {"Layers": ["conv1 + relu1"]})
    assert moved.moves and (convolution.precision, convolution.type, convolution.unit) == (None, "layer", "GPU")


@pytest.mark.parametrize("profile", [[], [{"count": "x"}], [{"count": 1}, {"name": "a"}], {"count": 1}, "text"])
def test_layer_times_of_another_form_are_refused(profile):
    with pytest.raises(UserError, match="another form"):
        _tensorrt_profile.layer_times([profile], {})


# --- msprof

SUMMARY = (
    """\
Device_id,Model ID,Task ID,Stream ID,Op Name,OP Type,Task Type,Task Start Time(us),Task Duration(us),\
Task Wait Time(us),Block Dim,Input Shapes,Input Data Types,Input Formats,Output Shapes,Output Data Types,Output Formats
0,1,3,7,trans_TransData_0,TransData,AI_CORE,100.1,20.0,0,8,"""
    """"1,3,224,224",DT_FLOAT16,NCHW,"1,1,224,224,16",DT_FLOAT16,NC1HWC0
0,1,4,7,Conv_1,Conv2D,AI_CORE,120.5,200.0,0,8,"1,1,224,224,16",FLOAT16;FLOAT16,NC1HWC0,x,FLOAT16,NC1HWC0
0,1,5,7,Cast_2,Cast,AI_CORE,330.5,10.0,0,8,x,FLOAT16,ND,x,FLOAT,ND
0,1,6,7,NonZero_3,NonZero,AI_CPU,340.5,70.0,0,1,x,DT_FLOAT,ND,x,DT_INT64,ND
0,1,7,7,N/A,N/A,EVENT_RECORD,411.0,1.0,0,0,,,,,,
"""
)


def test_msprof_names_cores_precisions_and_what_the_ai_cpu_ran():
    rows = list(csv.DictReader(io.StringIO(SUMMARY)))
    found = by_name(msprof.parse_op_summary([*rows, *rows], 2))
    assert {name: (one.ms, one.precision, one.unit, one.moves, one.elsewhere) for name, one in found.items()} == {
        "trans_TransData_0": (0.02, "fp16", "AI_CORE", True, False),
        "Conv_1": (0.2, "fp16", "AI_CORE", False, False),
        "Cast_2": (0.01, "fp16 to fp32", "AI_CORE", True, False),
        "NonZero_3": (0.07, "fp32", "AI_CPU", False, True),
    }


def test_an_op_summary_of_another_form_is_refused():
    with pytest.raises(UserError, match="no column 'Task Type'"):
        msprof.parse_op_summary([{"Op Name": "a", "OP Type": "b"}], 1)
    row = {"Op Name": "a", "OP Type": "b", "Task Type": "AI_CORE", "Task Duration(us)": "N/A"}
    with pytest.raises(UserError, match="the duration of a is 'N/A', no number"):
        msprof.parse_op_summary([row], 1)


def test_without_msprof_the_message_says_where_it_comes_from(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="msprof is not on the PATH; it comes with the CANN toolkit"):
        msprof.MsprofProfiler(tmp_path / "bs1.om", "ascend:0")
