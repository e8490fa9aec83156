"""Images of a validation set -> bins that an engine reads as they are.

Reads   <data_root>/val/<class>/*.JPEG, or <data_root>/val/*.JPEG with a label file; docs/inputs.md lists them all
Writes  <save_dir>/batch-00000.bin …  float32, NCHW, C order, no header; the number counts batches over the whole
                                      split; the last bin may be shorter, it is never padded
        <save_dir>/images-00000.npy   with --layout packed, instead: one array (N, 3, H, W) of the whole shard, in the
                                      order of the manifest's rows; the number is the first image's
        <save_dir>/pixels.json        with --pixels uint8: the bins hold bytes, NHWC, and this is how to normalise them
        <save_dir>/manifest.csv       one row per image: index,bin,image,class,label,sha256
        <save_dir>.json               transform, skipped images, versions, how it was made
The folder appears whole or not at all. The pixels are those that torchvision and timm would give, bit for bit.

    python scripts/preprocess.py --data_root /data/imagenet --save_dir results/bins --batch_size 1

--draw makes bins to calibrate with: some images of the training split, chosen by --seed, whose content is none of those
that the manifests of --not_in list. Of equal image files only one is drawn.

    python scripts/preprocess.py --data_root /data/imagenet --split train --draw 128 --not_in results/bins \
        --save_dir results/calibration
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import features

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.code import code_digest
from smlp.core.workers import in_order, progress
from smlp.data import archives, arrays, dataset, listing, pixels, sources
from smlp.data import packed as packed_images
from smlp.data.transform import Transform
from smlp.models import preprocessing

# Images a worker is given at once: enough to hide the hand-over, few enough to stop soon.
_CHUNK_IMAGES = 16
LAYOUTS = ("files", "packed")
PACKAGES = ("numpy", "pillow", "pillow-heif")
# Bytes of NumPy's header before the first image of an array file, for any number of images.
_PACKED_OFFSET = 128


class Outcome(NamedTuple):
    """The result for one image: its checksum, the reason if it is not usable (else None), notes of decoding it."""

    entry: dataset.Entry
    sha256: str
    reason: str | None
    notes: tuple[str, ...] = ()


class Written(NamedTuple):
    """What became of some images. digests: SHA-256 of each bin that is complete, by its name."""

    outcomes: list[Outcome]
    digests: dict[str, str]


@lock.hold("cpu", exclusive=False)
def preprocess(
    entries: Sequence[dataset.Entry],
    data_root: Path,
    save_dir: Path,
    transform: Transform,
    *,
    batch_size: int = 1,
    workers: int = 1,
    skip_bad: bool = False,
    layout: str = "files",
    kind: str = "float32",
) -> provenance.Facts:
    """Write the bins and the manifest of `entries` into the folder `save_dir`; return the facts for its sidecar.

    Among them is `files`: the SHA-256 of each file that was written, by its name.

    layout: one of `LAYOUTS`. kind: one of `pixels.KINDS`. Raises UserError, leaving nothing behind, for
    the first image that cannot be used (unless `skip_bad`), for a disk that is too small and for a worker process that
    dies.
    """
    image_bytes = _blank(transform, kind).nbytes
    files.require_free_space(save_dir.parent, image_bytes * len(entries), f"preprocessing {len(entries)} images")
    rows: list[dataset.Row] = []
    digests: dict[str, str] = {}
    skipped: list[Outcome] = []
    notes: collections.Counter[str] = collections.Counter()
    with files.whole_folder(save_dir, own=dataset.SHARD_FILES) as folder:
        packed = folder / dataset.packed_name(entries[0].index) if layout == "packed" else None
        common = {"data_root": data_root, "transform": transform, "kind": kind}
        if packed:
            packed.touch()
            work = functools.partial(write_packed, path=packed, first_index=entries[0].index, **common)
        else:
            work = functools.partial(write_bins, folder=folder, batch_size=batch_size, **common)
        chunks = list(_chunks(entries, batch_size, workers))
        start = functools.partial(_start_worker, packed_images.known_of(data_root, (one.image for one in entries)))
        with (
            contextlib.closing(in_order(work, chunks, workers, start)) as results,
            progress("preprocess", len(entries), "images") as advance,
        ):
            for outcomes, complete in results:
                digests.update(complete)
                for entry, sha256, reason, found in outcomes:
                    if reason is None:
                        notes.update(found)
                        name = packed.name if packed else dataset.bin_name(entry.index // batch_size)
                        rows.append(dataset.Row(entry.index, name, entry.image, entry.class_name, entry.label, sha256))
                    elif skip_bad:
                        skipped.append(Outcome(entry, sha256, reason))
                    else:
                        raise cli.UserError(
                            f"{data_root / entry.image}: {reason}; replace the file, or leave such images out with "
                            "--on_bad_image skip"
                        )
                advance(len(outcomes))
        if not rows:
            raise cli.UserError(
                f"{data_root / entries[0].image}: {skipped[0].reason}, and so with every image; check --data_root"
            )
        if packed:
            finish_packed(packed, [row.index - entries[0].index for row in rows], _blank(transform, kind))
        if kind == "uint8":
            pixels.write(folder, transform.uint8)
        dataset.write_manifest(folder / dataset.MANIFEST, rows)
        later = (file.name for file in folder.iterdir() if file.name not in digests)
        digests.update({name: files.digest(folder / name) for name in later})
        dataset.sidecar_path(save_dir).unlink(missing_ok=True)  # an old one must not describe the new folder
    return {
        "batch_size": batch_size,
        "layout": layout,
        "pixels": kind,
        "images": len(rows),
        "bins": len({row.bin for row in rows}),
        "bytes": image_bytes * len(rows),
        "transform": transform.to_dict(),
        "transform_words": str(transform),
        "skipped": [
            {"index": entry.index, "image": entry.image, "label": entry.label, "sha256": sha256, "reason": reason}
            for entry, sha256, reason, _ in skipped
        ],
        "decoding": dict(sorted(notes.items())),
        "files": digests,
    }


def write_bins(
    entries: Sequence[dataset.Entry],
    data_root: Path,
    folder: Path,
    transform: Transform,
    batch_size: int,
    kind: str = "float32",
) -> Written:
    """Preprocess consecutive images into whole bins below `folder`.

    An image that cannot be used leaves no gap: the next image takes its place, and the bin gets shorter.
    """
    images = np.stack([_blank(transform, kind)] * batch_size)
    outcomes, digests = [], {}
    for number, batch in itertools.groupby(entries, lambda entry: entry.index // batch_size):
        filled = 0
        for entry in batch:
            outcomes.append(_convert(entry, data_root, transform, images[filled]))
            filled += outcomes[-1].reason is None
        if filled:
            path = folder / dataset.bin_name(number)
            try:
                path.write_bytes(images[:filled].data)
            except OSError as error:  # write() does not say which file
                raise OSError(error.errno, error.strerror, str(path)) from None
            digests[path.name] = hashlib.sha256(images[:filled].data).hexdigest()
    return Written(outcomes, digests)


def write_packed(
    entries: Sequence[dataset.Entry],
    data_root: Path,
    path: Path,
    first_index: int,
    transform: Transform,
    kind: str,
) -> Written:
    """Preprocess consecutive images into their places in a shard's array file, which has no header yet.

    One write for all of them; an image that cannot be used leaves a gap. Not mapped: mapped pages count as memory.
    """
    images = np.stack([_blank(transform, kind)] * len(entries))
    outcomes = [_convert(entry, data_root, transform, image) for entry, image in zip(entries, images)]
    try:
        with open(path, "r+b", buffering=0) as stream:
            stream.seek(_PACKED_OFFSET + (entries[0].index - first_index) * images[0].nbytes)
            left = memoryview(images).cast("B")
            while left:  # the operating system may take a part only
                left = left[stream.write(left) :]
    except OSError as error:  # write() does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from None
    return Written(outcomes, {})


def finish_packed(path: Path, places: Sequence[int], image: np.ndarray) -> None:
    """Close the gaps of a shard's array file, cut off what is left over, and write its header.

    places: the present positions of the images, ascending. image: an array of their dtype and shape.
    """
    header = arrays.header_bytes(image.dtype, (len(places), *image.shape))
    if len(header) != _PACKED_OFFSET:
        raise AssertionError(f"NumPy writes a header of {len(header)} bytes")
    with open(path, "r+b") as stream:
        for place, found in enumerate(places):
            if place != found:
                stream.seek(_PACKED_OFFSET + found * image.nbytes)
                content = stream.read(image.nbytes)
                stream.seek(_PACKED_OFFSET + place * image.nbytes)
                stream.write(content)
        stream.seek(0)
        stream.write(header)
        stream.truncate(_PACKED_OFFSET + len(places) * image.nbytes)


def _blank(transform: Transform, kind: str) -> np.ndarray:
    """One image's array of the kind: float32 (3, H, W) or uint8 (H, W, 3)."""
    return np.zeros(transform.uint8.shape, np.uint8) if kind == "uint8" else np.zeros(transform.shape, np.float32)


