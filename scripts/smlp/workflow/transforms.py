"""What the images of a sweep's models go through: names in paths, flags of commands."""

from __future__ import annotations

from ..models.preprocessing import Spec
from .targets import Settings


class Transforms:
    """The transforms of these models of complete settings. Models whose transforms are the same share a name."""

    def __init__(self, models: Settings) -> None:
        self._specs = {model: Spec.read(entry["transform"], entry["model_name"]) for model, entry in models.items()}
        self._names = {model: entry["model_name"] for model, entry in models.items()}

    def of(self, model: str) -> Spec:
        """The transform of a model."""
        return self._specs[model]

    def named(self, transform: str) -> Spec:
        """The transform that has this name in paths."""
        return next((spec for spec in self._specs.values() if spec.name == transform), Spec.make(of=transform))

    def flags(self, transform: str) -> list[str]:
        """A transform, by its name in paths, for commands that preprocess."""
        return self.named(transform).flags("--model_name")

    def flags_of(self, model: str) -> list[str]:
        """As `flags`, of a model's transform."""
        return self.of(model).flags("--model_name")

    def changes(self, model: str, size_only: bool = False) -> list[str]:
        """How a model's transform differs from its own, for commands about the model. size_only: only in size."""
        return self.of(model).changes(self._names[model], size_only)
