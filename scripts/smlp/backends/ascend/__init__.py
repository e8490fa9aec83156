"""Ascend NPUs: `atc` makes an .om of an ONNX file, `aclruntime` runs it.

The contracts of both, of npu-smi and of CANN's files are in the modules here. NumPy is all that they need.
"""

from __future__ import annotations

from ..base import Backend, DeviceKind, Option
from . import atc, cann, examine, session

NPU = DeviceKind("ascend", resource="npu", visible="ASCEND_RT_VISIBLE_DEVICES")

BACKEND = Backend(
    name="ascend",
    compiles_from="onnx",
    suffix=".om",
    precisions=("high", "fp16", "fp32"),
    devices=(NPU,),
    packages=("aclruntime", "numpy"),
    compile_packages=(),  # CANN's version is not asked for: a host without CANN would want to compile everything anew
    python_compiles=False,  # it has aclruntime and need not have onnx
    options=(
        Option(
            "soc_version",
            "the chip to compile for, such as Ascend310P3; what npu-smi says of this host unless given",
            pattern="^[A-Za-z0-9_]+$",
        ),
        Option(
            "python",
            "Python that has aclruntime (and runs infer and measure with it); its folder is also where atc finds its "
            "python3, which needs numpy<2. The Python that runs Snakemake unless given",
            kind="program",
        ),
        Option("aipp_config", "AIPP file (atc --insert_op_conf); the engine then takes uint8 NHWC images", kind="file"),
        Option("fusion_switch_file", "atc --fusion_switch_file", kind="file"),
        Option(
            "op_precision_ini",
            'implementation modes of operators, for precision "high"',
            kind="file",
            default="resources/op_precision.ini",
            precisions=("high",),
        ),
    ),
    passes_on=Option("atc_options", "further options of atc by their names without dashes"),
    compile=atc.compile_engine,
    open=session.open_engine,
    made_for=atc.made_for,
    telemetry=session.telemetry,
    normalises=lambda options: "aipp_config" in options,
    shows=atc.shown_command,
    ready_made="om",
    examine=examine.examine,
    host_root=cann.ROOT,
)
