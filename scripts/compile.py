"""Compile one engine: a backend, a precision and a batch size.

Writes the engine to --output and a JSON sidecar beside it, with the batch size read back from the engine,
the command and all versions.

  scripts/compile.py --backend onnxruntime --precision fp32 --batch_size 8 --onnx_path smlp_t.onnx --output bs8.onnx
  scripts/compile.py --backend aotinductor --precision bf16 --batch_size 8 --pth_path smlp_t.pth --output bs8.pt2

With --record_failure an engine that cannot be made here (too large for the memory, refused by its compiler) is no
error: empty files take the place of its own, and the sidecar says why; infer and measure pass that on to the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from smlp import backends
from smlp.backends.base import CALIBRATION, CUDA, Backend, EngineFailure, Options, memory_named
from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    source = flags.onnx_path or flags.pth_path
    options, asked = _options(flags.option), dict(flags.env)
    try:
        compile_engine(
            flags.backend, flags.precision, flags.batch_size, source, flags.output, options, flags.variant, asked
        )
    except EngineFailure as failure:
        if not flags.record_failure:
            raise
        cli.say(f"no engine: {failure}")
        backend, made_from = backends.load(flags.backend), _made_from(source, options)
        with files.whole_file(flags.output) as partial:
            for suffix in (flags.output.suffix, *backend.companions):
                partial.with_suffix(suffix).touch()
            about = {"backend": flags.backend, "precision": flags.precision, "batch_size": flags.batch_size}
            state = _state(partial, backend, {**about, "variant": flags.variant}, made_from, options, asked)
            about = {"backend": flags.backend, "precision": flags.precision, **_named(flags.variant)}
            about |= {"environment": asked, "batch": flags.batch_size}
            start = made_from["source"].start
            record = provenance.describe({"source": source}, state=state, failed=str(failure), **about, start=start)
            files.write_json(files.sidecar_path(partial), record)
    return 0


@lock.hold("cpu", exclusive=False)
def compile_engine(
    backend_name: str,
    precision: str,
    batch_size: int,
    source: Path,
    output: Path,
    options: Options,
    variant: str = "",
    environment: Mapping[str, str] = {},
) -> None:
    """Make the engine file `output` and its sidecar, both or neither.

    variant: name of the target, "" for a plain one; the sidecar records it, and the variables that were asked for.

    Raises UserError for an unknown backend, a precision or option that it does not have, a suffix that its runtime
    would not take, a source of the other kind, or that is not as its sidecar says, and an engine whose own batch size
    is not the one asked for; EngineFailure if the settings are right and there can be no engine all the same.
    """
    backend = backends.load(backend_name)
    if precision not in backend.precisions:
        raise UserError(
            f"backend {backend_name!r} has no precision {precision!r}; choose {', '.join(backend.precisions)}"
        )
    if backend.compiles_from is None:
        raise UserError(f"backend {backend_name!r} runs the checkpoint itself, there is nothing to compile")
    if output.suffix != backend.suffix:
        raise UserError(f"--output {output}: engines of backend {backend_name!r} end in {backend.suffix}")
    if (source.suffix == ".onnx") != (backend.compiles_from == "onnx"):
        flag = {"onnx": "--onnx_path", "checkpoint": "--pth_path"}[backend.compiles_from]
        raise UserError(f"{source}: backend {backend_name!r} compiles from another kind of file; give it with {flag}")
    backend.check_options(options)
    if not source.exists():
        raise UserError(f"{source}: no such file to compile; make it with scripts/export.py or scripts/retrieve.py")
    made_from = _made_from(source, options)
    with files.whole_file(output) as partial:
        with _device(backend, options), memory_named(f"{output}: batch {batch_size}"):
            started = time.perf_counter()
            facts = backend.compile(source, partial, precision=precision, batch_size=batch_size, options=options)
            compile_s = time.perf_counter() - started
        if facts["batch"] != batch_size:
            raise UserError(
                f"{output}: the engine has batch {facts['batch']}, not {batch_size}; its compiler ignored it"
            )
        about = {"backend": backend_name, "precision": precision, "batch_size": batch_size, "variant": variant}
        sidecar = provenance.describe(
            {"source": source},
            backend.packages,
            state=_state(partial, backend, about, made_from, options, environment),
            backend=backend_name,
            precision=precision,
            **_named(variant),
            options=options,
            environment=dict(environment),
            compile_s=compile_s,
            **facts,
            start=made_from["source"].start,
        )
        files.write_json(files.sidecar_path(partial), sidecar)


def _made_from(source: Path, options: Options) -> dict[str, identity.Known]:
    """What an engine is made from, checked: the source, and the bins that it is calibrated with."""
    made_from = {"source": identity.known(source)}
    folder = options.get(CALIBRATION.name)
    if folder and Path(folder).is_dir():  # the backend says what it misses
        made_from["calibration"] = identity.known(folder)
    return made_from


def _state(
    partial: Path,
    backend: Backend,
    about: Facts,
    made_from: Mapping[str, identity.Known],
    options: Options,
    environment: Mapping[str, str],
) -> Facts:
    """Which engine it is whose files are `partial` and its companions. about: its target and batch size."""
    return identity.state(
        "engine",
        identity.contents(partial, (*backend.companions, *_large(partial, backend))),
        made_from={role: artefact.id for role, artefact in made_from.items()},
        flags={**about, "options": _without_paths(backend, options)},
        code=code_digest("compile", backend.name),
        versions=provenance.versions(backend.made_by),
        host=backend.made_for(options) if backend.made_for else None,
        environment=environment,
    )


def _large(partial: Path, backend: Backend) -> list[str]:
    """The companions that only engines have which are too large for one file."""
    return [suffix for suffix in backend.large if partial.with_suffix(suffix).is_file()]


def _without_paths(backend: Backend, options: Options) -> dict[str, str]:
    """The options that decide what is made. A file counts by its content, and so does one that is passed on."""
    kinds = {option.name: option.kind for option in backend.options}
    return {
        name: files.digest(value) if kinds.get(name, "file") == "file" and Path(value).is_file() else value
        for name, value in options.items()
        if kinds.get(name) not in ("folder", "program")
    }


def _device(backend: Backend, options: Options) -> contextlib.AbstractContextManager:
    """Hold the device that a compiler tries its kernels on: CUDA's do, while atc needs no NPU."""
    kind, _, index = options.get("device", backend.device).partition(":")
    return lock.hold(f"{kind}:{index or 0}", exclusive=True) if kind == CUDA.name else contextlib.nullcontext()


def _named(variant: str) -> dict[str, str]:
    return {"variant": variant} if variant else {}


def _options(pairs: Sequence[str]) -> Options:
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--option {pair!r}: key=value was expected")
        options[key] = value
    return options


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--backend", required=True, choices=backends.names(), help="runtime that the engine is for")
    parser.add_argument("--precision", default="fp32", help="one that the backend knows")
    parser.add_argument("--variant", default="", help="name of the target, if it is a variant")
    parser.add_argument("--batch_size", type=cli.positive_int, required=True, help="images per run, fixed by it")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--onnx_path", type=Path, help="ONNX file to compile, from scripts/export.py")
    source.add_argument("--pth_path", type=Path, help="checkpoint to compile, from scripts/retrieve.py")
    parser.add_argument("--output", type=Path, required=True, help="engine file to write")
    cli.add_environment_flag(parser)
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="backend option, repeatable")
    parser.add_argument(
        "--record_failure", action="store_true", help="write a sidecar that says why there is no engine, and go on"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
