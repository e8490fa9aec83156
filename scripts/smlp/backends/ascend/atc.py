"""atc makes an .om of an ONNX file. It needs CANN and no NPU.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.cli import UserError
from ..base import EngineFailure, Facts, Options
from . import cann, npu_smi, op_precision

_SUCCESS = "ATC run success"
# options of ours that name a file -> the option of atc, the file's name in the scratch folder
_FILES = {
    "op_precision_ini": ("op_precision_mode", "op_precision.ini"),
    "aipp_config": ("insert_op_conf", "aipp.config"),
    "fusion_switch_file": ("fusion_switch_file", "fusion_switch.cfg"),
}
_OURS = ("framework", "model", "output", "input_format", "input_shape", "log", "op_precision_mode", "precision_mode")
_HINTS = {
    "E19010": "export with a lower opset: export.opset_version",
    "EZ9010": "export with a lower opset: export.opset_version",
    "E16002": "export with a lower opset: export.opset_version",
    "EC0010": "atc's python3 lacks a package (it needs numpy<2, decorator, attrs, psutil, sympy, scipy, protobuf); "
    "name one that has them in backends.ascend.python",
    "E40000": "atc's python3 lacks a package, or has numpy 2; name another in backends.ascend.python",
}


def command_line(
    model: str,
    output: str,
    *,
    batch_size: int,
    soc_version: str,
    precision: str,
    image_shape: Sequence[int] = (3, 224, 224),
    input_name: str = "input",
    input_format: str = "NCHW",
    options: Mapping[str, str] | None = None,
) -> list[str]:
    """The guide's command line, with what the precision and the options add. Names of files are relative.

    output: without .om, which atc appends. options: those of `compile_engine`; with `dynamic_batch_size` the batch is
    left open.
    """
    options = dict(options or {})
    batch = -1 if "dynamic_batch_size" in options else batch_size
    command = [
        "atc",
        "--framework=5",
        f"--model={model}",
        f"--output={output}",
        f"--input_format={input_format}",
        f"--input_shape={input_name}:{','.join(map(str, (batch, *image_shape)))}",
        "--log=error",
        f"--soc_version={soc_version}",
    ]
    if precision == "fp32":
        # force_fp32 is the same as cube_fp16in_fp32out: matrix products would get fp16 inputs
        command.append("--precision_mode=must_keep_origin_dtype")
    for key, (atc_option, name) in _FILES.items():
        if key in options and (precision == "high" or key != "op_precision_ini"):
            command.append(f"--{atc_option}={name}")
    further = {key: value for key, value in options.items() if key not in (*_FILES, "soc_version", "python")}
    return command + [f"--{key}={value}" for key, value in further.items()]


def shown_command(
    precision: str, batch_size: int, image_shape: Sequence[int], as_bytes: bool, options: Options
) -> list[str]:
    """The command line of an engine for a dry run, which must do without CANN, npu-smi and the ONNX file."""
    return command_line(
        "model.onnx",
        f"bs{batch_size}",
        batch_size=batch_size,
        soc_version=options.get("soc_version", "<as npu-smi info says>"),
        precision=precision,
        image_shape=image_shape,
        input_format="ND" if as_bytes else "NCHW",
        options=options,
    )


def made_for(options: Options) -> Facts:
    """CANN, and the chip: that of the option, else what npu-smi says."""
    return {"cann": cann.require()[1], "soc_version": options.get("soc_version") or npu_smi.soc_version()}


def compile_engine(source: Path, output: Path, *, precision: str, batch_size: int, options: Options) -> Facts:
    """Run `command_line` in a scratch folder of its own and bring the .om to `output`.

    options: soc_version (npu-smi's chip unless given), python (whose folder atc finds its python3 in), op_precision_ini
    (precision high needs it), aipp_config, fusion_switch_file; any other key is one of atc's own. What an .om contains
    only an NPU can tell: the batch is the one asked for, and checked when the engine is opened.
    """
    from ...models import onnx_files, onnx_graph

    for key in options:
        if key in _OURS:
            raise UserError(f"--option {key}: the command states that itself; remove the option")
    if precision == "high" and "op_precision_ini" not in options:
        raise UserError("precision 'high' needs --option op_precision_ini=resources/op_precision.ini")
    home, version = cann.require()
    model = onnx_graph.load(source)
    newest = cann.newest_opset(version)
    if onnx_graph.opset(model) > newest:
        raise UserError(
            f"{source}: has opset {onnx_graph.opset(model)} and CANN {version} reads up to {newest}; "
            f"export it again with export.opset_version (--opset_version) {min(11, newest)}"
        )
    if precision == "high":
        names = {node.name for node in model.graph.node}
        op_precision.check(Path(options["op_precision_ini"]), op_precision.known_modes(home), names)
    image = onnx_graph.inputs(model)[0]
    soc_version = options.get("soc_version") or npu_smi.soc_version()
    command = command_line(
        "model.onnx",
        f"bs{batch_size}",
        batch_size=batch_size,
        soc_version=soc_version,
        precision=precision,
        image_shape=onnx_graph.shape(image)[1:],
        input_name=image.name,
        input_format="ND" if onnx_graph.takes_uint8(model) else "NCHW",  # for bytes NHWC, which atc has no word for
        options=options,
    )
    # atc refuses blanks in paths and litters its working folder, in which two runs disturb each other
    with tempfile.TemporaryDirectory(prefix="smlp-atc-", dir=cann.plain_scratch_parent()) as folder:
        scratch = Path(folder)
        shutil.copyfile(source, scratch / "model.onnx")
        for data in onnx_files.companions(source):  # of graphs of more than 2 GB
            onnx_files.same(data, scratch / data.name)
        for key, (_, name) in _FILES.items():
            if key in options:
                shutil.copyfile(options[key], scratch / name)
        done = subprocess.run(
            command,
            cwd=scratch,
            env=environment(options.get("python")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = done.stdout.decode(errors="replace")
        print(said, end="", flush=True)
        made = sorted(scratch.glob(f"bs{batch_size}*.om"))  # newer versions append the host's platform
        if done.returncode or _SUCCESS not in said or len(made) != 1:
            raise EngineFailure(f"{source}: atc failed with status {done.returncode}: {explain(said)}")
        shutil.copyfile(made[0], output)
    return {
        "batch": batch_size,
        "batch_checked": False,
        "soc_version": soc_version,
        "cann": version,
        "atc_command": command,
        "atc_warnings": [message for _, message in messages(said, "W")],
        "opset": onnx_graph.opset(model),
        "emulated": _is_emulated(output),
    }


def messages(said: str, kind: str) -> list[tuple[str, str]]:
    """(code, text) of every error ("E") or warning ("W") in atc's output; each text one line, cause and solution in it.

    CANN 8 and later put process and date before the text; tracebacks are left out.
    """
    found: list[tuple[str, list[str]]] = []
    for line in said.splitlines():
        start = re.match(r"\s*([EW][0-9A-Z]\d{3,4}):\s*(?:\[PID: *\d+\]\s+\S+\s+)?(.*)", line)
        if start:
            found.append((start[1], [start[2]]))
        elif found and line[:1].isspace():
            found[-1][1].append(line.strip())
        else:
            found.append(("", []))  # what follows belongs to no message
    texts = ((code, " ".join(lines).split("TraceBack")[0].strip()) for code, lines in found)
    return [(code, f"{code}: {text}") for code, text in texts if code.startswith(kind)]


def explain(said: str) -> str:
    """Why atc failed, in its own words, and what to do about it, in one line."""
    errors = messages(said, "E")
    stray = [line.strip() for line in said.splitlines() if re.match(r"(ERROR:|atc.*error)", line)]
    words = "; ".join([*stray, *(text for _, text in errors)]) or " ".join(said.split())[-300:] or "it said nothing"
    hints = dict.fromkeys(_HINTS[code] for code, _ in errors if code in _HINTS)
    return "; ".join([words, *hints])


def environment(python: str | None) -> dict[str, str]:
    """The environment for atc, whose compiler runs the first python3 on PATH and needs numpy<2.

    That must not be the virtual environment of this project, unless it is the one named.
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if python:
        places.insert(0, str(Path(shutil.which(python) or python).parent))
    elif sys.prefix != sys.base_prefix:
        places = [place for place in places if Path(place) != Path(sys.executable).parent]
    return {**os.environ, "PATH": os.pathsep.join(places)}


def _is_emulated(path: Path) -> bool:
    with open(path, "rb") as stream:
        return b"emulated_om_for" in stream.read(100)
