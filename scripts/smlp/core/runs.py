"""The facts of a run: which engine, of which model and target, ran where. Every command states them in one way.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from . import identity
from .cli import UserError
from .provenance import Facts


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """One run of an engine. None means that nobody told.

    model           its name in tables
    backend, precision, variant  the target; a plain target has the variant ""
    batch           images per execution
    device          cpu, cuda:N or ascend:N
    emulated        whether an emulator took the device's place
    threads         CPU threads; None is also the runtime's own choice
    engine_path, engine_id  the engine, as smlp.core.identity tells engines apart
    start           what the model starts from: {id, sha256, md5} of a checkpoint or ONNX file
    num_classes     of the model
    """

    model: str | None = None
    backend: str | None = None
    precision: str | None = None
    variant: str | None = None
    batch: int | None = None
    device: str | None = None
    emulated: bool | None = None
    threads: int | None = None
    engine_path: str | None = None
    engine_id: str | None = None
    start: dict[str, Any] | None = None
    num_classes: int | None = None

    @classmethod
    def read(cls, written: Facts) -> RunFacts:
        """What `identity`, `of_engine` or `of_scores` wrote; {} gives a run of which nothing is known."""
        engine = written.get("engine")
        engine = engine if isinstance(engine, dict) else {}
        return cls(
            model=written.get("model"),
            backend=written.get("backend"),
            precision=written.get("precision"),
            variant=written.get("variant", "" if written else None),
            batch=written.get("batch"),
            device=written.get("device"),
            emulated=written.get("emulated"),
            threads=written.get("threads"),
            engine_path=engine.get("path"),
            engine_id=engine.get("id", written.get("engine_id")),
            start=written.get("start"),
            num_classes=written.get("num_classes"),
        )

    @classmethod
    def asked(cls, flags: argparse.Namespace, sidecar: Facts) -> RunFacts:
        """What the flags of every command that runs an engine, and that engine's sidecar, say before it is opened.

        Raises UserError if they name different variants.
        """
        variant = sidecar.get("variant") or ""
        if variant and flags.variant not in ("", variant):
            raise UserError(
                f"--variant {flags.variant}: the sidecar of {flags.model} says {variant!r}; leave the flag out, or "
                "compile the engine for this variant"
            )
        return cls(
            model=flags.model_label or sidecar.get("model_name") or flags.model.stem,
            backend=flags.backend or sidecar.get("backend"),
            precision=sidecar.get("precision"),
            variant=flags.variant or variant,
            batch=sidecar.get("batch") or flags.batchsize,
            threads=flags.threads,
            engine_path=str(flags.model),
            engine_id=sidecar.get("id"),
            start=sidecar.get("start"),
        )

    def with_flags(self, given: RunFacts, where: object) -> RunFacts:
        """These facts, completed by those that were given. Only the model may get another name.

        where: the file that states these facts. Raises UserError for a given fact that contradicts them.
        """
        added = {}
        for name, value in vars(given).items():
            own = getattr(self, name)
            if value in (None, "") or value == own:
                continue
            if own is not None and name != "model":
                raise UserError(f"{where}: {name} is {own!r} but the flag says {value!r}; drop the flag")
            added[name] = value
        return dataclasses.replace(self, **added)

    def identity(self) -> Facts:
        """What every file says: the model, the target and the batch size. A plain target has no key `variant`."""
        variant = {"variant": self.variant} if self.variant else {}
        return {
            "model": self.model,
            "backend": self.backend,
            "precision": self.precision,
            **variant,
            "batch": self.batch,
        }

    def of_engine(self) -> Facts:
        """What summaries of infer.py and measure.py say, in their part `smlp`."""
        return {
            **self.identity(),
            "device": self.device,
            "threads": self.threads,
            **self.made_by(),
            "emulated": bool(self.emulated),
        }

    def failure(self, reason: str) -> Facts:
        """The record in place of a result that there cannot be."""
        state = identity.state("failure", {}, made_from={"engine": self.engine_id or ""}, flags={"failed": reason})
        return {"failed": reason, "smlp": identity.sealed({**self.identity(), **self.made_by(), **state})}

    def made_by(self) -> Facts:
        """Which engine, and what its model starts from."""
        return {"engine": {"path": self.engine_path, "id": self.engine_id}, "start": self.start}

    def of_scores(self) -> Facts:
        """What files of evaluate.py say."""
        return {
            **self.identity(),
            "device": self.device,
            "engine_id": self.engine_id,
            "start": self.start,
            "num_classes": self.num_classes,
            "emulated": bool(self.emulated),
        }
