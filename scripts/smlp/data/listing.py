"""The flags by which a command is told which images of a data set it works on, with which labels.

Standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core import cli
from . import dataset, sources
from .classes import ORDERS, Rules

# What `dataset.listed` needs besides the folder and the split: flags of commands, and keys of a sweep's `dataset`.
ABOUT = ("labels", "columns", "images", "seed", *Rules._fields)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of everything that `listed` needs."""
    parser.add_argument("--data_root", type=Path, required=True, help="folder that contains val/")
    parser.add_argument("--split", default="val", help="folder below data_root with the images")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="label file, if the layout of data_root does not tell which"
    )
    parser.add_argument(
        "--columns",
        nargs=2,
        metavar=("IMAGE", "CLASS"),
        help="columns of a table: the image's name, and its class by number or by name; else file_name and label",
    )
    parser.add_argument(
        "--images", type=cli.positive_int, metavar="N", help="only N images, of every class its share, by --seed"
    )
    parser.add_argument("--seed", type=cli.count, default=0, help="another seed chooses other images")
    parser.add_argument(
        "--classes",
        metavar="LIST",
        help="names of the model's classes in its order: a file, or a shipped list such as imagenet-1k",
    )
    parser.add_argument("--order", choices=ORDERS, help="who sorted the class folders, where that makes a difference")
    parser.add_argument(
        "--background_class", type=int, choices=(0,), help="the model has this class, which the images have not"
    )
    parser.add_argument("--shard", type=_shard, default="0/1", metavar="K/N", help="only part K (from 0) of N")


def listed(flags: argparse.Namespace, labelled: bool = True) -> dataset.Listed:
    """The images that the flags of a command mean, of all shards. labelled: False if labels do not matter."""
    about = {name: getattr(flags, name) for name in ABOUT}
    return dataset.listed(flags.data_root, flags.split, labelled=labelled, **about)


def contents_of(words: Sequence[str]) -> Iterator[tuple[int, str, int, str]]:
    """(position, path, label, SHA-256) of each image of the shard that a command line means, which has more flags."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    flags, _ = parser.parse_known_args(words)
    for entry in dataset.shard(listed(flags).entries, *flags.shard):
        yield entry.index, entry.image, entry.label, sources.digest(flags.data_root, entry.image)


def _shard(text: str) -> tuple[int, int]:
    """Flag type: K/N, part K (from 0) of N."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, such as 0/4 for the first of four parts")
    return int(index), int(count)
