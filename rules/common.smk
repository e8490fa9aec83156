"""Wildcard constraints, what depends on what, and lists of what a sweep makes, for all the rules."""

import functools
import re
import shlex

from scripts.smlp import backends
from scripts.smlp.data import dataset
from scripts.smlp.workflow.digest import code_digest
from scripts.smlp.core.provenance import versions

DATASET = config["dataset"]["name"]
IS_DEMO = "demo" in config["dataset"]
DATA_ROOT = f"results/retrieve/{DATASET}" if IS_DEMO else config["dataset"]["root"]
SHARDS = range(config["dataset"]["shards"])
# All that this run was given, so that a job that asks for them runs alone. A run that only submits jobs has no cores:
# there the job that runs on the node counts them, and the profile asks for the node.
ALL_CORES = workflow.resource_settings.cores or 1
# What schedulers count, by what a backend calls its devices; for the CPU there is nothing to count.
COUNTED = {"ascend": "npu", "cuda": "gpu"}
if workflow.resource_settings.cores:  # on this host no more jobs at once than it has devices
    for kind, counter in COUNTED.items():
        listed = {device for target in config["targets"] for device in settings.devices(config, target["backend"])}
        workflow.global_resources.setdefault(counter, max(1, sum(device.startswith(f"{kind}:") for device in listed)))
REFERENCE_BATCH = config["accuracy"]["reference_batch_size"]


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    backend="|".join(backends.names()),
    precision="[a-z0-9_]+",
    batch=r"\d+",
    dataset=re.escape(DATASET),
    transform=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    shard=r"\d+",
    graph="[a-z]+",


def flags(values):
    """Settings as command-line flags; those that are not set are left to the command."""
    return [part for key, value in values.items() if value is not None for part in (f"--{key}", str(value))]


def environment(backend):
    """Shell words that set up a backend's host before its command; set_env.sh reads variables that are not set."""
    script = config["backends"].get(backend, {}).get("set_env")
    return f"set +eu; source {shlex.quote(script)}; set -eu; " if script else ""


def python(backend):
    """The Python that runs a backend's engines, as a shell word."""
    return shlex.quote(config["backends"].get(backend, {}).get("python", "python"))


def interpreter(backend):
    """The Python that runs a backend's engines, after what sets up its host."""
    return environment(backend) + python(backend)


def growing(amount):
    """A resource of a job that gets as much again with every attempt: one that had too little is tried with more."""
    return lambda wildcards, attempt: amount * attempt


def counted(resource):
    """How many npu or gpu a job on a backend's device needs: one or none."""
    return lambda wildcards: int(COUNTED.get(device_kind(wildcards.backend)) == resource)


def device_kind(backend):
    """What a backend calls its devices: ascend, cuda, cpu."""
    return settings.devices(config, backend)[0].partition(":")[0]


def host_threads(backend):
    """Threads of a job that infers: the CPU's work, or only feeding a device."""
    return 8 if device_kind(backend) == "cpu" else 2


def measure_flags(backend):
    """All flags of measuring but what to measure and where to write; of several devices the first one measures."""
    allow = ["--allow_busy_device"] if config["backends"].get(backend, {}).get("allow_busy_device") else []
    return flags({**config["measure"], "device": settings.devices(config, backend)[0]}) + allow


def tools(backend):
    """Versions of what a backend computes with: another version may compute something else."""
    return versions(backends.load(backend).packages)


# what depends on what


def graph(model, backend):
    """The ONNX graph that a backend's engines are made from: as set, else the one that it is the faster with."""
    preferred = backends.load(backend).graph
    return (
        config["backends"]
        .get(backend, {})
        .get("graph", preferred if settings.fusible(config["models"][model]) else "reference")
    )


def calibration_folder(model, backend, precision):
    """The calibration bins of an engine, none where its precision needs none."""
    if precision not in backends.load(backend).calibrated:
        return []
    return [f"results/preprocess/{DATASET}/{config['models'][model]['transform']}/calibration"]


def calibration_flags():
    """Which images are drawn for calibration."""
    drawn = config["calibration"]
    root = drawn.get("root", DATA_ROOT)
    about = {"data_root": root, "split": drawn["split"], "draw": drawn["images"], "seed": drawn["seed"]}
    return flags({**about, "pixels": config["dataset"]["pixels"]})


def option_flags(options):
    """Options of scripts/compile.py as command-line flags."""
    return [word for key, value in options.items() for word in ("--option", f"{key}={value}")]


def compile_sources(model, backend, precision):
    """The files that an engine is compiled from, by name."""
    calibration = {"calibration": folder for folder in calibration_folder(model, backend, precision)}
    if backends.load(backend).compiles_from == "checkpoint":
        return {"checkpoint": f"results/retrieve/{model}/checkpoint.pth", **calibration}
    onnx = onnx_file(model, backend)
    return {"onnx": onnx, "sidecar": ancient(onnx.replace(".onnx", ".json")), **calibration}


