"""Wildcard constraints, what depends on what, and lists of what a sweep makes, for all the rules."""

import functools
import re

from scripts.smlp import backends, dataset
from scripts.smlp.digest import code_digest
from scripts.smlp.provenance import versions

DATASET = config["dataset"]["name"]
IS_DEMO = "demo" in config["dataset"]
DATA_ROOT = f"results/retrieve/{DATASET}" if IS_DEMO else config["dataset"]["root"]
SHARDS = range(config["dataset"]["shards"])
# All that this run was given, so that a job that asks for them runs alone; None under --unlock and the like
ALL_CORES = workflow.resource_settings.cores or cli.default_workers()
REFERENCE_BATCH = config["accuracy"]["reference_batch_size"]


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    backend="|".join(backends.names()),
    precision="[a-z0-9_]+",
    batch=r"\d+",
    dataset=re.escape(DATASET),
    transform=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    shard=r"\d+",


def flags(values):
    """Settings as command-line flags; those that are not set are left to the command."""
    return [part for key, value in values.items() if value is not None for part in (f"--{key}", str(value))]


def tools(backend):
    """Versions of what a backend computes with: another version may compute something else."""
    return versions(backends.load(backend).PACKAGES)


# what depends on what


def source_file(model, kind):
    """The user's checkpoint or ONNX file as an input that is watched; a URL is not a file."""
    source = config["models"][model][kind]["source"]
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


def engine(model, backend, precision, batch):
    """The file that a backend runs: its engine, or the checkpoint itself."""
    runtime = backends.load(backend)
    if runtime.COMPILES_FROM is None:
        return f"results/retrieve/{model}/checkpoint.pth"
    return f"results/compile/{model}/{backend}/{precision}/bs{batch}{runtime.SUFFIX}"


def bins(model, shard):
    """The folder of one shard's bins, preprocessed for the model's transform."""
    return f"results/preprocess/{DATASET}/{config['models'][model]['transform']}/shard-{shard}"


def outputs(model, backend, precision, batch):
    """The result folders of every shard."""
    folder = f"results/infer/{model}/{backend}/{precision}/{DATASET}/bs{batch}"
    return [f"{folder}/shard-{shard}" for shard in SHARDS]


def reference_backend(model):
    """What a model is judged against: eager PyTorch, or ONNX Runtime where there is only an ONNX file."""
    return "pytorch" if "checkpoint" in config["models"][model] else "onnxruntime"


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
    return demo + [f"results/retrieve/{model}/{file}" for model, file in kinds.items()]


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
    """Every throughput of the sweep."""
    return [
        f"results/measure/{model}/{backend}/{precision}/bs{batch}.json" for model, backend, precision, batch in cells()
    ]


def table_flags():
    """Which models go by which published names, what each is judged against, whose published accuracy is comparable."""
    names = [f"{model}={entry['model_name']}" for model, entry in config["models"].items()]
    references = [f"{model}={reference_backend(model)}" for model in config["models"]]
    applies = [model for model, entry in config["models"].items() if entry["published_weights"]]
    published = ["--published_applies", *applies] if applies else []
    return ["--published_name", *names, "--reference_of", *references, *published]
