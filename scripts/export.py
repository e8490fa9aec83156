"""Export a checkpoint to ONNX, as the guide's smlp_pth2onnx.py does, and prove that both compute the same.

The ONNX file has one input `input` (N, 3, H, W) and one output `output` (N, classes), N free, constants
folded. It appears only if ONNX Runtime and PyTorch agree on real photographs at batch 1 and 3 within
--tolerance, and no value is NaN or infinite. A JSON sidecar beside it says opset, parameters,
multiply-accumulates, nodes by type, checksums and the differences that were seen.

  scripts/export.py --model_name smlpnet_tiny --pth_path smlp_t.pth --onnx_path smlp_t.onnx

--graph fused writes the same network re-expressed for inference (smlp/models/fused.py), proved against the same model.

A ready-made ONNX file is put into the same form, whoever exported it (smlp/models/onnx_adopt.py), and gets the same
checks: its rows at batch 3 against what the file itself gives for one image.

  scripts/export.py --model_name smlpnet_tiny --source_onnx_path theirs.onnx --onnx_path smlp_t.onnx

What one file of 2 GB cannot hold lies beside it: smlp_t.onnx.data.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import numpy as np

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.data.transform import Transform
from smlp.models import onnx_files, preprocessing

PACKAGES = ("torch", "torchvision", "timm", "einops", "onnx", "onnxscript", "onnxruntime", "numpy")
PROOF_BATCHES = (1, 3)


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    if flags.onnx_path.suffix != ".onnx":
        raise UserError(
            f"--onnx_path {flags.onnx_path}: a name ending in .onnx was expected; the sidecar takes the same stem"
        )
    source = flags.source_onnx_path or flags.pth_path
    made_from = identity.known(source) if flags.pth_path else onnx_files.known(source)
    key = flags.key or made_from.facts.get("key")
    transform = preprocessing.take_flags(flags, flags.model_name)
    stated = made_from.facts.get("image_size")  # what retrieve.py was told about a checkpoint
    if stated and not transform.image_size:
        transform = dataclasses.replace(transform, image_size=tuple(stated))
    size = transform.other_size(flags.model_name) if flags.pth_path else None
    resolved = transform.resolve()
    images = photographs(resolved)
    with files.whole_file(flags.onnx_path) as partial, named(partial, flags.source_onnx_path or flags.onnx_path):
        if flags.source_onnx_path:
            facts = adopt(source, partial, resolved, images, flags.tolerance, flags.output_name)
            decided: Facts = {"transform": resolved.to_dict()}
        else:
            from smlp.models import architectures

            with architectures.sized(size):
                facts = export(
                    flags.model_name,
                    source,
                    partial,
                    flags.opset_version,
                    flags.num_classes,
                    images,
                    flags.tolerance,
                    fused=flags.graph == "fused",
                    key=key,
                    exporter=flags.exporter,
                )
            decided = ({"image_size": size} if size else {}) | ({"key": key} if key else {})
        about = ("model_name", "num_classes", "graph", "opset_version", "exporter", "output_name", "tolerance")
        sidecar = provenance.describe(
            {"onnx" if flags.source_onnx_path else "checkpoint": source},
            PACKAGES,
            state=identity.state(
                "onnx",
                identity.contents(partial, onnx_files.own_data(partial)),
                made_from={"source": made_from.id},
                flags={name: getattr(flags, name) for name in about} | decided,
                code=code_digest("export"),
                versions=provenance.versions(PACKAGES),
            ),
            model_name=flags.model_name,
            graph=flags.graph,
            **facts,
            start=made_from.start,
        )
        files.write_json(files.sidecar_path(partial), sidecar)
    if onnx_files.DATA not in sidecar["identity"]["files"]:
        flags.onnx_path.with_suffix(onnx_files.DATA).unlink(missing_ok=True)  # of an earlier file that was larger
    cli.say(
        f"{flags.onnx_path}: opset {facts['opset']}, {facts['macs'] / 1e9:.2f} GMACs per image, "
        f"largest difference {max(facts['largest_difference'].values()):.2e}"
    )
    return 0


@contextlib.contextmanager
def named(partial: Path, path: Path) -> Iterator[None]:
    """Let errors name the file that the user knows, not the scratch path."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(partial), str(path))) from None


