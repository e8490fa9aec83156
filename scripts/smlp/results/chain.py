"""Do outputs, engine, bins and reference belong together? Their sidecars and summaries state ids, which must agree.

What states no id (results of the real ais_bench, a manifest that a user wrote) is taken as it is, as nobody told.
NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files, identity
from ..core.cli import UserError
from ..core.identity import Known
from ..core.provenance import Facts
from ..core.runs import RunFacts
from ..data import bins
from ..data.manifest import MANIFEST, images_digest, images_of_shard, read_manifest
from .outputs import Bin, summary_of


class Made(NamedTuple):
    """What scores are made from, by role, and the engine that made them; None if nobody tells."""

    ids: dict[str, str]
    engine_id: str | None
    start: dict[str, Any] | None


def check_engine(stated: str | None, where: Path, engine: Path | None) -> None:
    """Raise UserError if what `where` describes was not made by `engine`: the engine file, or its sidecar."""
    if engine is None:
        return
    if stated is None:
        raise UserError(f"{where}: does not state which engine made the outputs; run the inference again")
    if stated != identity.known(engine, check=False).id:
        raise UserError(
            f"{where}: its outputs are those of another engine than {engine} is now; run the inference again"
        )


def check_chain(sidecars: Iterable[Path], sources: Iterable[str] = ()) -> None:
    """Raise UserError unless these artefacts are made from one another as they are now.

    sidecars: those of all that outputs come from. Whatever one of them was made from must be another one of them, and
    the images of bins must be those of the dataset, if its sidecar is given, too. sources: SHA-256 of files outside,
    each of which one of the artefacts must be.
    """
    known = {path: _read(path) for path in sidecars}
    ids = {identity.verify(facts, path) for path, facts in known.items()}
    stated = {path: facts["identity"] for path, facts in known.items() if "identity" in facts}
    begin = [path for path, one in stated.items() if not one["made_from"] and one["kind"] not in ("bins", "dataset")]
    held = {sha256 for path in begin for sha256 in stated[path]["files"].values()}
    if not held >= set(sources):
        raise UserError(
            f"{', '.join(map(str, begin))}: describes another file than the one outside that the settings name; remove "
            "it to fetch that file anew"
        )
    for path, one in stated.items():
        for role, made_from in one["made_from"].items():
            if made_from not in ids:
                raise UserError(
                    f"{path}: states another {role} than there is now; remove the file to make what it describes anew"
                )
    scored = [path for path, one in stated.items() if one["kind"] == "bins" and not one["flags"].get("drawn")]
    for dataset, one in stated.items():
        if one["kind"] == "dataset":
            for sidecar in scored:
                _check_images(sidecar, dataset, one["files"])


def _check_images(bins_sidecar: Path, dataset: Path, images: Facts) -> None:
    manifest = bins_sidecar.with_suffix("") / MANIFEST
    for row in read_manifest(manifest):
        if images.get(row.image) != row.sha256:
            raise UserError(
                f"{manifest}: its {row.image} is not that of {dataset}; remove {bins_sidecar} to make the bins anew"
            )


def check_images(manifests: Sequence[Path], images: Sequence[str]) -> None:
    """Raise UserError unless each shard was made from the images outside as they are now.

    images: what `images_digest` says of each shard's images; () if nobody tells.
    """
    for manifest, wanted in zip(manifests, images):
        if images_digest(images_of_shard(manifest.parent)) != wanted:
            raise UserError(
                f"{manifest}: was made from other images or labels than there are now; remove {manifest.parent} to "
                "make its bins anew"
            )


def of_outputs(folders: Sequence[Path], manifests: Sequence[Path], engine: Path | None) -> Made:
    """What these result folders and manifests are, and who made the results.

    Raises UserError that names the file if outputs are not those that their summary states, if they are of another
    engine or of other bins, or if a manifest is not the one that its folder's sidecar states.
    """
    ids: dict[str, str] = {}
    known: set[str] = set()
    unknown = False
    for number, manifest in enumerate(manifests):
        sidecar = identity.sidecar_of(manifest.parent)
        facts = _read(sidecar)
        stated = identity.verify(facts, sidecar)
        if stated is None:
            stated = identity.state("content", {manifest.name: files.digest(manifest)})["id"]
            unknown = True
        else:
            identity.check_files(facts, sidecar, manifest.parent, only=[manifest.name])
            # inference elsewhere, over a copy of the folder without its sidecar, knows the content alone
            known |= {stated, bins.content_id(facts["identity"]["files"])}
        ids[f"bins_{number}"] = stated
    run = RunFacts()
    for number, folder in enumerate(folders):
        summary = summary_of(folder)
        facts = _read(summary).get("smlp", {})
        stated = identity.verify(facts, summary)
        run = RunFacts.read(facts) if number == 0 else run
        check_engine(facts["identity"]["made_from"]["engine"] if stated else None, summary, engine)
        if stated is None:
            stated = identity.state("content", identity.contents(folder))["id"]
        else:
            identity.check_files(facts, summary, folder)
            used = {made for role, made in facts["identity"]["made_from"].items() if role.startswith("bins_")}
            if not unknown and not used <= known:
                raise UserError(
                    f"{summary}: its outputs are of other bins than {', '.join(map(str, manifests))} describe now; run "
                    "the inference again"
                )
        ids[f"outputs_{number}"] = stated
    return Made(ids, run.engine_id or imported_id(summary_of(folders[0])), run.start)


def imported_id(summary: Path) -> str | None:
    """The id of the engine of results that ais_bench wrote elsewhere: all that tells it apart is their summary."""
    return identity.digest({"imported": files.digest(summary)}) if summary.exists() else None


def images_of(scored: Iterable[Bin]) -> str:
    """A digest of the images and their labels."""
    return identity.digest(sorted((row.image, row.label, row.sha256) for held in scored for row in held.rows))


def of_reference(path: Path, made: Made, images: str, outputs: Path) -> Known:
    """What the predictions of a reference are. Raises UserError if they are of another model or of other images.

    outputs: names what is compared with it.
    """
    reference = identity.known(path)
    sidecar = identity.sidecar_of(path)
    if "identity" not in reference.facts:
        if "identity" in _read(sidecar):
            raise UserError(f"{sidecar}: is of another file than {path.name}; evaluate the reference again")
        return reference._replace(start=None)
    identity.check_files(reference.facts, sidecar, path, only=[path.suffix])
    if reference.start and made.start and reference.start["id"] != made.start["id"]:
        raise UserError(
            f"{path}: the reference started from another checkpoint or ONNX file than the engine of {outputs}; "
            "evaluate the reference of the same model"
        )
    if reference.facts["identity"]["flags"].get("images") != images:
        raise UserError(
            f"{path}: was made from other images or labels than {outputs}; make the reference from the same manifests"
        )
    return reference


def _read(path: Path) -> Facts:
    """The mapping in a JSON file, {} if there is no file."""
    content = files.read_json(path, "what describes an artefact") if path.exists() else {}
    if not isinstance(content, dict) or not isinstance(content.get("smlp", {}), dict):
        raise UserError(f"{path}: does not describe an artefact; remove the file to make it anew")
    return content