def compile_source_flags(model, backend):
    """Where scripts/compile.py starts from."""
    sources = compile_sources(model, backend, None)
    return ["--pth_path", sources["checkpoint"]] if "checkpoint" in sources else ["--onnx_path", sources["onnx"]]


def compile_flags(model, backend, precision):
    """The options of compiling an engine."""
    known = config["backends"].get(backend, {})
    options = {name: known[name] for name in ("device", "trtexec", "workspace_mib", "cuda_graph") if name in known}
    if backends.load(backend).compiles_from == "checkpoint":
        options["graph"] = graph(model, backend)
    for folder in calibration_folder(model, backend, precision):
        options["calibration"] = folder
    return option_flags(options)


def source_file(model, kind, batch=None):
    """The user's checkpoint, ONNX or .om file as an input that is watched; a URL is not a file."""
    entry = config["models"][model][kind]
    source = (entry if batch is None else entry[int(batch)])["source"]
    if source == "demo":
        return [f"results/retrieve/{DATASET}.json"]
    if "://" in source:
        return []
    if not Path(source).is_file():
        cli.fail(f"models.{model}.{kind}: {source}: no such file; give the path or URL of your file")
    return [source]


def source_flags(model, kind):
    """Where a checkpoint or ONNX file comes from, with its checksum and what the user said about the model."""
    entry = config["models"][model]
    if kind == "onnx":
        return flags(entry["onnx"])
    demo = {"demo_dataset": DATA_ROOT, "seed": config["dataset"]["demo"]["seed"]} if IS_DEMO else {}
    about = {"model_name": entry["model_name"], "num_classes": entry.get("num_classes")}
    return flags({**entry["checkpoint"], **about, **(demo if entry["checkpoint"]["source"] == "demo" else {})})


def om_flags(model, batch):
    """Where a ready-made .om file comes from, with its checksum, and what it stands for."""
    precision = next(target["precision"] for target in config["targets"] if target["backend"] == "ascend")
    return flags({**config["models"][model]["om"][int(batch)], "batch_size": batch, "precision": precision})


def ascend_options(precision):
    """Options of compiling for Ascend, by name; the files among them are inputs too."""
    settings = config["backends"]["ascend"]
    names = ["soc_version", "python", "aipp_config", "fusion_switch_file"]
    names += ["op_precision_ini"] if precision == "high" else []
    options = {name: settings[name] for name in names if name in settings}
    return {**options, **{key: str(value) for key, value in settings["atc_options"].items()}}


def ascend_files(precision):
    """The files that an Ascend engine is compiled with, beside the ONNX file."""
    options = ascend_options(precision)
    return [options[name] for name in ("op_precision_ini", "aipp_config", "fusion_switch_file") if name in options]


def atc(model, precision, batch):
    """The command that scripts/compile.py will run for an Ascend engine."""
    from scripts.smlp.models import preprocessing

    facts = cli.or_fail(preprocessing.resolve, config["models"][model]["transform"])
    as_bytes = onnx_file(model, "ascend").endswith("_uint8.onnx")
    from scripts.smlp.backends.ascend import atc as ascend_atc

    command = ascend_atc.command_line(
        "model.onnx",
        f"bs{batch}",
        batch_size=int(batch),
        soc_version=config["backends"]["ascend"].get("soc_version", "<as npu-smi info says>"),
        precision=precision,
        image_shape=facts.uint8.shape if as_bytes else facts.shape,
        input_format="ND" if as_bytes else "NCHW",
        options=ascend_options(precision),
    )
    return shlex.join(command)


def export_start(model):
    """What export starts from: the checkpoint, or the ONNX file whose checks replace the export."""
    if "checkpoint" in config["models"][model]:
        return {"pth_path": f"results/retrieve/{model}/checkpoint.pth"}
    return {"source_onnx_path": f"results/retrieve/{model}/model.onnx"}


def export_flags(model):
    """All flags of the export but where to write."""
    entry = config["models"][model]
    about = {"model_name": entry["model_name"], "num_classes": entry.get("num_classes")}
    return flags({**export_start(model), **about, **config["export"]})


def onnx_file(model, backend):
    """The ONNX file that a backend's engines are compiled from: for images as bytes it normalises them itself."""
    aipp = backend == "ascend" and "aipp_config" in config["backends"]["ascend"]  # takes and normalises bytes by itself
    kind = "_uint8" if config["dataset"]["pixels"] == "uint8" and not aipp else ""
    return f"results/export/{model}/{graph(model, backend)}{kind}.onnx"


