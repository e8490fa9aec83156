"""What a sweep needs of its data, checked while it is planned: a dry run says it too, and no job has begun.

The checks are input functions of the rules that need them; they add no input.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

from ..core import cli, files
from ..core.cli import UserError
from ..data import dataset
from .class_counts import ClassCounts
from .outside import Contents
from .plan import Sweep
from .targets import Settings


class Checks:
    """Of a sweep with these complete settings. is_asked: False in a job's own process, where all was checked before."""

    def __init__(self, sweep: Sweep, complete: Settings, contents: Contents, is_asked: bool = True) -> None:
        self._sweep, self._contents, self._is_asked = sweep, contents, is_asked
        self._counts = ClassCounts(sweep, complete, contents)
        self._calibration = {"root": sweep.data_root, **complete["calibration"]}
        self._as_bytes = complete["dataset"]["pixels"] == "uint8"

    @functools.cache  # noqa: B019  (it lives as long as the process, and every shard asks for it)
    def images(self) -> list[str]:
        """No file. Raises UserError if the user's images, their labels or the disk are not as the sweep needs them."""
        if not self._is_asked or self._sweep.is_demo:
            return []
        if not Path(self._sweep.data_root).exists():  # of a dry run; a real one stops at its start
            cli.say(f"dataset.root: {self._sweep.data_root}: is not here, so nothing about its images is checked")
            return []
        self._contents.require_images()
        if left_out := self._contents.left_out:
            cli.say(f"{self._sweep.data_root}: left out: {dataset.in_words(left_out)}")
        for model in self._sweep.models:
            found = self._counts.of(model)
            if why := found and self._contents.not_of(*found):
                raise UserError(f"{self._sweep.data_root}: {why}")
        need_bytes = images = 0
        for transform, model in {self._sweep.transform(model): model for model in self._sweep.models}.items():
            missing = [shard for shard in self._sweep.shards if not Path(self._sweep.shard(transform, shard)).exists()]
            count = sum(map(self._contents.count, missing))
            images += count
            need_bytes += count * self._image_bytes(model) if count else 0
        files.require_free_space("results", need_bytes, f"preprocessing {images} images")
        return []

    @functools.cache  # noqa: B019  (it lives as long as the process, and every transform asks for it)
    def calibration(self) -> list[str]:
        """No file. Raises UserError if there are not the images that int8 engines are to be calibrated on."""
        root, split, wanted = (self._calibration[key] for key in ("root", "split", "images"))
        own = root == self._sweep.data_root
        if not self._is_asked or (own and (self._sweep.is_demo or not Path(root).exists())):
            return []
        if self._contents.draw_holds(root):
            return []
        try:
            columns = self._calibration.get("columns")
            found = len(dataset.list_images(root, split, columns=columns, labelled=False))
            if found < wanted:
                raise UserError(f"{root}: has only {found} images in {split}, calibration.images asks for {wanted}")
        except UserError as error:
            raise UserError(
                f"{error}; int8 engines are calibrated on these images: set calibration.root and calibration.split, or "
                "remove the int8 targets"
            ) from None
        return []

    def _image_bytes(self, model: str) -> int:
        facts = self._sweep.transforms.of(model).resolve()
        return math.prod(facts.uint8.shape if self._as_bytes else facts.shape) * (1 if self._as_bytes else 4)
