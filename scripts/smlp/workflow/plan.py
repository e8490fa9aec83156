"""The plan of a sweep: its files, flags and resources. Rules ask it, and know nothing else of the settings.

Only answers: nothing is read but the settings and names of files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from .. import backends
from ..core import files, hub
from ..core.cli import UserError
from ..data import listing
from . import ceilings, profiles, settings, sustaining, targets
from .hosts import Hosts
from .targets import Cell, Settings, Target
from .transforms import Transforms

# In the order of data. Each is a rule file, a command, a folder of results and a target of Snakemake.
STAGES = (
    *("retrieve", "export", "compile", "preprocess", "infer", "evaluate"),
    *("ceilings", "measure", "confirm", "sustain", "profile", "tabulate"),
)


def flags(values: Mapping[str, object]) -> list[str]:
    """Settings as command-line flags, lists as several words; those that are not set are left to the command."""
    words = {key: value if isinstance(value, list) else [value] for key, value in values.items() if value is not None}
    return [word for key, several in words.items() for word in (f"--{key}", *map(str, several))]


class Sweep:
    """What a sweep with these complete settings consists of."""

    def __init__(self, complete: Settings) -> None:
        self._settings = complete
        self._models: Settings = complete["models"]
        self._demo: Settings = complete["dataset"].get("demo", {})
        self.targets = [Target.of(entry) for entry in complete["targets"]]
        self.dataset: str = complete["dataset"]["name"]
        self.is_demo = "demo" in complete["dataset"]
        self.data_root: str = f"results/retrieve/{self.dataset}" if self.is_demo else complete["dataset"]["root"]
        self.shards = range(complete["dataset"]["shards"])
        self.models = list(self._models)
        self.transforms = Transforms(self._models)
        self.hosts = Hosts(complete)
        self.cells = [
            Cell(model, target.backend, target.precision, target.variant, batch)
            for model in self._models
            for target in self.targets
            for batch in complete["batch_sizes"]
        ]
        self.profiles = profiles.Profiles(self, complete)

    @property
    def variant_pattern(self) -> str:
        """What the wildcard {variant} matches: nothing for a plain target, else a level of the path."""
        names = sorted({target.variant for target in self.targets})
        return f"({'|'.join(re.escape(f'/{name}') for name in names if name)})?"

    def files(self, stage: str) -> list[str]:
        """Everything that a stage makes for the tables."""
        return {
            "retrieve": self._retrieved,
            "export": lambda: sorted({self.onnx_file(cell) for cell in self.cells if _compiles_from(cell) == "onnx"}),
            "compile": lambda: [file for cell in self.cells for file in (self.engine(cell), *self.companions(cell))],
            "preprocess": lambda: sorted({folder for model in self.models for folder in self.all_bins(model)}),
            "infer": lambda: [folder for cell in self.cells for folder in self.outputs(cell)],
            "evaluate": lambda: [f"results/evaluate/{c.place}/{self.dataset}/bs{c.batch}.json" for c in self.cells],
            "ceilings": lambda: ceilings.files(self._settings),
            "measure": lambda: [self.throughput(cell) for cell in self.cells],
            "confirm": lambda: [file for model in self.models for file in self.confirmed(model)],
            "sustain": lambda: [*map(sustaining.file, sustaining.cells(self.cells, self._settings, self.imported))],
            "profile": lambda: self.profiles.files(),
        }[stage]()

    # retrieve

    def source_file(self, model: str, kind: str, batch: str | None = None) -> list[str]:
        """The user's checkpoint, ONNX file or ready-made engine, which is watched; what a server has is no file."""
        entry = self._models[model][kind]
        source = (entry if batch is None else entry[int(batch)])["source"]
        if source == "demo" or hub.is_remote(source, kind):
            return []
        if not Path(source).is_file():
            raise UserError(f"models.{model}.{kind}: {source}: no such file; give the path or URL of your file")
        return [source]

    def trained_on(self, model: str) -> list[str]:
        """What the demo's checkpoint is made from."""
        return self.demo_images if self._models[model]["checkpoint"]["source"] == "demo" else []

    def asks_timm(self, model: str) -> bool:
        """Whether timm says where a model's weights are."""
        return self._models[model]["checkpoint"]["source"].startswith(hub.TIMM)

    def source_flags(self, model: str, kind: str) -> list[str]:
        """Where a checkpoint or ONNX file comes from, with its checksum and what the user said about the model."""
        entry = self._models[model]
        if kind == "onnx":
            return flags({key: value for key, value in entry["onnx"].items() if key != "output"})
        own = {"demo_dataset": self.data_root, "seed": self._demo["seed"]} if self.is_demo else {}
        about = {"model_name": entry["model_name"], "num_classes": entry.get("num_classes")}
        demo = entry["checkpoint"]["source"] == "demo"
        found = flags({**entry["checkpoint"], **about, **(own if demo else {})})
        return found + self.transforms.changes(model, size_only=not demo)

    def ready_made_flags(self, model: str, kind: str, batch: str) -> list[str]:
        """Where a ready-made engine comes from, with its checksum, and which target it is of."""
        owner = settings.ready_made()[kind]
        target = next(target for target in self.targets if target.backend == owner)
        about = {"batch_size": batch, "precision": target.precision, "variant": target.variant or None}
        return flags({**self._models[model][kind][int(batch)], **about})

    def demo_flags(self) -> list[str]:
        """What the demo's images are."""
        return flags(self._demo)

    def _retrieved(self) -> list[str]:
        starts = [f"results/retrieve/{model}/{Path(self.start(model)).name}" for model in self.models]
        return self.demo_images + starts + [self.engine(cell) for cell in self.cells if self.is_ready_made(cell)]

    # export

    def start(self, model: str) -> str:
        """What everything about a model is made from: its checkpoint, or the ONNX file that replaces the export."""
        return f"results/retrieve/{model}/" + ("checkpoint.pth" if self._has_checkpoint(model) else "model.onnx")

    def start_sidecar(self, model: str) -> str:
        """The sidecar of what everything about a model is made from."""
        return _sidecar(self.start(model))

    def export_flags(self, model: str, opset: str) -> list[str]:
        """All flags of the export but where to write. opset: "", or "_opset<version>"."""
        entry = self._models[model]
        source = {"pth_path" if self._has_checkpoint(model) else "source_onnx_path": self.start(model)}
        about = {"model_name": entry["model_name"], "num_classes": entry.get("num_classes")}
        about["key"] = entry.get("checkpoint", {}).get("key")
        about["output_name"] = entry.get("onnx", {}).get("output")
        own = {"opset_version": opset.removeprefix("_opset")} if opset else {}
        # a checkpoint's sidecar says what size it is used at
        read = [] if self._has_checkpoint(model) else self.transforms.changes(model)
        return flags({**source, **about, **self._settings["export"], **own}) + read

    def transform(self, model: str) -> str:
        """Name of what a model's images go through."""
        return self.transforms.of(model).name

    def onnx_file(self, cell: Cell) -> str:
        """The ONNX file that an engine is compiled from: for images as bytes it normalises them, or the engine does."""
        opset_version = self._target(cell).opset_version
        opset = "" if opset_version in (None, self._settings["export"]["opset_version"]) else f"_opset{opset_version}"
        as_bytes = self._settings["dataset"]["pixels"] == "uint8"
        itself = backends.load(cell.backend).normalises(self.options(cell))
        return (
            f"results/export/{cell.model}/{self.graph(cell)}{opset}{'_uint8' if as_bytes and not itself else ''}.onnx"
        )

    def graph(self, cell: Cell) -> str:
        """The graph that an engine is made from: as its target or the settings say, else the one that runs faster."""
        preferred = backends.load(cell.backend).graph if targets.fusible(self._models[cell.model]) else "reference"
        return self._target(cell).graph or self._known(cell.backend).get("graph", preferred)

    # compile

    def source(self, cell: Cell) -> str:
        """The file that an engine is compiled from."""
        return self.onnx_file(cell) if _compiles_from(cell) == "onnx" else self.start(cell.model)

    def source_sidecar(self, cell: Cell) -> str:
        """The sidecar of the file that an engine is compiled from."""
        return _sidecar(self.source(cell))

    def calibration(self, cell: Cell) -> list[str]:
        """The calibration bins of an engine, none if its precision needs none."""
        if cell.precision not in backends.load(cell.backend).calibrated:
            return []
        return [f"results/preprocess/{self.dataset}/{self.transform(cell.model)}/calibration"]

    def calibration_sidecar(self, cell: Cell) -> list[str]:
        """The sidecar of an engine's calibration bins."""
        return [f"{folder}.json" for folder in self.calibration(cell)]

    def options(self, cell: Cell) -> dict[str, str]:
        """Every option of compiling an engine: what the target says, what the settings say, what the sweep gives."""
        backend = backends.load(cell.backend)
        known = targets.merged(self._known(cell.backend), self._target(cell), backend)
        calibration = next(iter(self.calibration(cell)), None)
        given = {"device": known.get("device"), "graph": self.graph(cell), "calibration": calibration}
        found = {}
        for option in backend.options:
            value = (known if option.setting else given).get(option.name)
            if value is not None and (not option.precisions or cell.precision in option.precisions):
                found[option.name] = targets.text(value)
        further = known.get(backend.passes_on.name, {}) if backend.passes_on else {}
        return found | {name: targets.text(value) for name, value in further.items()}

    def option_files(self, cell: Cell) -> list[str]:
        """The files that options of an engine name, the compiler's own options too."""
        kinds = {option.name: option.kind for option in backends.load(cell.backend).options}
        return [
            value
            for name, value in self.options(cell).items()
            if kinds.get(name) == "file" or (name not in kinds and Path(value).is_file())
        ]

    def compile_source_flags(self, cell: Cell) -> list[str]:
        """What compile.py starts from."""
        return ["--onnx_path" if _compiles_from(cell) == "onnx" else "--pth_path", self.source(cell)]

    def option_flags(self, cell: Cell) -> list[str]:
        """How compile.py makes an engine."""
        words = [word for key, value in self.options(cell).items() for word in ("--option", f"{key}={value}")]
        return words + self.variant_flags(cell)

    def shown(self, cell: Cell) -> str:
        """A comment with the command line that the compiler will get, for a dry run; "" if it has none."""
        shows = backends.load(cell.backend).shows
        if shows is None:
            return ""
        facts = self.transforms.of(cell.model).resolve()
        as_bytes = self.onnx_file(cell).endswith("_uint8.onnx")
        shape = facts.uint8.shape if as_bytes else facts.shape
        command = shows(cell.precision, cell.batch, shape, as_bytes, self.options(cell))
        return f"# in a scratch folder: {shlex.join(command)}\n"

    def engine(self, cell: Cell) -> str:
        """The file that a backend runs: its engine, or the checkpoint itself."""
        backend = backends.load(cell.backend)
        if backend.compiles_from is None:
            return self.start(cell.model)
        if self.is_ready_made(cell):
            return f"results/retrieve/{cell.model}/bs{cell.batch}{backend.suffix}"
        return f"results/compile/{cell.place}/bs{cell.batch}{backend.suffix}"

    def companions(self, cell: Cell) -> list[str]:
        """The other files of an engine that is compiled; ready-made ones have none."""
        if self.is_ready_made(cell):
            return []
        suffixes = backends.load(cell.backend).companions
        return [str(Path(self.engine(cell)).with_suffix(suffix)) for suffix in suffixes]

    def engine_sidecar(self, cell: Cell) -> str:
        """The sidecar of the file that a backend runs."""
        return _sidecar(self.engine(cell))

    # preprocess

    @property
    def demo_images(self) -> list[str]:
        """What says that the demo's images are there; nothing if the images are the user's."""
        return [f"results/retrieve/{self.dataset}.json"] if self.is_demo else []

    def bins(self, model: str, shard: int | str) -> str:
        """The folder of one shard's bins, preprocessed for the model's transform."""
        return self.shard(self.transform(model), shard)

    def bins_sidecar(self, model: str, shard: int | str) -> str:
        """The sidecar of one shard's bins."""
        return f"{self.bins(model, shard)}.json"

    def all_bins(self, model: str) -> list[str]:
        """The folders of all shards' bins."""
        return self.scored(self.transform(model))

    def scored(self, transform: str) -> list[str]:
        """The folders of the bins of all images that are scored."""
        return [self.shard(transform, shard) for shard in self.shards]

    def scored_sidecars(self, transform: str) -> list[str]:
        """The sidecars of the bins of all images that are scored."""
        return [f"{folder}.json" for folder in self.scored(transform)]

    def preprocess_flags(self) -> list[str]:
        """All flags of preprocessing but which shard, for which model, and where to write."""
        names = ("split", "on_bad_image", "layout", "pixels", *listing.ABOUT)
        return flags({"data_root": self.data_root, **{name: self._settings["dataset"].get(name) for name in names}})

    def calibration_flags(self) -> list[str]:
        """Which images are drawn for calibration."""
        drawn = self._settings["calibration"]
        root = drawn.get("root", self.data_root)
        about = {"data_root": root, "split": drawn["split"], "draw": drawn["images"], "seed": drawn["seed"]}
        about["columns"] = drawn.get("columns")
        return flags({**about, "pixels": self._settings["dataset"]["pixels"]})

    def shard(self, transform: str, shard: int | str) -> str:
        """The folder of one shard's bins."""
        return f"results/preprocess/{self.dataset}/{transform}/shard-{shard}"

    # infer, evaluate, measure, tabulate

    def outputs(self, cell: Cell) -> list[str]:
        """The result folders of every shard, or those that ais_bench wrote elsewhere."""
        return self.imported(cell) or self.own_outputs(cell)

    def own_outputs(self, cell: Cell) -> list[str]:
        """The result folders of every shard; none of imported results."""
        folder = f"results/infer/{cell.place}/{self.dataset}/bs{cell.batch}"
        return [] if self.imported(cell) else [f"{folder}/shard-{shard}" for shard in self.shards]

    def own_summaries(self, cell: Cell) -> list[str]:
        """The summaries of an engine's result folders; none of imported results."""
        return [f"{folder}_summary.json" for folder in self.own_outputs(cell)]

    def chain(self, cell: Cell) -> list[str]:
        """The sidecars of all that an engine's outputs come from: images, start, graphs, engine, bins."""
        found = self.demo_images + self.scored_sidecars(self.transform(cell.model))
        if not self.own_outputs(cell):
            return found
        found.append(self.engine_sidecar(cell))
        if not self.is_ready_made(cell):
            graphs = [self.onnx_file(cell)] if _compiles_from(cell) == "onnx" else []
            graphs += [graph.replace("_uint8.onnx", ".onnx") for graph in graphs]
            found += map(_sidecar, [self.start(cell.model), *graphs])
            found += [f"{folder}.json" for folder in self.calibration(cell)]
        return list(dict.fromkeys(found))

    def engine_flags(self, cell: Cell) -> list[str]:
        """The engine that must have made the outputs; of imported results nobody tells."""
        return flags({"engine": self.engine(cell)}) if self.own_outputs(cell) else []

    def imported(self, cell: Cell) -> list[str]:
        """Result folders of an engine under `infer.import`: one per shard, or one for all, or none."""
        if "import" not in self._settings["infer"]:
            return []
        folder = Path(self._settings["infer"]["import"], cell.place, f"bs{cell.batch}")
        shards = [folder / f"shard-{shard}" for shard in self.shards]
        missing = [shard for shard in shards if not shard.is_dir()]
        if missing and len(missing) < len(shards):
            raise UserError(f"infer.import: {missing[0]} is missing, and other shards of that engine are there; add it")
        return [str(shard) for shard in shards] if not missing else [str(folder)] if folder.is_dir() else []

    def imported_summary(self, cell: Cell) -> str:
        """The summary that ais_bench wrote beside imported results; version 0.0.1 wrote sumary.json into them."""
        folder = self.imported(cell)[0]
        beside, inside = Path(f"{folder}_summary.json"), Path(folder, "sumary.json")
        return str(beside if beside.exists() else inside)

    def reference(self, model: str) -> str:
        """The backend that a model is judged by: what runs its checkpoint, or its ONNX file if that is all there is."""
        return backends.reference("checkpoint" if self._has_checkpoint(model) else "onnx").name

    def reference_cell(self, model: str) -> Cell:
        """The engine that is the reference: a plain target with a batch size of its own."""
        backend = self.reference(model)
        precision, batch = backends.load(backend).precisions[0], self._settings["accuracy"]["reference_batch_size"]
        return Cell(model, backend, precision, "", batch)

    def about(self, cell: Cell) -> list[str]:
        """What an engine is, for evaluate.py: ais_bench's own summaries say none of it."""
        about = {"backend": cell.backend, "precision": cell.precision, "batchsize": cell.batch}
        return flags({**about, "num_classes": self._models[cell.model].get("num_classes")}) + self.variant_flags(cell)

    def variant_flags(self, cell: Cell) -> list[str]:
        """The name of a variant; nothing for a plain target."""
        return flags({"variant": cell.variant or None})

    def table_flags(self) -> list[str]:
        """Published names, references, how verdicts are given, and the limit of the decision."""
        names = [f"{name}={entry['model_name']}" for name, entry in self._models.items()]
        references = [f"{name}={self.reference(name)}" for name in self.models]
        own = flags({"familywise": self._settings["accuracy"]["familywise"], **self._settings["decision"]})
        return ["--published_name", *names, "--reference_of", *references, *own]

    def throughput(self, cell: Cell) -> str:
        """The throughput of an engine; of imported results as ais_bench stated it."""
        level = "imported/" if self.imported(cell) else ""
        return f"results/measure/{cell.place}/{level}bs{cell.batch}.json"

    def confirmed(self, model: str) -> list[str]:
        """What says how fast the model's best rows were when they were measured again."""
        return [f"results/confirm/{model}.json"] if self._settings["confirm"]["best"] else []

    # what the settings say

    def _known(self, backend: str) -> Settings:
        return self._settings["backends"].get(backend, {})

    def _target(self, cell: Cell) -> Target:
        """The target that an engine is of; a plain one for the reference, which need not be listed."""
        wanted = (cell.backend, cell.precision, cell.variant)
        found = (one for one in self.targets if (one.backend, one.precision, one.variant) == wanted)
        return next(found, Target(cell.backend, cell.precision, cell.variant))

    def _has_checkpoint(self, model: str) -> bool:
        return "checkpoint" in self._models[model]

    def is_ready_made(self, cell: Cell) -> bool:
        """Whether an engine comes from outside."""
        key = backends.load(cell.backend).ready_made
        return key is not None and cell.batch in self._models[cell.model].get(key, {})


def _sidecar(file: str) -> str:
    return str(files.sidecar_path(file))


def _compiles_from(cell: Cell) -> str | None:
    return backends.load(cell.backend).compiles_from
