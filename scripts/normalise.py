"""Put the normalisation into an ONNX file: it then takes the bytes of images, a quarter of what float32 ones transfer.

The new file takes uint8 (N, H, W, 3), RGB after resize and crop, as `preprocess.py --pixels uint8` writes them, and
begins with (x / 255 - mean) / std. It appears only if ONNX Runtime computes the same logits from bytes
as the given file computes from the float32 images that preprocess.py makes of them, within --tolerance. A
JSON sidecar beside it states the largest difference.

  scripts/normalise.py --model_name smlpnet_tiny --source_onnx_path smlp_t.onnx --onnx_path smlp_t_uint8.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smlp.core import cli, files, identity, lock, provenance
from smlp.core.cli import UserError
from smlp.core.code import code_digest
from smlp.data import pixels
from smlp.data.transform import Transform
from smlp.models import onnx_files, preprocessing

PACKAGES = ("onnx", "onnxruntime", "numpy")
_PROOF_BATCHES = (1, 3)


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    if flags.onnx_path.suffix != ".onnx":
        raise UserError(
            f"--onnx_path {flags.onnx_path}: a name ending in .onnx was expected; the sidecar takes the same stem"
        )
    made_from = identity.known(flags.source_onnx_path)
    facts = preprocessing.take_flags(flags, flags.model_name).resolve()
    with files.whole_file(flags.onnx_path) as partial:
        differences = normalise(flags.source_onnx_path, partial, facts, flags.tolerance)
        sidecar = provenance.describe(
            {"onnx": flags.source_onnx_path},
            PACKAGES,
            state=identity.state(
                "onnx",
                identity.contents(partial, onnx_files.own_data(partial)),
                made_from={"source": made_from.id},
                flags={"pixels": "uint8", "transform": facts.to_dict(), "tolerance": flags.tolerance},
                code=code_digest("normalise"),
                versions=provenance.versions(PACKAGES),
            ),
            transform=flags.model_name,
            transform_words=str(facts),
            pixels="uint8",
            mean=facts.mean,
            std=facts.std,
            largest_difference=differences,
            tolerance=flags.tolerance,
            start=made_from.start,
        )
        files.write_json(files.sidecar_path(partial), sidecar)
    cli.say(f"{flags.onnx_path}: takes bytes, largest difference {max(differences.values()):.2e}")
    return 0


@lock.hold("cpu", exclusive=False)
def normalise(source: Path, output: Path, facts: Transform, tolerance: float) -> dict[str, float]:
    """Write `source` with the normalisation in it to `output`; return the largest difference at each batch size.

    Raises UserError if the graph takes images of another size than the transform makes, or if the two differ
    by more than `tolerance` of how far the scores are apart.
    """
    from smlp.models import agreement, onnx_graph

    model = onnx_graph.load(source)
    takes = onnx_graph.shape(onnx_graph.inputs(model)[0])[1:]
    if onnx_graph.takes_uint8(model) or takes != facts.shape:
        raise UserError(
            f"{source}: its input is {takes}, the transform makes {facts.shape}; "
            "name the transform of this model (models.<name>.transform)"
        )
    onnx_files.save(onnx_graph.with_uint8_input(model, facts.mean, facts.std), output, source.parent)
    bytes_of_images = np.random.default_rng(0).integers(0, 256, (max(_PROOF_BATCHES), *facts.uint8.shape), np.uint8)
    floats = pixels.normalise(bytes_of_images, facts.mean, facts.std)

    def differs(difference: float, allowed: float) -> str:
        return f"{source}: bytes give other logits, by {difference:.3e}; more than {allowed:.3e}"

    differences = {}
    for size in _PROOF_BATCHES if onnx_graph.batch(model) is None else (onnx_graph.batch(model),):
        batch = np.resize(np.arange(len(floats)), size)
        expected = onnx_graph.run(source, floats[batch], optimised=False)
        actual = onnx_graph.run(output, bytes_of_images[batch], optimised=False)
        differences[f"batch_{size}"] = agreement.require(expected, actual, tolerance, differs)
    return differences


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--model_name", default="smlpnet_tiny", help="whose preprocessing: smlpnet_tiny, _small, _base or a timm name"
    )
    parser.add_argument("--source_onnx_path", type=Path, required=True, help="ONNX file to start from, of export.py")
    parser.add_argument("--onnx_path", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--tolerance",
        type=cli.positive_number,
        default=1e-4,
        help="as a fraction of how far scores are apart",
    )
    preprocessing.add_flags(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
