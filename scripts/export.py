"""Export a checkpoint to ONNX, as the guide's smlp_pth2onnx.py does, and prove that both compute the same.

The ONNX file has one input `input` (N, 3, H, W) and one output `output` (N, classes), N free, constants
folded. It appears only if ONNX Runtime and PyTorch agree on real photographs at batch 1 and 3 within
--tolerance, and no value is NaN or infinite. A JSON sidecar beside it says opset, parameters,
multiply-accumulates, nodes by type, checksums and the differences that were seen.

  scripts/export.py --model_name smlpnet_tiny --pth_path smlp_t.pth --onnx_path smlp_t.onnx

--graph fused writes the same network re-expressed for inference (smlp/models/fused.py), proved against the same model.

A ready-made ONNX file gets the same checks (its rows at batch 3 against those at batch 1) and the same names:

  scripts/export.py --model_name smlpnet_tiny --source_onnx_path theirs.onnx --onnx_path smlp_t.onnx
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import numpy as np

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.core.provenance import Facts
from smlp.data.transform import Transform
from smlp.models import preprocessing

PACKAGES = ("torch", "torchvision", "timm", "einops", "onnx", "onnxruntime", "numpy")
PROOF_BATCHES = (1, 3)


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    if flags.onnx_path.suffix != ".onnx":
        raise UserError(
            f"--onnx_path {flags.onnx_path}: a name ending in .onnx was expected; the sidecar takes the same stem"
        )
    source = flags.source_onnx_path or flags.pth_path
    made_from = identity.known(source)
    key = flags.key or made_from.facts.get("key")
    transform = preprocessing.take_flags(flags, flags.model_name)
    stated = made_from.facts.get("image_size")  # what retrieve.py was told about a checkpoint
    if stated and not transform.image_size:
        transform = dataclasses.replace(transform, image_size=tuple(stated))
    size = transform.other_size(flags.model_name) if flags.pth_path else None
    images = photographs(transform.resolve())
    with files.whole_file(flags.onnx_path) as partial:
        if flags.source_onnx_path:
            facts = adopt(flags.source_onnx_path, partial, images, flags.tolerance)
        else:
            from smlp.models import architectures

            with architectures.sized(size):
                facts = export(
                    flags.model_name,
                    flags.pth_path,
                    partial,
                    flags.opset_version,
                    flags.num_classes,
                    images,
                    flags.tolerance,
                    fused=flags.graph == "fused",
                    key=key,
                )
        about = ("model_name", "num_classes", "graph", "opset_version", "tolerance")
        sidecar = provenance.describe(
            {"onnx" if flags.source_onnx_path else "checkpoint": source},
            PACKAGES,
            state=identity.state(
                "onnx",
                identity.contents(partial),
                made_from={"source": made_from.id},
                flags={name: getattr(flags, name) for name in about}
                | ({"image_size": size} if size else {})
                | ({"key": key} if key else {}),
                code=code_digest("export"),
                versions=provenance.versions(PACKAGES),
            ),
            model_name=flags.model_name,
            graph=flags.graph,
            **facts,
            start=made_from.start,
        )
        files.write_json(files.sidecar_path(partial), sidecar)
    cli.say(
        f"{flags.onnx_path}: opset {facts['opset']}, {facts['macs'] / 1e9:.2f} GMACs per image, "
        f"largest difference {max(facts['largest_difference'].values()):.2e}"
    )
    return 0


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
) -> Facts:
    """Write the checkpoint as ONNX to `onnx_path` and prove it on `images`, float32 (3, 3, H, W).

    fused: write its inference form; the proof is against the model as it was trained either way. Returns the facts
    for the sidecar. Raises UserError if the two runtimes differ by more than `tolerance` times the largest logit
    (at least 1).
    """
    import onnx
    import torch

    from smlp.models import architectures, onnx_graph
    from smlp.models.checkpoint import load_model
    from smlp.models.fused import fuse

    with architectures.exportable():
        model, checkpoint_facts = load_model(model_name, pth_path, num_classes, key)
        exported_model = fuse(model) if fused else model
    with warnings.catch_warnings(), torch.inference_mode():
        # torch prefers its newer exporter, which cannot write opset 11, the newest that CANN 5 and 6 surely read
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                exported_model,
                (torch.from_numpy(images[:2]),),
                str(onnx_path),
                opset_version=opset,
                input_names=[onnx_graph.INPUT],
                output_names=[onnx_graph.OUTPUT],
                dynamic_axes={onnx_graph.INPUT: {0: "batch"}, onnx_graph.OUTPUT: {0: "batch"}},
                do_constant_folding=True,
                dynamo=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{model_name}: opset {opset} cannot express it ({reason}); try a higher --opset_version"
            ) from None
    exported = onnx_graph.load(onnx_path)
    onnx_graph.rename_ends(exported, checkpoint_facts["num_classes"])
    onnx.save(exported, onnx_path)

    def reference(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(batch)).numpy()

    return {
        **onnx_graph.facts(exported),
        **checkpoint_facts,
        **prove(onnx_path, reference, "PyTorch", images, tolerance),
    }


@lock.hold("cpu", exclusive=False)
def adopt(source: Path, onnx_path: Path, images: np.ndarray, tolerance: float) -> Facts:
    """Check a ready-made ONNX file, give its input and output our names, write it to `onnx_path`.

    The proof compares every image by itself with the same image inside a larger batch: a graph whose batch
    is not really free, or whose images influence each other, fails.
    """
    import onnx

    from smlp.models import onnx_graph

    model = onnx_graph.load(source)
    have, want = onnx_graph.shape(onnx_graph.inputs(model)[0]), (None, *images.shape[1:])
    if have != want:
        raise UserError(
            f"{source}: its input has shape {have} (None = free) but {want} was expected; "
            "export it with a dynamic batch dimension and this model's image size"
        )
    logits = onnx_graph.run(source, images[:1])
    if logits.ndim != 2:
        raise UserError(f"{source}: its output has shape {logits.shape} for one image; (1, classes) was expected")
    onnx_graph.rename_ends(model, logits.shape[1])
    onnx.save(model, onnx_path)

    def one_by_one(batch: np.ndarray) -> np.ndarray:
        return np.concatenate([onnx_graph.run(onnx_path, batch[i : i + 1]) for i in range(len(batch))])

    return {
        **onnx_graph.facts(model),
        "num_classes": logits.shape[1],
        **prove(onnx_path, one_by_one, "itself at batch 1", images, tolerance),
    }


def prove(
    onnx_path: Path, reference: Callable[[np.ndarray], np.ndarray], name: str, images: np.ndarray, tolerance: float
) -> Facts:
    """Compare the ONNX file in ONNX Runtime with `reference` at every proof batch; raise UserError if they differ."""
    from smlp.models import onnx_graph

    differences = {}
    for size in PROOF_BATCHES:
        expected, actual = reference(images[:size]), onnx_graph.run(onnx_path, images[:size])
        if actual.shape != expected.shape:
            raise UserError(f"the ONNX output at batch {size} has shape {actual.shape}, {name} gives {expected.shape}")
        if not np.isfinite(actual).all() or not np.isfinite(expected).all():
            raise UserError(f"an output at batch {size} is NaN or infinite; check the checkpoint's weights")
        difference = float(np.abs(actual - expected).max())
        allowed = tolerance * max(1.0, float(np.abs(expected).max()))
        if difference > allowed:
            raise UserError(
                f"the ONNX file differs from {name} by {difference:.3e} at batch {size}, more than {allowed:.3e}; "
                "try another --opset_version, or allow more with --tolerance if the accuracy table agrees"
            )
        differences[f"batch_{size}"] = difference
    return {"largest_difference": differences, "tolerance": tolerance, "compared_with": name}


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
    parser.add_argument("--num_classes", type=cli.positive_int, help="read from the checkpoint's head unless given")
    parser.add_argument("--key", help="what leads to the weights if the checkpoint holds several, as model_ema")
    parser.add_argument(
        "--tolerance",
        type=cli.positive_number,
        default=1e-4,
        help="largest difference, as a fraction of the largest logit (at least 1)",
    )
    preprocessing.add_flags(parser, names_transform=True)
    flags = parser.parse_args(argv)
    if flags.key and flags.source_onnx_path:
        parser.error("--key chooses the weights of a checkpoint, give --pth_path")
    if flags.graph == "fused" and flags.source_onnx_path:
        parser.error("--graph fused is made from a checkpoint, give --pth_path")
    return flags


if __name__ == "__main__":
    cli.run(main)