def _convert(entry: dataset.Entry, data_root: Path, transform: Transform, out: np.ndarray) -> Outcome:
    """Preprocess one image into `out`: uint8 takes the bytes, float32 the normalised values."""
    content = sources.read(data_root, entry.image)
    reason, notes = None, []
    try:
        if out.dtype == np.uint8:
            out[...] = transform.crop(content, notes)
        else:
            transform(content, out, notes)
    except cli.UserError as error:
        reason = str(error)
    return Outcome(entry, hashlib.sha256(content).hexdigest(), reason, tuple(notes))


def _chunks(entries: Sequence[dataset.Entry], batch_size: int, workers: int) -> Iterator[Sequence[dataset.Entry]]:
    """Runs of whole batches, small enough that every worker gets several."""
    images = min(_CHUNK_IMAGES, len(entries) // (4 * workers))
    step = max(images // batch_size, 1) * batch_size
    return (entries[start : start + step] for start in range(0, len(entries), step))


def _start_worker(known: Mapping[str, object]) -> None:
    """Prepare a process that reads images. known: of the archives that they lie in."""
    archives.know(known)
    _quiet_pillow()


def _quiet_pillow() -> None:
    """Silence Pillow, which warns of odd but readable files (palettes, EXIF data, sizes) once per process."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _require_apart(save_dir: Path, split_folder: Path) -> None:
    """Stop before the bins would become part of the dataset."""
    if split_folder.resolve() in (save_dir.resolve(), *save_dir.resolve().parents):
        raise cli.UserError(
            f"--save_dir {save_dir}: lies among the images in {split_folder}; choose a folder elsewhere"
        )


def _id_of_bins(folder: Path) -> str:
    """The id of bins of which only the manifest is read, and compared with their sidecar."""
    bins = identity.known(folder, check=False)
    if "id" in bins.facts:
        identity.check_files(bins.facts, identity.sidecar_of(folder), folder, only=[dataset.MANIFEST])
    return bins.id


def main(argv: Iterable[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    listing.add_flags(parser)
    parser.add_argument("--save_dir", type=Path, required=True, help="folder for the bins and their manifest")
    parser.add_argument("--batch_size", type=cli.positive_int, default=1, help="images in a bin")
    parser.add_argument(
        "--model_name", default="smlpnet_tiny", help="whose preprocessing: smlpnet_tiny, _small, _base or a timm name"
    )
    parser.add_argument(
        "--draw", type=cli.positive_int, metavar="N", help="only N images of the split, drawn by --seed"
    )
    parser.add_argument(
        "--not_in", type=Path, nargs="*", default=[], metavar="DIR", help="folders of bins whose images are not drawn"
    )
    parser.add_argument("--workers", type=cli.positive_int, default=cli.default_workers(), help="processes")
    parser.add_argument(
        "--on_bad_image",
        choices=("stop", "skip"),
        default="stop",
        help="at an empty, truncated or unreadable image: stop, or leave it out and list it in the sidecar",
    )
    parser.add_argument("--layout", choices=LAYOUTS, default="files", help="files of --batch_size images, or one array")
    parser.add_argument(
        "--pixels", choices=pixels.KINDS, default="float32", help="normalised, or the bytes as they are"
    )
    preprocessing.add_flags(parser)
    args = parser.parse_args(argv)
    if args.layout == "packed" and args.batch_size != 1:
        raise cli.UserError(
            f"--batch_size {args.batch_size}: a packed shard is one array, whatever the batch; leave it out"
        )
    _quiet_pillow()

    spec = preprocessing.take_flags(args, args.model_name)
    transform = spec.resolve()
    if hint := spec.hint():
        cli.say(hint)
    save_dir = Path(os.path.abspath(args.save_dir))
    listed = listing.listed(args, labelled=not args.draw)  # what calibrates needs no label
    everything, labels = listed.entries, listed.facts
    _require_apart(save_dir, args.data_root / args.split)
    index, count = args.shard
    made_from = {}
    if args.draw:
        scored = dataset.checksums([folder / dataset.MANIFEST for folder in args.not_in])
        made_from = {f"not_in_{place}": _id_of_bins(folder) for place, folder in enumerate(args.not_in)}
        everything = dataset.draw(everything, args.data_root, args.draw, args.seed, scored)
    entries = dataset.shard(everything, index, count, args.batch_size)
    if not entries:
        raise cli.UserError(
            f"--shard {index}/{count}: is empty, {args.data_root} has only {len(everything)} images; use fewer shards"
        )
    facts = preprocess(
        entries,
        args.data_root,
        save_dir,
        transform,
        batch_size=args.batch_size,
        workers=args.workers,
        skip_bad=args.on_bad_image == "skip",
        layout=args.layout,
        kind=args.pixels,
    )
    drawn = {"images": args.draw, "seed": args.seed} if args.draw else None
    near = []
    if drawn:
        from smlp.data import near_copies  # only here: it imports scipy

        near = near_copies.warned_of([one.image for one in entries], args.data_root, args.not_in, args.workers)
    part = {"images": args.images, "of": listed.of, "seed": args.seed} if args.images else None
    state = identity.state(
        "bins",
        facts.pop("files"),
        made_from=made_from,
        flags={
            "transform": transform.to_dict(),
            "split": args.split,
            "shard": args.shard,
            "drawn": drawn,
            **({"part": part} if part else {}),
            "labels": None if args.draw else dataset.Rules.of(vars(args)).identity(),
            **{name: getattr(args, name) for name in ("batch_size", "on_bad_image", "layout", "pixels")},
        },
        code=code_digest("preprocess"),
        versions={**provenance.versions(PACKAGES), "libjpeg_turbo": features.version("libjpeg_turbo")},
    )
    sidecar = provenance.describe(
        packages=PACKAGES,
        state=state,
        model=args.model_name,
        data_root=str(args.data_root),
        split=args.split,
        classes=labels and labels["classes"],
        labels=labels,
        shard={"index": index, "count": count},
        drawn=drawn and {**drawn, "not_in": list(map(str, args.not_in)), "near_copies": near},
        part=part,
        left_out=listed.left_out,
        **facts,
        libjpeg_turbo=features.version("libjpeg_turbo"),
    )
    files.write_json(dataset.sidecar_path(save_dir), sidecar)
    if labels:
        cli.say(dataset.said(labels))
    if listed.left_out:
        cli.say(f"{args.data_root}: left out: {dataset.in_words(listed.left_out)}")
    skipped = (
        f", {len(facts['skipped'])} skipped (listed in {dataset.sidecar_path(save_dir)})" if facts["skipped"] else ""
    )
    for note, count in facts["decoding"].items():
        cli.say(f"{count} of {facts['images']} images: {note}")
    cli.say(
        f"{args.save_dir}: {facts['images']} images in {facts['bins']} bins, {facts['bytes'] / 1e6:.1f} MB{skipped}"
    )
    return 0


if __name__ == "__main__":
    cli.run(main)