def engine(model, backend, precision, batch):
    """The file that a backend runs: its engine, or the checkpoint itself."""
    runtime = backends.load(backend)
    if runtime.compiles_from is None:
        return f"results/retrieve/{model}/checkpoint.pth"
    if backend == "ascend" and int(batch) in config["models"][model].get("om", {}):
        return f"results/retrieve/{model}/bs{batch}.om"
    return f"results/compile/{model}/{backend}/{precision}/bs{batch}{runtime.suffix}"


def bins(model, shard):
    """The folder of one shard's bins, preprocessed for the model's transform."""
    return f"results/preprocess/{DATASET}/{config['models'][model]['transform']}/shard-{shard}"


def outputs(model, backend, precision, batch):
    """The result folders of every shard, or those that ais_bench wrote elsewhere."""
    if found := imported(model, backend, precision, batch):
        return found
    folder = f"results/infer/{model}/{backend}/{precision}/{DATASET}/bs{batch}"
    return [f"{folder}/shard-{shard}" for shard in SHARDS]


def reference_backend(model):
    """What a model is judged against: eager PyTorch, or ONNX Runtime where there is only an ONNX file."""
    return "pytorch" if "checkpoint" in config["models"][model] else "onnxruntime"


def imported(model, backend, precision, batch):
    """Result folders under `infer.import`: one a shard, or one for all; none where there is none for this engine."""
    if "import" not in config["infer"]:
        return []
    folder = Path(config["infer"]["import"], model, backend, precision, f"bs{batch}")
    shards = [folder / f"shard-{shard}" for shard in SHARDS]
    missing = [shard for shard in shards if not shard.is_dir()]
    if missing and len(missing) < len(shards):
        cli.fail(f"infer.import: {missing[0]} is missing, and other shards of that engine are there; add it")
    return [str(shard) for shard in shards] if not missing else [str(folder)] if folder.is_dir() else []


def summaries(folders):
    """The summaries that ais_bench wrote beside result folders; version 0.0.1 wrote its own, sumary.json, inside."""
    places = [(Path(f"{folder}_summary.json"), Path(folder, "sumary.json")) for folder in folders]
    return [str(beside if beside.exists() else inside) for beside, inside in places]


def reference_outputs(model):
    """The result folders of the reference."""
    return outputs(model, reference_backend(model), "fp32", REFERENCE_BATCH)


@functools.lru_cache
def images():
    """Every image of the split, listed once however many shards ask."""
    return dataset.list_images(DATA_ROOT, config["dataset"]["split"])


def images_state(transform, shard):
    """Changes when the content of one of the shard's images does, and not when one is touched."""
    if IS_DEMO:
        return "made by the run itself"
    if not Path(DATA_ROOT).exists():
        return "absent"  # a dry run needs no images; a real one stops at its start
    entries = dataset.shard(cli.or_fail(images), int(shard), len(SHARDS))
    folder = f"results/preprocess/{DATASET}/{transform}/shard-{shard}"
    return cli.or_fail(dataset.token, folder, entries, DATA_ROOT)


# what a sweep makes


def cells():
    """Every model x target x batch size of the sweep: (model, backend, precision, batch), in the tables' order."""
    return [
        (model, target["backend"], target["precision"], batch)
        for model in config["models"]
        for target in config["targets"]
        for batch in config["batch_sizes"]
    ]


def sources():
    """Everything that retrieve makes."""
    kinds = {
        model: "checkpoint.pth" if "checkpoint" in entry else "model.onnx" for model, entry in config["models"].items()
    }
    demo = [f"results/retrieve/{DATASET}.json"] if IS_DEMO else []
    oms = [
        engine(*cell) for cell in cells() if cell[1] == "ascend" and cell[3] in config["models"][cell[0]].get("om", {})
    ]
    return demo + [f"results/retrieve/{model}/{file}" for model, file in kinds.items()] + oms


def shards():
    """Every folder of bins of the sweep."""
    return sorted({bins(model, shard) for model in config["models"] for shard in SHARDS})


def accuracies():
    """Every accuracy of the sweep."""
    return [
        f"results/evaluate/{model}/{backend}/{precision}/{DATASET}/bs{batch}.json"
        for model, backend, precision, batch in cells()
    ]


def throughputs():
    """Every throughput of the sweep; of imported results as ais_bench stated it."""
    return [
        f"results/measure/{model}/{backend}/{precision}/{'imported/' if imported(model, backend, precision, batch) else ''}"
        f"bs{batch}.json"
        for model, backend, precision, batch in cells()
    ]


def table_flags():
    """Flags of the tables: published names, what a model is judged against, whose published accuracy is comparable,
    and the limit under which a best row is also wanted."""
    names = [f"{model}={entry['model_name']}" for model, entry in config["models"].items()]
    references = [f"{model}={reference_backend(model)}" for model in config["models"]]
    applies = [model for model, entry in config["models"].items() if entry["published_weights"]]
    published = ["--published_applies", *applies] if applies else []
    return ["--published_name", *names, "--reference_of", *references, *published, *flags(config["decision"])]
