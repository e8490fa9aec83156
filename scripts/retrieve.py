"""Retrieve what a sweep starts from: a checkpoint, a ready-made ONNX file or Ascend engine, or the demo's dataset.

Reads   --source: a path, or an http, https or file URL; of a checkpoint or an ONNX file also hf-hub:owner/name@revision
        of the Hugging Face hub; of a checkpoint also timm:name.tag, weights that timm publishes, and `demo`, which
        makes one for the demo's dataset instead
Writes  --output, only if its checksum is right and (checkpoint) every weight fits the model, and a JSON sidecar
        beside it. A download that broke off is continued by the next run.

    python scripts/retrieve.py checkpoint --model_name smlpnet_tiny --source https://host/smlp_t.pth \\
        --md5 061415304f38317c3850a587ef709d45 --output results/retrieve/smlpnet_tiny/checkpoint.pth
    python scripts/retrieve.py checkpoint --model_name resnet50.a1_in1k --source timm:resnet50.a1_in1k \\
        --output results/retrieve/resnet50/checkpoint.pth
    python scripts/retrieve.py onnx --source ../theirs.onnx --output results/retrieve/theirs/model.onnx
    python scripts/retrieve.py dataset --output results/retrieve/demo --train_images 480 --val_images 160
    python scripts/retrieve.py checkpoint --model_name smlpnet_tiny --source demo \\
        --demo_dataset results/retrieve/demo --output results/retrieve/smlpnet_tiny/checkpoint.pth
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from smlp import backends
from smlp.backends.base import Backend
from smlp.core import cli, files, hub, identity, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.models import preprocessing

PACKAGES = ("torch", "torchvision", "timm", "einops", "safetensors", "numpy", "scikit-learn", "pillow")
DATASET_PACKAGES = ("numpy", "scikit-learn", "pillow")
DEMO = "demo"
# Suffixes of what lies beside a fetched ONNX file: weights beside it must not have them.
_TAKEN = (".json", ".onnx", ".pth", ".om")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = vars(_parse(argv))
    run = arguments.pop("run")
    cli.say(f"{arguments['output']}: {run(**arguments)}")
    return 0


def checkpoint(
    source: str,
    output: Path,
    model_name: str,
    num_classes: int | None,
    key: str | None,
    md5: str | None,
    sha256: str | None,
    demo_dataset: Path | None,
    seed: int,
    transform: preprocessing.Spec,
) -> str:
    """Fetch a checkpoint, or make the demo's, and prove that it loads completely.

    Returns one line that describes it.
    """
    import retrieve_demo

    from smlp.models import architectures
    from smlp.models.checkpoint import load_model

    runs_it = backends.reference("checkpoint")
    facts: Facts = {"model_name": model_name, "backend": runs_it.name, "precision": runs_it.precisions[0]}
    chosen: Facts = {} if key is None else {"key": key}
    own: Facts = {**chosen} if demo_dataset is None else {"seed": seed}
    size = transform.other_size(model_name)
    if size:  # all that runs the checkpoint takes images of this size
        facts["image_size"] = own["image_size"] = size
    about: Facts = {}

    def check(path: Path, found: Facts) -> None:
        try:
            with architectures.sized(size):
                facts.update(load_model(model_name, path, num_classes, key)[1] | chosen | found)
        except UserError as error:  # the user knows the source, not the scratch path
            raise UserError(str(error).replace(str(path), source)) from None
        flags = {name: facts[name] for name in ("model_name", "num_classes")} | own
        state = identity.state("checkpoint", identity.contents(path), flags=flags, **about)
        start = identity.start(state["id"], path)
        _write_sidecar(path, source, state, start and start | chosen, **facts)

    if demo_dataset is None:
        _fetch_weights(source, output, md5, sha256, check)
    else:
        facts["demo"] = {"dataset": str(demo_dataset), "seed": seed}
        # what decides its weights; those of another processor may differ in bytes, and the content says that
        about["made_from"] = {"dataset": identity.known(demo_dataset).id}
        about["code"] = code_digest("retrieve")
        about["versions"] = provenance.versions(PACKAGES)
        with files.whole_file(output) as partial:
            with architectures.sized(size):
                retrieve_demo.make_checkpoint(model_name, demo_dataset, partial, seed, transform.resolve())
            check(partial, {})
    return (
        f"{model_name}, {facts['parameters']:,} parameters, {facts['num_classes']} classes, weights: {facts['taken']}"
    )


def onnx(source: str, output: Path, md5: str | None, sha256: str | None) -> str:
    """Fetch an ONNX file, and the files with its weights, whose graph scripts/export.py --source_onnx_path checks.

    The checksums are those of the ONNX file itself. Returns one line that describes it.
    """
    from smlp.core import download
    from smlp.models import onnx_files

    beside: list[str] = []
    place, found = source, {}
    fetched = hub.fetch(source, hub.ONNX) if source.startswith(hub.PREFIX) else None
    if fetched:
        place, found = str(fetched.path), _at_hub(fetched)

    def weights(name: str) -> str:
        return str(hub.fetch(hub.beside(fetched, name)).path) if fetched else download.beside(source, name)

    def describe(path: Path) -> None:
        names = onnx_files.locations(path, source)
        local = None if fetched else download.local_path(source)
        if local and names:
            onnx_files.companions(local)  # links lead who knows where
        for name in names:
            if Path(name).suffix in _TAKEN or name.startswith("."):
                raise UserError(f"{source}: keeps weights in {name!r}, a name that is taken here; save it with another")
            rest = output.with_name(f"{output.name}-{identity.digest(name)[:8]}")
            download.fetch(weights(name), path.parent / name, rest=rest)
            beside.append(onnx_files.beside_name(path, path.parent / name))
        state = identity.state("onnx", identity.contents(path, beside))
        _write_sidecar(path, source, state, identity.start(state["id"], path), **found)

    try:
        download.fetch(place, output, md5, sha256, describe)
    except UserError as error:  # the user knows the source, not where it is cached
        raise UserError(str(error).replace(place, source)) from None
    size = sum(identity.place(output, name).stat().st_size for name in (output.suffix, *beside))
    return f"{size:,} bytes" + (f" in {1 + len(beside)} files" if beside else "")


def engine(
    backend: Backend,
    source: str,
    output: Path,
    md5: str | None,
    sha256: str | None,
    batch_size: int,
    precision: str,
    variant: str,
) -> str:
    """Fetch a ready-made engine, whose batch size is checked when it is opened.

    Nobody tells which weights it was compiled from.
    """
    from smlp.core import download

    facts: Facts = {"backend": backend.name, "precision": precision, "batch": batch_size, "batch_checked": False}
    facts.update({"variant": variant} if variant else {})

    def describe(path: Path) -> None:
        about = {"backend": backend.name, "precision": precision, "batch_size": batch_size, "variant": variant}
        state = identity.state("engine", identity.contents(path, backend.companions), flags=about)
        _write_sidecar(path, source, state, None, **facts)

    download.fetch(source, output, md5, sha256, describe)
    return f"{output.stat().st_size:,} bytes"


def dataset(output: Path, train_images: int, val_images: int, seed: int) -> str:
    """Draw the demo's dataset, a folder like ImageNet's.

    Returns one line that describes it.
    """
    import retrieve_demo

    retrieve_demo.make_dataset(output, train_images, val_images, seed)
    images = {"train": train_images, "val": val_images}
    state = identity.state(
        "dataset",
        identity.contents(output),
        flags={"images": images, "seed": seed},
        code=code_digest("retrieve"),
        versions=provenance.versions(DATASET_PACKAGES),
    )
    facts = provenance.describe(packages=PACKAGES, state=state, images=images, classes=retrieve_demo.CLASSES, seed=seed)
    files.write_json(identity.sidecar_of(output), facts)
    return f"{train_images} training and {val_images} validation images of {len(retrieve_demo.CLASSES)} classes"


def _fetch_weights(
    source: str, output: Path, md5: str | None, sha256: str | None, check: Callable[[Path, Facts], None]
) -> None:
    """As download.fetch, also of the hub and of what timm publishes. check: also gets where exactly they are from."""
    from smlp.core import download

    place = source
    if source.startswith(hub.TIMM):
        from smlp.models import published

        place = published.locate(source)
    found: Facts = {"found_at": place} if place != source else {}
    if place.startswith(hub.PREFIX):
        fetched = hub.fetch(place)
        found.update(_at_hub(fetched))
        place = str(fetched.path)
    try:
        download.fetch(place, output, md5, sha256, lambda path: check(path, found))
    except UserError as error:  # the user knows the source, not where it is cached
        raise UserError(str(error).replace(place, source)) from None


def _at_hub(fetched: hub.Fetched) -> Facts:
    """Where exactly in the hub a file is from."""
    return {"repository": fetched.repository, "file": fetched.file, "revision": fetched.revision}


def _write_sidecar(path: Path, source: str, state: Facts, start: Facts | None, **facts: Any) -> None:
    """State what was fetched beside it. state, start: the keys of a sidecar, see smlp/core/identity.py."""
    described = provenance.describe(packages=PACKAGES, state=state, **facts, source=source, start=start)
    files.write_json(files.sidecar_path(path), described)


def _named(suffix: str) -> Callable[[str], Path]:
    def path(text: str) -> Path:
        if Path(text).suffix != suffix:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {suffix}")
        return Path(text)

    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    ready_made = [backend for backend in backends.every() if backend.ready_made]
    names = ["checkpoint", "onnx", *(backend.ready_made for backend in ready_made), "dataset"]
    commands = parser.add_subparsers(required=True, metavar=f"{{{','.join(names)}}}")

    def command(
        name: str, run: Callable[..., str], what: str | None, output: Callable[[str], Path]
    ) -> argparse.ArgumentParser:
        what = (what or "").splitlines()[0]
        added = commands.add_parser(
            name, help=what, description=what, allow_abbrev=False, formatter_class=parser.formatter_class
        )
        added.add_argument("--output", type=output, required=True, help="file or folder to write")
        added.set_defaults(run=run)
        return added

    of_checkpoint = command("checkpoint", checkpoint, checkpoint.__doc__, _named(".pth"))
    of_checkpoint.add_argument("--model_name", required=True, help="a timm model name, or smlpnet_tiny, _small, _base")
    of_checkpoint.add_argument(
        "--num_classes", type=cli.positive_int, help="read from the checkpoint's head unless given"
    )
    of_checkpoint.add_argument(
        "--key",
        help="what leads to the weights if it holds several, as model_ema or state_dict.net",
    )
    of_checkpoint.add_argument("--demo_dataset", type=Path, help="with --source demo: folder of the demo's dataset")
    of_checkpoint.add_argument("--seed", type=cli.count, default=0, help="with --source demo: of the random backbone")
    preprocessing.add_flags(of_checkpoint, names_transform=True)
    of_onnx = command("onnx", onnx, onnx.__doc__, _named(".onnx"))
    at_hub = "; or: hf-hub:owner/name@revision"
    fetched = [(of_checkpoint, f"{at_hub}, timm:name.tag, demo"), (of_onnx, at_hub)]
    for backend in ready_made:
        run = functools.partial(engine, backend)
        added = command(backend.ready_made, run, engine.__doc__, _named(backend.suffix))
        known = ", ".join(backend.precisions)
        added.add_argument("--batch_size", type=cli.positive_int, required=True, help="images per run of the engine")
        added.add_argument("--precision", required=True, help=f"precision that it was compiled with: {known}")
        added.add_argument("--variant", default="", help="name of the target, if it is a variant")
        fetched.append((added, ""))
    for added, other in fetched:
        added.add_argument("--source", required=True, help="path, or http, https or file URL" + other)
        added.add_argument("--md5", help="checksum that the file must have, hexadecimal")
        added.add_argument("--sha256", help="checksum that the file must have, hexadecimal")
    of_dataset = command("dataset", dataset, dataset.__doc__, Path)
    of_dataset.add_argument("--train_images", type=cli.positive_int, default=480, help="images of the training split")
    of_dataset.add_argument("--val_images", type=cli.positive_int, default=160, help="images of the validation split")
    of_dataset.add_argument("--seed", type=cli.count, default=0, help="of the choice and the drawing of the digits")

    flags = parser.parse_args(argv)
    if flags.run is checkpoint:
        flags.transform = preprocessing.take_flags(flags, flags.model_name)
        if (flags.source == DEMO) != (flags.demo_dataset is not None):
            of_checkpoint.error("--source demo and --demo_dataset go together (a file called demo: ./demo)")
        if flags.source == DEMO and (flags.md5 or flags.sha256 or flags.num_classes or flags.key):
            of_checkpoint.error("--md5, --sha256, --num_classes and --key are not for --source demo, made anew")
    return flags


if __name__ == "__main__":
    cli.run(main)
