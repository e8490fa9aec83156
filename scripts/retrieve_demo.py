"""The demo: a small real classification task that needs no download.

Handwritten digits (scikit-learn's copy of the UCI set, 8x8 pixels, Alpaydin and Kaynak 1998) are drawn into images of
many sizes and kinds, as ImageNet has them. A model of full size gets weights that solve the task: a random backbone
whose batch norms fit the images, and a linear head fitted by ridge regression. Its accuracy on held-out digits lies
well between chance and 100%, so that a conversion that harms it shows.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smlp.core import files, lock
from smlp.core.cli import UserError, say
from smlp.data import dataset
from smlp.data.transform import Transform
from smlp.models import architectures, preprocessing

if TYPE_CHECKING:
    import torch
    from PIL import Image

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# class folder of each digit; their sorted order is the digit, hence the label
CLASSES = tuple(f"{digit}_{word}" for digit, word in enumerate(_WORDS))

_CALIBRATION_IMAGES = 64
_BATCH = 16
_JPEG_QUALITY = 90
# One image in 23 is of each unusual kind. The period has no factor in common with the number of classes, so
# that every class gets every kind.
_KIND_PERIOD = 23
_KINDS = {2: "L", 5: "CMYK", 11: "PNG", 17: "L"}


@lock.hold("cpu", exclusive=False)
def make_dataset(root: str | Path, train_images: int, val_images: int, seed: int) -> None:
    """Write `root`/{train,val}/<class>/<split>_<index>.JPEG, whole or not at all.

    Image i of a split shows class i mod 10; no digit sample is in both splits. Besides RGB JPEGs there are grey and
    CMYK JPEGs and PNGs with the suffix .JPEG. The same arguments give the same bytes. Raises UserError for more
    images than there are digits, for fewer than one of each class in a split, and if `root` holds anything but an
    older demo dataset.
    """
    root = Path(root)
    _refuse_foreign(root)
    wanted = {"train": train_images, "val": val_images}
    for split, count in wanted.items():
        if count < len(CLASSES):
            raise UserError(
                f"--{split}_images {count}: at least {len(CLASSES)} are needed, one of each class; "
                "labels are positions of class folders, and none may be empty"
            )
    rng = np.random.default_rng(seed)
    digits = _digits(rng)
    with files.whole_folder(root, own="train|val") as partial:
        for split, count in wanted.items():
            for name in CLASSES:
                (partial / split / name).mkdir(parents=True)
            for index in range(count):
                label = index % len(CLASSES)
                if not digits[label]:
                    raise UserError(
                        f"--train_images {train_images} --val_images {val_images}: the digits set has too few "
                        f"samples of {CLASSES[label]} for so many; ask for at most 1740 together"
                    )
                photograph = _photograph(digits[label].pop(), rng)
                path = partial / split / CLASSES[label] / f"{split}_{index:08d}.JPEG"
                _save(photograph, path, _KINDS.get(index % _KIND_PERIOD, "RGB"))


def _refuse_foreign(root: Path) -> None:
    """Raise UserError if writing the dataset would replace something that is no demo dataset."""
    foreign = [path for path in root.glob("*/*") if path.name not in CLASSES]
    if root.exists() and not root.is_dir():
        foreign = [root]
    if foreign:
        raise UserError(f"{foreign[0]}: is no part of a demo dataset and stays as it is; choose a new --output")


def _digits(rng: np.random.Generator) -> list[list[np.ndarray]]:
    """The samples of each digit in random order, uint8 (8, 8), 255 is ink."""
    from sklearn.datasets import load_digits

    data = load_digits()
    samples = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = rng.permutation(len(samples))
    return [list(samples[order[data.target[order] == label]]) for label in range(len(CLASSES))]


def _photograph(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """An RGB image, sides 200 to 578 px, of `digit` (uint8 (8, 8)) on a textured, noisy ground of another tint."""
    from PIL import Image

    short_px = int(rng.integers(200, 341))
    long_px = int(short_px * rng.uniform(1.0, 1.7))
    width_px, height_px = (short_px, long_px) if rng.random() < 0.4 else (long_px, short_px)

    # within the centre square, because evaluation crops to it
    glyph_px = int(short_px * rng.uniform(0.80, 0.86))
    glyph = Image.fromarray(digit).resize((glyph_px, glyph_px), Image.Resampling.BICUBIC)
    shift_px = rng.uniform(-0.01, 0.01, 2) * short_px
    corner = [int((side - glyph_px) / 2 + shift) for side, shift in zip((width_px, height_px), shift_px)]
    ink = Image.new("L", (width_px, height_px))
    ink.paste(glyph, tuple(corner))
    ink = np.asarray(ink, np.float32)[..., None] / 255

    ground = rng.uniform(40, 65, 3)
    tint = rng.uniform(200, 230, 3)
    coarse = rng.integers(0, 256, (height_px // 24 + 2, width_px // 24 + 2, 3), np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((width_px, height_px), Image.Resampling.BICUBIC), np.float32)
    noise = rng.integers(-12, 13, (height_px, width_px, 1), np.int8)
    pixels = ground + (tint - ground) * ink + (texture - 128) * 0.15 + noise
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _save(image: Image.Image, path: Path, kind: str) -> None:
    if kind == "PNG":
        image.save(path, "PNG")
    else:
        image.convert(kind).save(path, "JPEG", quality=_JPEG_QUALITY)


@lock.hold("cpu", exclusive=False)
def make_checkpoint(
    model_name: str, dataset_root: str | Path, path: str | Path, seed: int, read: Transform | None = None
) -> None:
    """Write a training checkpoint {"model", "args", "epoch"} of `model_name` that classifies the demo dataset.

    The backbone's weights are random (a function of seed, key and shape only), its batch norms are fitted to some
    training images, and the head is the ridge regression of the classes on the features of all of them, regularised
    by leave-one-out cross-validation: one pass over the training split, no gradient. `path` appears whole or not at
    all. read: the preprocessing, the model's own unless given.
    """
    import torch

    # by file name: in that order the classes take turns
    entries = sorted(dataset.list_images(dataset_root, "train"), key=lambda entry: Path(entry.image).name)
    images = [Path(dataset_root, entry.image) for entry in entries]
    labels = np.array([entry.label for entry in entries])
    read = read or preprocessing.resolve(model_name)
    model = architectures.create(model_name, int(labels.max()) + 1)
    head = _head(model, model_name)

    def batches(paths: list[Path]) -> Iterator[torch.Tensor]:
        for start in range(0, len(paths), _BATCH):
            yield torch.from_numpy(np.stack([_read(image, read) for image in paths[start : start + _BATCH]]))

    say(f"{model_name}: fitting batch norms and head to {len(images)} images of {dataset_root}")
    with torch.no_grad():
        _randomise(model, seed)
        _fit_batch_norms(model, batches(images[:_CALIBRATION_IMAGES]))
        _fit_head(model, head, batches(images), labels)
    with files.whole_file(path) as partial:
        torch.save(
            {"model": model.state_dict(), "args": argparse.Namespace(model=model_name, seed=seed), "epoch": 0}, partial
        )


def _read(image: Path, read: Transform) -> np.ndarray:
    try:
        return read(image.read_bytes())
    except UserError as error:
        raise UserError(f"{image}: {error}") from None


def _head(model: torch.nn.Module, model_name: str) -> torch.nn.Module:
    """The one linear layer (or 1x1 convolution) that ends the model."""
    import torch

    names = architectures.classifiers(model_name)
    head = model.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(head, (torch.nn.Linear, torch.nn.Conv2d)) or head.bias is None:
        raise UserError(
            f"{model_name}: has no single linear head with a bias, which the demo fits; choose another --model_name"
        )
    return head


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """Normal weights of variance 1 / fan-in, so that signals keep their size through the layers.

    NumPy's generator, seeded by the key: the same on every machine and with every version of PyTorch. Biases
    become zero and scales one, because some models begin with branches that are scaled to nothing.
    """
    import torch

    for key, parameter in model.named_parameters():
        if parameter.ndim > 1:
            rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
            weights = rng.standard_normal(parameter.shape, np.float32) / np.float32(parameter[0].numel() ** 0.5)
            parameter.copy_(torch.from_numpy(weights))
        elif parameter.ndim == 1:
            parameter.fill_(0 if key.endswith("bias") else 1)


def _fit_batch_norms(model: torch.nn.Module, batches: Iterator[torch.Tensor]) -> None:
    """Set the running statistics of all batch norms to the averages over `batches`."""
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = torch.nn.ModuleList(module for module in model.modules() if isinstance(module, kind)).eval()
    # update_bn trains what it is given: the norms alone, so that nothing is dropped at random elsewhere
    norms.forward = model.forward
    torch.optim.swa_utils.update_bn(batches, norms)


def _fit_head(
    model: torch.nn.Module, head: torch.nn.Module, batches: Iterator[torch.Tensor], labels: np.ndarray
) -> None:
    """Set the head to the ridge regression of one-hot `labels`, int (N,), on its input over `batches`."""
    import torch
    from sklearn.linear_model import RidgeCV

    features: list[np.ndarray] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].flatten(1).double().numpy()))
    for batch in batches:
        model(batch)
    hook.remove()
    x = np.concatenate(features)
    if not np.isfinite(x).all():
        raise UserError("the model's features overflow with random weights; the demo needs another --model_name")
    # on the scale of the features: their total variance over all images
    alphas = len(x) * x.var(axis=0).mean() * np.logspace(-2, 1, 7)
    ridge = RidgeCV(alphas=alphas).fit(x, np.eye(len(head.bias))[labels])
    # rounded above the noise that another order of summation makes
    head.weight.copy_(torch.from_numpy(ridge.coef_.round(5)).reshape(head.weight.shape))
    head.bias.copy_(torch.from_numpy(ridge.intercept_.round(5)))
