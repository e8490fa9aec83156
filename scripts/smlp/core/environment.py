"""Variables of the environment that change what a runtime computes, with how many threads, or by which kernels.

No command sees them unless it is asked to, by `--env NAME=VALUE`; what was asked for is recorded. Variables that only
say where something is, or what is logged, are nobody's concern.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

FLAG = "--env"

# Names and patterns, by whose they are and where that is documented.
VARIABLES = {
    # oneDNN developer guide: "Floating-point math mode", "CPU dispatcher control", "Primitive cache"; DNNL_ and
    # MKLDNN_ are older prefixes of the same names
    "oneDNN": ("ONEDNN_*", "DNNL_*", "MKLDNN_*"),
    # oneMKL developer guide: "Environment variables for OpenMP threading control", "Conditional numerical
    # reproducibility", "Instruction set specific dispatching"
    "MKL": ("MKL_*", "VML_*"),
    # OpenMP 5.2, chapter 21; libgomp manual, chapter 4; LLVM OpenMP runtime: "Environment variables"
    "OpenMP": ("OMP_*", "GOMP_*", "KMP_*", "LIBOMP_*", "OMPTARGET_*"),
    # OpenBLAS README: "Setting the number of threads", OPENBLAS_CORETYPE; the last two are other libraries' counts,
    # which Snakemake sets for every job beside them (snakemake/shell.py)
    "OpenBLAS": ("OPENBLAS_*", "GOTO_*", "BLIS_*", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_*"),
    # NumPy reference: "CPU/SIMD optimizations"; glibc manual: "Hardware capability tunables"
    "NumPy": ("NPY_*", "NUMPY_*", "GLIBC_TUNABLES"),
    # OpenVINO's sources, core and CPU plugin: OV_CPU_MAX_ISA, OV_CPU_*; its threads are oneTBB's
    "OpenVINO": ("OV_*", "OPENVINO_*", "TBB_*"),
    # ONNX Runtime: "Execution providers" (ORT_TENSORRT_*, ORT_CUDA_*); ORT_INTRA_OP_NUM_THREADS and others in its
    # library
    "ONNX Runtime": ("ORT_*", "ONNXRUNTIME_*"),
    # PyTorch documentation: "Environment variables", "CUDA environment variables"; torch/_inductor/config.py and
    # torch/_dynamo/config.py read theirs; Triton README: "Tips for hacking"
    "PyTorch": (
        "TORCH_*",
        "TORCHINDUCTOR_*",
        "TORCHDYNAMO_*",
        "AOT_INDUCTOR_*",
        "AOTINDUCTOR_*",
        "PYTORCH_*",
        "ATEN_*",
        "TRITON_*",
    ),
    # CUDA programming guide: "CUDA environment variables"; cuBLAS: "Results reproducibility"; cuDNN: "Environment
    # variables"; NVIDIA_TF32_OVERRIDE: TensorRT's guide as well, which has no others
    "CUDA and TensorRT": (
        "NVIDIA_TF32_OVERRIDE",
        "CUBLAS_*",
        "CUBLASLT_*",
        "CUDNN_*",
        "CUDA_LAUNCH_BLOCKING",
        "CUDA_MODULE_LOADING",
        "CUDA_MODULE_DATA_LOADING",
        "CUDA_AUTO_BOOST",
        "CUDA_DEVICE_MAX_*",
        "CUDA_DISABLE_*",
        "CUDA_FORCE_*",
        "CUDA_SCALE_LAUNCH_QUEUES",
        "CUDA_GRAPHS_USE_NODE_PRIORITY",
    ),
    # hiascend.com, CANN: "Environment variables" (graph and operator compilation, execution, resources), and of the
    # Ascend extension for PyTorch what the same chips read
    "Ascend": (
        "INF_NAN_MODE_*",
        "ASCEND_LAUNCH_BLOCKING",
        "ASCEND_MAX_OP_CACHE_SIZE",
        "ACL_OP_COMPILER_CACHE_MODE",
        "ACLNN_*",
        "TE_PARALLEL_COMPILER",
        "MAX_COMPILE_CORE_NUMBER",
        "MAX_RUNTIME_CORE_NUMBER",
        "ENABLE_ACLNN",
        "ENABLE_DYNAMIC_SHAPE_MULTI_STREAM",
        "DISABLE_REUSE_MEMORY",
        "OP_NO_REUSE_MEM",
        "GE_USE_STATIC_MEMORY",
        "MULTI_STREAM_MEMORY_REUSE",
        "STREAMS_PER_DEVICE",
        "TASK_QUEUE_ENABLE",
        "COMBINED_ENABLE",
        "CPU_AFFINITY_CONF",
        "HCCL_DETERMINISTIC",
        "LCCL_DETERMINISTIC",
    ),
}
# Of those, what only says where something is, or what is told.
_HARMLESS = (
    *(
        "*_HOME",
        "*_PATH",
        "*_PATHS",
        "*_DIR",
        "*_ROOT",
        "*_ROOT_DIR",
        "*_LIBRARY",
        "*_LIBRARIES",
        "*_VERSION",
        "*_FILE",
    ),
    *("*_VERBOSE", "*_LOG", "*_LOGS", "*_LOG_*", "*_LOGINFO_DBG", "*_LOGDEST_DBG", "TORCH_LOGS_*", "TORCH_SHOW_*"),
    *("OMP_DISPLAY_*", "KMP_SETTINGS", "TORCH_CUDA_ARCH_LIST", "ORT_DISABLE_TELEMETRY"),
    *("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),  # scikit-learn sets them for whatever its process starts
)
_PATTERNS = tuple(pattern for patterns in VARIABLES.values() for pattern in patterns)


def matters(name: str) -> bool:
    """Whether a variable of this name changes arithmetic, threads or kernels."""
    return _is_one(name, _PATTERNS) and not _is_one(name, _HARMLESS)


def _is_one(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def asked(words: Sequence[str]) -> dict[str, str]:
    """What the words of a command line ask for: `--env NAME=VALUE` or `--env=NAME=VALUE`, repeated. The last counts.

    Words of another form are left to the command's parser.
    """
    found = {}
    for before, word in zip(["", *words], words):
        text = word[len(FLAG) + 1 :] if word.startswith(FLAG + "=") else word if before == FLAG else ""
        name, equals, value = text.partition("=")
        if name and equals:
            found[name] = value
    return dict(sorted(found.items()))


def mended(variables: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The environment `variables` without what matters, and with what is wanted."""
    return {**{name: value for name, value in variables.items() if not matters(name)}, **wanted}


def unasked(variables: Mapping[str, str], wanted: Mapping[str, str] = {}) -> list[str]:
    """Names of set variables that matter and that nobody asked for, or not with this value."""
    return sorted(name for name, value in variables.items() if matters(name) and wanted.get(name) != value)


def refusal(names: Sequence[str]) -> str:
    """One line that says which variables are not used, and how to ask for them."""
    return (
        f"not used: {', '.join(names)} of the environment, which would change arithmetic, threads or kernels; "
        f"ask for one by the settings (backends.<name>.env), or by {FLAG} NAME=VALUE of compile.py, infer.py and "
        "measure.py"
    )
