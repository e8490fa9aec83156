"""How many classes the models of a sweep give, as far as files that are there tell while it is planned.

The commands themselves find it out later, and hold labels to it. Nothing is guessed here: what is not certain is left
to them, as is what is wrong with a file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ..core import code, files, identity
from ..core.cli import UserError
from ..core.provenance import Facts, versions
from ..models import class_counts
from .outside import Contents
from .plan import Sweep
from .targets import Settings

_MEMORY = "classes"
# In a process of its own: a file that crashes it, fills the memory, or never ends, must not end the plan.
_COUNT = "import sys; sys.path.insert(0, sys.argv[1]); from smlp.models import class_counts; class_counts.main()"
_PATIENCE_S = 300


class ClassCounts:
    """Of a sweep with these complete settings."""

    def __init__(self, sweep: Sweep, complete: Settings, contents: Contents) -> None:
        self._sweep, self._contents = sweep, contents
        self._models = complete["models"]

    def of(self, model: str) -> tuple[int, str] | None:
        """The number of classes of a model, and what states it, in words; None if nothing does yet."""
        entry = self._models[model]
        if "num_classes" in entry:
            return entry["num_classes"], f"models.{model}.num_classes"
        kind = "checkpoint" if "checkpoint" in entry else "onnx"
        retrieved = Path(self._sweep.start(model))
        try:
            own = self._sweep.source_file(model, kind)
            digests = self._contents.source(model, kind)
        except UserError:  # it is missing, or weights beside it are: the rule that takes it says so
            return None
        earlier = self._earlier(model, kind, retrieved)
        if not own and not earlier:
            return None
        file = own[0] if own else str(retrieved)
        digests = digests or [self._contents.watch.digest(file)]
        stated = (earlier or {}).get("num_classes")
        if isinstance(stated, int) and earlier["identity"]["files"].get(retrieved.suffix) == digests[0]:
            count: int | None = stated
        else:
            count = self._learnt(model, kind, file, digests)
        return None if count is None else (count, f"{entry[kind]['source']} (models.{model}.{kind})")

    def _earlier(self, model: str, kind: str, retrieved: Path) -> Facts | None:
        """The sidecar of what an earlier run retrieved, if that is what these settings ask for."""
        entry = self._models[model]
        sidecar = files.sidecar_path(retrieved)
        if not (retrieved.is_file() and sidecar.is_file()):
            return None
        try:
            facts = files.read_json(sidecar, "a sidecar")
            asked = {"source": entry[kind]["source"]}
            if kind == "checkpoint":
                asked |= {"model_name": entry["model_name"], "key": entry[kind].get("key")}
            is_it = identity.verify(facts, sidecar) and all(facts.get(name) == value for name, value in asked.items())
        except (UserError, AttributeError, TypeError):  # damaged: the run says so
            return None
        return facts if is_it else None

    def _learnt(self, model: str, kind: str, file: str, digests: list[str]) -> int | None:
        """What this content gives, found out once; None if that cannot be found out."""
        entry, watch = self._models[model], self._contents.watch
        command, packages = class_counts.READ_BY[kind]
        about = {"transform": entry["transform"], **{name: entry[kind].get(name) for name in ("key", "output")}}
        words = [kind, file, entry["model_name"], about]
        of = identity.digest([digests, kind, words[2:], code.code_digest(command), versions(packages)])
        known = watch.recall(_MEMORY) or {}
        if of not in known:
            with watch.patience():
                known = {**known, of: _count(json.dumps(words))}
            watch.remember(_MEMORY, known)
        return known[of] if isinstance(known[of], int) else None


def _count(words: str) -> int | None:
    try:
        asked = [sys.executable, "-c", _COUNT, str(code.SCRIPTS), words]
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S)
        return int(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, OSError):
        return None
