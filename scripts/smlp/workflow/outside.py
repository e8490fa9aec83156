"""What a sweep takes from outside, as digests that are parameters of rules: other content, and a job runs again.

Times of such files mean nothing (`ancient` inputs): one that replaces another may well be older.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from .. import backends
from ..core.cli import UserError
from ..core.provenance import versions
from ..data import archives, dataset, listing, packed, sources
from ..data.manifest import images_digest, images_of_shard, not_theirs
from ..models import onnx_files
from .plan import Cell, Sweep
from .targets import Settings
from .watch import Watch, digest_of, is_settled, signature

_OWN = "made by the run itself"
# A dry run needs no images; a real one stops at its start.
_ABSENT = "absent"


class Contents:
    """The contents of everything that a sweep with these complete settings takes from outside."""

    def __init__(self, sweep: Sweep, complete: Settings) -> None:
        # of this host: device numbers differ between hosts that share the folder
        self.watch = Watch(Path("results/.watched", f"{os.uname().nodename}.json"))
        self._sweep = sweep
        self._root, self._split = sweep.data_root, complete["dataset"]["split"]
        about = complete["dataset"]
        self._about = {name: about[name] for name in listing.ABOUT if name in about}
        self._drawn = {"root": sweep.data_root, **complete["calibration"]}

    def source(self, model: str, kind: str, batch: str | None = None) -> list[str]:
        """The user's checkpoint, ONNX file with the files of its weights, or ready-made engine."""
        found = self._sweep.source_file(model, kind, batch)
        beside = self._weights_of(found[0]) if found and kind == "onnx" else []
        return self.watch.digests([*found, *beside])

    def _weights_of(self, file: str) -> list[Path]:
        """The files in which an ONNX file keeps weights; most keep none, and are searched once for each content."""
        digest = self.watch.digest(file)
        known = self.watch.recall("weights beside") or {}
        if known.get(digest) is False:
            return []
        found = onnx_files.companions(file)
        if digest not in known:
            self.watch.remember("weights beside", {**known, digest: bool(found)})
        return found

    def options(self, cell: Cell) -> list[str]:
        """The files that options of compiling name."""
        return self.watch.digests(self._sweep.option_files(cell))

    def imported(self, cell: Cell) -> list[str]:
        """Imported results, with what ais_bench wrote beside them."""
        folders = self._sweep.imported(cell)
        beside = [path for path in (f"{folder}_summary.json" for folder in folders) if Path(path).is_file()]
        return [*map(self.watch.folder, folders), *self.watch.digests(beside)]

    def imported_summary(self, cell: Cell) -> str:
        """The summary that imported throughput is taken from."""
        return self.watch.digest(self._sweep.imported_summary(cell))

    def made_from(self, cell: Cell) -> list[str]:
        """What an engine's outputs must come from, as flags of evaluate.py: the user's files as they are now."""
        sweep, sources = self._sweep, []
        if sweep.own_outputs(cell):
            if sweep.is_ready_made(cell):
                sources = self.source(cell.model, backends.load(cell.backend).ready_made, str(cell.batch))
            else:
                kind = {".pth": "checkpoint", ".onnx": "onnx"}[Path(sweep.start(cell.model)).suffix]
                sources = self.source(cell.model, kind)
        shards = [self.shard(str(shard)) for shard in sweep.shards]
        images = [] if {_OWN, _ABSENT} & set(shards) else ["--images_sha256", *shards]
        return [*(["--sources_sha256", *sources] if sources else []), *images]

    # transforms

    def transform(self, transform: str) -> list[str | None]:
        """What states a transform: timm's version, and its files, which somebody may edit; nothing if it is ours."""
        return self._timm if self._sweep.transforms.named(transform).needs_timm else []

    def model_transform(self, model: str) -> list[str | None]:
        """As `transform`, of a model's transform."""
        return self.transform(self._sweep.transform(model))

    def demo_transform(self, model: str) -> list[str | None]:
        """As `transform`, of what the images go through that the demo's checkpoint is made from.

        Also what states where weights are that timm publishes.
        """
        if self._sweep.asks_timm(model):
            return self._timm
        return self.model_transform(model) if self._sweep.trained_on(model) else []

    @functools.cached_property
    def _timm(self) -> list[str | None]:
        version = versions(["timm"])["timm"]
        found = importlib.util.find_spec("timm")
        if found is None or not found.submodule_search_locations:
            return [version]
        place = Path(found.submodule_search_locations[0])
        sources = sorted(file for part in ("data", "models") for file in (place / part).glob("*.py"))
        names = [file.relative_to(place) for file in sources]
        return [
            version,
            digest_of(f"{name}\0{sha256}" for name, sha256 in zip(names, self.watch.digests(sources), strict=True)),
        ]

    # images

    def require_images(self) -> None:
        """Raise UserError if the user's images are not a dataset. The run makes the demo's itself."""
        if not self._sweep.is_demo:
            _ = self._listed

    @property
    def left_out(self) -> dict[str, int]:
        """What is beside the user's images and not taken, in words, and how many."""
        return self._listed.left_out

    def not_of(self, num_classes: int, whose: str) -> str | None:
        """Why the labels of the user's images are not those of `whose` number of classes; None if they may well be."""
        facts = self._listed.facts or {}
        return not_theirs(facts.get("classes"), {**facts, "left_out": self.left_out}, num_classes, whose)

    def count(self, shard: int) -> int:
        """How many of the user's images a shard has."""
        return len(self._part(shard))

    @functools.cache  # noqa: B019  (it lives as long as the process, and every engine asks for it)
    def shard(self, shard: int | str) -> str:
        """Positions, labels and contents of a shard's images."""
        if self._sweep.is_demo:
            return _OWN
        if not Path(self._root).exists():
            return _ABSENT
        entries, digests = self._part(int(shard)), self._digests(int(shard))
        return images_digest(
            (entry.index, entry.image, entry.label, sha256) for entry, sha256 in zip(entries, digests, strict=True)
        )

    def changed_images(self, folder: str, shard: int | str) -> list[str]:
        """The images by which a shard differs from what `folder` was made from; none if that does not tell."""
        try:
            made_from = {image: rest for _, image, *rest in images_of_shard(folder)}
        except (UserError, LookupError, TypeError, ValueError):  # absent or damaged
            return []
        entries, digests = self._part(int(shard)), self._digests(int(shard))
        now = {entry.image: [entry.label, sha256] for entry, sha256 in zip(entries, digests, strict=True)}
        return sorted(image for image in {**made_from, **now} if made_from.get(image) != now.get(image))

    def classes(self) -> str:
        """How labels were found, which the sidecar of each shard states."""
        if self._sweep.is_demo:
            return _OWN
        if not Path(self._root).exists():
            return _ABSENT
        facts = {key: value for key, value in self._listed.facts.items() if key != "list"}  # its path
        return json.dumps(facts, sort_keys=True)

    def calibration(self) -> str:
        """Paths and contents of the images that are drawn for calibration."""
        root, is_demo = self._drawn["root"], self._sweep.is_demo
        if is_demo and root == self._root:
            return _OWN
        if not Path(root).exists() or not (is_demo or Path(self._root).exists()):
            return _ABSENT
        # the demo's images need not be there yet, and nobody else's are the same
        shards = () if is_demo else self._sweep.shards
        scored = {sha256 for shard in shards for sha256 in self._digests(shard)}
        # Listing a training split takes long: a draw holds until a folder, or an image that it looked at, changes.
        key = json.dumps({**self._drawn, "scored": digest_of(sorted(scored))}, sort_keys=True)
        known = self.watch.recall("draw")
        if isinstance(known, dict) and known.get("of") == key and self._holds(known):
            return known["content"]
        return self._draw(key, scored)

    def draw_holds(self, root: str) -> bool:
        """Whether images of this folder were drawn for calibration, as now asked for, and are as they were."""
        known = self.watch.recall("draw")
        try:
            asked = json.loads(known["of"])
            return {**asked, "scored": ""} == {**self._drawn, "root": root, "scored": ""} and self._holds(known)
        except (KeyError, TypeError, ValueError):  # none was, or damaged
            return False

    def _draw(self, key: str, scored: Collection[str]) -> str:
        root, split = self._drawn["root"], self._drawn["split"]
        begin_ns = time.time_ns()
        entries = dataset.list_images(root, split, columns=self._drawn.get("columns"), labelled=False)
        places = {place: os.stat(place) for place in sources.places(root, split)}
        looked_at: dict[str, str] = {}

        def digest(image: str) -> str:
            (looked_at[image],) = self._content(root, [image])
            return looked_at[image]

        drawn = dataset.draw(entries, root, self._drawn["images"], self._drawn["seed"], scored, digest)
        content = digest_of(f"{entry.image}\0{looked_at[entry.image]}" for entry in drawn)
        if all(is_settled(found, begin_ns) for found in places.values()):
            signatures = {place: signature(found) for place, found in places.items()}
            self.watch.remember("draw", {"of": key, "folders": signatures, "images": looked_at, "content": content})
        return content

    def _holds(self, known: Settings) -> bool:
        """Whether the folders and images that a remembered draw looked at are as they were."""
        try:
            is_same = all(signature(os.stat(place)) == found for place, found in known["folders"].items())
        except OSError:  # one is gone
            return False
        return is_same and self._content(self._drawn["root"], list(known["images"])) == list(known["images"].values())

    def _content(self, root: str, images: Sequence[str]) -> list[str]:
        """The digest of each image, wherever it lies."""
        inside: dict[str, list[str]] = {}
        places = [packed.locate(root, image) for image in images]
        for place in filter(None, places):
            inside.setdefault(place[0], []).append(place[1])
        if not inside:
            return self.watch.digests(os.path.join(root, image) for image in images)
        found = {}
        for file, names in inside.items():
            digests = self.watch.inside(file, names, functools.partial(packed.digest, file))
            found |= {(file, name): digest for name, digest in zip(names, digests, strict=True)}
        alone = iter(self.watch.digests(os.path.join(root, image) for image, place in zip(images, places) if not place))
        return [found[place] if place else next(alone) for place in places]

    @functools.cached_property
    def _listed(self) -> dataset.Listed:
        """Every image that is scored, listed once for all shards; archives are read once for all plans."""
        archives.know(self.watch.recall("archives"))
        begin_ns, before = time.time_ns(), archives.known()
        listed = dataset.listed(self._root, self._split, **self._about)
        now = archives.known()
        if now != before and all(is_settled(os.stat(path), begin_ns) for path in now):
            self.watch.remember("archives", now)
        return listed

    def _part(self, shard: int) -> list[dataset.Entry]:
        return dataset.shard(self._listed.entries, shard, len(self._sweep.shards))

    @functools.cache  # noqa: B019  (it lives as long as the process)
    def _digests(self, shard: int) -> list[str]:
        return self._content(self._root, [entry.image for entry in self._part(shard)])