@lock.hold("cpu", exclusive=False)
def export(
    model_name: str,
    pth_path: Path,
    onnx_path: Path,
    opset: int,
    num_classes: int | None,
    images: np.ndarray,
    tolerance: float,
    fused: bool = False,
    key: str | None = None,
    exporter: str = "torchscript",
) -> Facts:
    """Write the checkpoint as ONNX to `onnx_path` and prove it on `images`, float32 (3, 3, H, W).

    fused: write its inference form; the proof is against the model as it was trained either way. Returns the facts
    for the sidecar. Raises UserError if the two runtimes differ by more than `tolerance` of the scores' spread.
    """
    import torch

    from smlp.models import architectures, onnx_costs, onnx_export, onnx_graph
    from smlp.models.checkpoint import load_model
    from smlp.models.fused import fuse

    with architectures.exportable():
        model, checkpoint_facts = load_model(model_name, pth_path, num_classes, key)
        exported_model = fuse(model) if fused else model
    exported = onnx_export.write(exported_model, images[:2], onnx_path, opset, exporter, model_name)
    onnx_graph.rename_ends(exported, checkpoint_facts["num_classes"])
    onnx_files.rewrite(exported, onnx_path)

    def reference(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    advice = "try another --opset_version, or allow more with --tolerance if the accuracy table agrees"
    return {
        **onnx_costs.facts(exported, onnx_path.parent),
        **checkpoint_facts,
        **prove(onnx_path, reference, "PyTorch", images, tolerance, advice),
    }


@lock.hold("cpu", exclusive=False)
def adopt(
    source: Path,
    onnx_path: Path,
    transform: Transform,
    images: np.ndarray,
    tolerance: float,
    output_name: str | None = None,
) -> Facts:
    """Put a ready-made ONNX file into our form, write it to `onnx_path`, and prove it on `images`.

    The proof compares every image by itself in the given file with the same image inside a larger batch: a graph whose
    batch is not really free, or whose images influence each other, fails. Returns the facts for the sidecar.
    """
    from smlp.models import onnx_adopt, onnx_costs, onnx_graph

    theirs = onnx_adopt.ReadyMade(source, transform, output_name)
    cli.say(f"{source}: outputs: {theirs.outputs}")
    changes = onnx_adopt.adopt(theirs, onnx_path)
    if changes:
        cli.say(f"{source}: {', '.join(changes)}")
    model = onnx_graph.load(onnx_path)
    name = f"itself at batch {theirs.batch or 1}"
    advice = (
        "its images influence each other, or its batch is not free: export it after model.eval(), with a dynamic batch "
        "dimension; or allow more with --tolerance if the accuracy table agrees"
    )
    return {
        "num_classes": theirs.num_classes,
        "changes": changes,
        **prove(onnx_path, theirs.scores, name, images, tolerance, advice),
        **onnx_costs.facts(model, onnx_path.parent),
    }


def prove(
    onnx_path: Path,
    reference: Callable[[np.ndarray], np.ndarray],
    name: str,
    images: np.ndarray,
    tolerance: float,
    advice: str,
) -> Facts:
    """Compare the ONNX file in ONNX Runtime with `reference` at every proof batch; raise UserError if they differ.

    Behind a softmax nearly everything is nearly equal, so what stands before it is compared, too: that of each image
    by itself with that inside the batch.
    """
    from smlp.models import agreement, onnx_graph

    model = onnx_files.parse(onnx_path)
    inside = onnx_graph.before_softmax(model)
    with onnx_files.in_place(onnx_graph.with_output(model, inside) if inside else model, onnx_path.parent) as opened:
        run = onnx_graph.runner(opened, onnx_path)

    differences = {}
    for size in PROOF_BATCHES:
        expected, found = reference(images[:size]), run(images[:size])
        actual = found[0]
        if actual.shape != expected.shape:
            raise UserError(f"the ONNX output at batch {size} has shape {actual.shape}, {name} gives {expected.shape}")
        if not np.isfinite(actual).all() or not np.isfinite(expected).all():
            raise UserError(f"an output at batch {size} is NaN or infinite; check the checkpoint's weights")

        def differs(difference: float, allowed: float, size: int = size) -> str:
            return (
                f"the ONNX file differs from {name} by {difference:.3e} at batch {size}, more than {allowed:.3e}; "
                f"{advice}"
            )

        steepness = 1.0
        if inside:
            alone = np.concatenate([run(images[i : i + 1])[1].reshape(1, -1) for i in range(size)])
            together = found[1].reshape(size, -1)
            steepness = max(1.0, agreement.spread(alone))
            agreement.require(alone, together, tolerance, differs)
        differences[f"batch_{size}"] = agreement.require(expected, actual, tolerance, differs, steepness)
    compared = {"compared_inside": inside} if inside else {}
    return {"largest_difference": differences, "tolerance": tolerance, "compared_with": name, **compared}


def photographs(transform: Transform) -> np.ndarray:
    """Three real photographs, preprocessed: float32 (3, 3, H, W).

    They come with scikit-learn and matplotlib, so that a proof needs neither the user's data nor a network.
    """
    sources = [
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ]
    return np.stack([transform((_package_folder(package) / file).read_bytes()) for package, file in sources])


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the proof needs photographs of the Python package {package!r}; pip install {package}")
    return Path(spec.submodule_search_locations[0])


def _opset(text: str) -> int:
    from smlp.models import onnx_graph

    if not text.isdigit() or int(text) not in onnx_graph.OPSETS:
        raise argparse.ArgumentTypeError(
            f"opset {text!r} is not between {onnx_graph.OPSETS[0]} and {onnx_graph.OPSETS[-1]}"
        )
    return int(text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--model_name", required=True, help="a timm model name, or smlpnet_tiny, _small, _base")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pth_path", type=Path, help="checkpoint to export")
    source.add_argument("--source_onnx_path", type=Path, help="ready-made ONNX file to check instead")
    parser.add_argument("--onnx_path", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--graph",
        choices=("reference", "fused"),
        default="reference",
        help="as the guide exports it, or re-expressed for inference: sMLPNets from a checkpoint",
    )
    parser.add_argument("--opset_version", type=_opset, default=11, help="ONNX opset, 9 to 18")
    parser.add_argument(
        "--exporter",
        choices=("torchscript", "dynamo"),
        default="torchscript",
        help="torch's older exporter, the only one that writes opset 11 of every model, or its newer one",
    )
    parser.add_argument("--output_name", help="of a ready-made file with several outputs: the one with the scores")
    parser.add_argument("--num_classes", type=cli.positive_int, help="read from the checkpoint's head unless given")
    parser.add_argument("--key", help="what leads to the weights if the checkpoint holds several, as model_ema")
    parser.add_argument(
        "--tolerance",
        type=cli.positive_number,
        default=1e-4,
        help="largest difference, as a fraction of how far the scores are apart",
    )
    preprocessing.add_flags(parser, names_transform=True)
    flags = parser.parse_args(argv)
    if flags.key and flags.source_onnx_path:
        parser.error("--key chooses the weights of a checkpoint, give --pth_path")
    if flags.graph == "fused" and flags.source_onnx_path:
        parser.error("--graph fused is made from a checkpoint, give --pth_path")
    if flags.output_name and not flags.source_onnx_path:
        parser.error("--output_name is of a ready-made ONNX file, give --source_onnx_path")
    return flags


if __name__ == "__main__":
    cli.run(main)
