"""What the plan of a sweep answers: files, flags and lists, without Snakemake."""

import re
from types import SimpleNamespace

import pytest

from smlp import backends
from smlp.core.cli import UserError
from smlp.workflow import plan, settings
from smlp.workflow.plan import Cell, Sweep

# a model with both graphs, one with only the reference, one that starts from an ONNX file
FUSIBLE = {"model_name": "smlpnet_tiny", "checkpoint": "tiny.pth"}
PLAIN = {"model_name": "test_resnet", "checkpoint": {"source": "https://host/r.pth", "md5": "0" * 32}}
ONNX = {"model_name": "test_resnet", "onnx": "theirs.onnx", "num_classes": 5}
USERS = {"name": "photos", "root": "/my images", "shards": 2}
DEMO = {"name": "digits", "demo": {}}


def sweep(targets=({"backend": "onnxruntime"},), models=None, **more):
    """A sweep of one model of the user's, at batch sizes 1 and 4, unless told otherwise."""
    config = {"models": models or {"mine": FUSIBLE}, "dataset": USERS, "targets": list(targets), "batch_sizes": [1, 4]}
    return Sweep(settings.complete({**config, **more}, "sweep.yaml"))


def cell(backend="onnxruntime", precision="fp32", variant="", batch=4, model="mine"):
    return Cell(model, backend, precision, variant, batch)


def pairs(words):
    """Flags with one value each, as a mapping."""
    return dict(zip(words[::2], words[1::2], strict=True))


def options(words):
    """The compiler's options among the flags of compile.py."""
    found = [word.partition("=")[::2] for flag, word in zip(words, words[1:]) if flag == "--option"]
    assert len(dict(found)) == len(found)
    return dict(found)


# cells and paths


@pytest.mark.parametrize(
    ("variant", "named", "place"),
    [("", "", "mine/onnxruntime/fp32"), ("/opset17", "opset17", "mine/onnxruntime/fp32/opset17")],
)
def test_the_wildcards_of_a_job_name_a_cell(variant, named, place):
    wildcards = {"model": "mine", "backend": "onnxruntime", "precision": "fp32", "variant": variant, "batch": "4"}
    found = Cell.of(SimpleNamespace(**wildcards))
    assert found == cell(variant=named)
    assert found.place == place


def test_cells_are_in_the_order_of_the_tables():
    found = sweep(
        [{"backend": "pytorch"}, {"backend": "openvino", "precision": ["fp32", "int8"]}], {"a": FUSIBLE, "b": PLAIN}
    ).cells
    assert [entry[:4] for entry in found[::2]] == [
        (model, backend, precision, "")
        for model in "ab"
        for backend, precision in (("pytorch", "fp32"), ("openvino", "fp32"), ("openvino", "int8"))
    ]
    assert [entry.batch for entry in found[:4]] == [1, 4, 1, 4]


def test_every_stage_has_its_files():
    demo = sweep([{"backend": "pytorch"}, {"backend": "onnxruntime"}], {"m": PLAIN}, dataset=DEMO, batch_sizes=[2])
    assert {stage: demo.files(stage) for stage in plan.STAGES[:-1]} == {
        "retrieve": ["results/retrieve/digits.json", "results/retrieve/m/checkpoint.pth"],
        "export": ["results/export/m/reference.onnx"],
        "compile": ["results/retrieve/m/checkpoint.pth", "results/compile/m/onnxruntime/fp32/bs2.onnx"],
        "preprocess": ["results/preprocess/digits/test_resnet/shard-0"],
        "infer": [f"results/infer/m/{name}/fp32/digits/bs2/shard-0" for name in ("pytorch", "onnxruntime")],
        "evaluate": [f"results/evaluate/m/{name}/fp32/digits/bs2.json" for name in ("pytorch", "onnxruntime")],
        "ceilings": ["results/ceilings/cpu.json"],
        "measure": [f"results/measure/m/{name}/fp32/bs2.json" for name in ("pytorch", "onnxruntime")],
        "confirm": ["results/confirm/m.json"],
        "sustain": [],
        "profile": ["results/profile/m/best.json"],
    }


def test_the_files_of_a_variant_are_below_its_name():
    found = sweep([{"backend": "onnxruntime", "opset_version": 17}], batch_sizes=[2])
    assert found.files("export") == ["results/export/mine/fused_opset17.onnx"]
    assert found.files("compile") == ["results/compile/mine/onnxruntime/fp32/opset17/bs2.onnx"]
    assert found.files("infer")[0] == "results/infer/mine/onnxruntime/fp32/opset17/photos/bs2/shard-0"
    assert found.files("evaluate") == ["results/evaluate/mine/onnxruntime/fp32/opset17/photos/bs2.json"]
    assert found.files("measure") == ["results/measure/mine/onnxruntime/fp32/opset17/bs2.json"]


@pytest.mark.parametrize(
    ("targets", "matched", "not_matched"),
    [
        ([{"backend": "onnxruntime"}], [""], ["/x", "2"]),
        ([{"backend": "onnxruntime", "name": "a.b"}], ["", "/a.b"], ["/axb", "a.b", "/a.b/"]),
    ],
)
def test_the_wildcard_of_variants_matches_their_names_alone(targets, matched, not_matched):
    pattern = sweep(targets).variant_pattern
    assert all(re.fullmatch(pattern, text) for text in matched)
    assert not any(re.fullmatch(pattern, text) for text in not_matched)


# retrieve


def test_a_users_file_is_watched_and_a_url_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = sweep(models={"file": FUSIBLE, "url": PLAIN})
    assert found.source_file("url", "checkpoint") == []
    with pytest.raises(UserError, match=r"^models\.file\.checkpoint: tiny\.pth: no such file;"):
        found.source_file("file", "checkpoint")
    (tmp_path / "tiny.pth").touch()
    assert found.source_file("file", "checkpoint") == ["tiny.pth"]


def test_the_demos_checkpoint_needs_its_images():
    demo = sweep(models={"m": {**FUSIBLE, "checkpoint": "demo"}}, dataset=DEMO)
    assert demo.source_file("m", "checkpoint") == []
    assert demo.trained_on("m") == ["results/retrieve/digits.json"] and sweep().trained_on("mine") == []
    flags = pairs(demo.source_flags("m", "checkpoint"))
    assert (flags["--source"], flags["--demo_dataset"], flags["--seed"]) == ("demo", "results/retrieve/digits", "0")
    assert pairs(demo.demo_flags()) == {"--train_images": "400", "--val_images": "96", "--seed": "0"}


def test_flags_of_a_source():
    found = sweep(models={"pth": PLAIN, "onnx": ONNX})
    assert pairs(found.source_flags("pth", "checkpoint")) == {
        "--source": "https://host/r.pth",
        "--md5": "0" * 32,
        "--model_name": "test_resnet",
    }
    assert found.source_flags("onnx", "onnx") == ["--source", "theirs.onnx"]


@pytest.mark.parametrize("variant", ["", "quick"])
def test_ready_made_engines_take_the_place_of_compiling(variant):
    target = {"backend": "ascend", "precision": "fp16", **({"name": variant} if variant else {})}
    found = sweep([target], {"mine": {**FUSIBLE, "om": {4: "b4.om"}}})
    ready_made, compiled = "results/retrieve/mine/bs4.om", f"results/compile/{cell('ascend', 'fp16', variant).place}"
    assert found.files("compile") == [f"{compiled}/bs1.om", ready_made]
    assert found.files("retrieve") == ["results/retrieve/mine/checkpoint.pth", ready_made]
    named = {"--variant": variant} if variant else {}
    assert pairs(found.ready_made_flags("mine", "om", "4")) == {
        "--source": "b4.om",
        "--batch_size": "4",
        "--precision": "fp16",
        **named,
    }


# export


def test_flags_of_the_export():
    found = sweep(models={"pth": PLAIN, "onnx": ONNX}, export={"opset_version": 13})
    flags = pairs(found.export_flags("pth", ""))
    assert flags["--pth_path"] == "results/retrieve/pth/checkpoint.pth" and flags["--opset_version"] == "13"
    assert pairs(found.export_flags("pth", "_opset17")) == {**flags, "--opset_version": "17"}
    flags = pairs(found.export_flags("onnx", ""))
    assert flags["--source_onnx_path"] == "results/retrieve/onnx/model.onnx" and flags["--num_classes"] == "5"


@pytest.mark.parametrize(
    ("target", "more", "file"),
    [
        ({}, {}, "fused"),
        ({"graph": "reference"}, {}, "reference"),
        ({}, {"backends": {"onnxruntime": {"graph": "reference"}}}, "reference"),
        ({"graph": "fused"}, {"backends": {"onnxruntime": {"graph": "reference"}}}, "fused"),
        ({"opset_version": 17}, {}, "fused_opset17"),
        ({"opset_version": 17}, {"export": {"opset_version": 17}}, "fused"),
        ({"opset_version": 17}, {"dataset": {**USERS, "pixels": "uint8"}}, "fused_opset17_uint8"),
        ({}, {"models": {"mine": PLAIN}}, "reference"),
    ],
)
def test_the_onnx_file_of_an_engine(target, more, file):
    found = sweep([{"name": "v", "backend": "onnxruntime", **target}], **more)
    assert found.onnx_file(cell(variant="v")) == f"results/export/mine/{file}.onnx"


def test_an_engine_that_normalises_by_itself_takes_the_other_onnx_file():
    targets = [{"backend": "ascend"}, {"backend": "ascend", "name": "aipp", "options": {"aipp_config": "a.config"}}]
    found = sweep(targets, dataset={**USERS, "pixels": "uint8"})
    assert found.files("export") == ["results/export/mine/reference.onnx", "results/export/mine/reference_uint8.onnx"]


# compile


def test_the_files_of_an_engine_are_those_that_its_backend_declares():
    found = sweep([{"backend": "openvino"}, {"backend": "onnxruntime"}], batch_sizes=[2])
    compiled = "results/compile/mine"
    assert found.files("compile") == [
        f"{compiled}/openvino/fp32/bs2.xml",
        f"{compiled}/openvino/fp32/bs2.bin",
        f"{compiled}/onnxruntime/fp32/bs2.onnx",
    ]


def test_what_an_engine_is_compiled_from():
    found = sweep([{"backend": "onnxruntime", "precision": "int8"}, {"backend": "aotinductor"}])
    int8, native = cell(precision="int8"), cell("aotinductor")
    onnx = "results/export/mine/fused"
    assert found.compile_source_flags(int8) == ["--onnx_path", f"{onnx}.onnx"]
    assert found.source_sidecar(int8) == f"{onnx}.json"
    bins = "results/preprocess/photos/smlpnet_tiny/calibration"
    assert (found.calibration(int8), found.calibration_sidecar(int8)) == ([bins], [f"{bins}.json"])
    assert found.compile_source_flags(native) == ["--pth_path", "results/retrieve/mine/checkpoint.pth"]
    assert found.source_sidecar(native) == "results/retrieve/mine/checkpoint.json"
    assert found.calibration(native) == found.calibration_sidecar(native) == []


def test_every_artefact_has_its_sidecar_beside_it():
    found = sweep([{"backend": "openvino"}, {"backend": "pytorch"}])
    assert found.engine_sidecar(cell("openvino")) == "results/compile/mine/openvino/fp32/bs4.json"
    assert (
        found.engine_sidecar(cell("pytorch")) == found.start_sidecar("mine") == "results/retrieve/mine/checkpoint.json"
    )
    shard = "results/preprocess/photos/smlpnet_tiny/shard-0.json"
    assert found.bins_sidecar("mine", 0) == found.scored_sidecars("smlpnet_tiny")[0] == shard


def test_options_that_the_sweep_gives():
    found = sweep([{"backend": "aotinductor"}], backends={"aotinductor": {"device": "cuda"}})
    assert found.option_flags(cell("aotinductor")) == ["--option", "device=cuda", "--option", "graph=fused"]
    int8 = sweep([{"backend": "onnxruntime", "precision": "int8"}])
    folder = "results/preprocess/photos/smlpnet_tiny/calibration"
    assert int8.option_flags(cell(precision="int8")) == ["--option", f"calibration={folder}"]


def test_options_of_a_plain_target_keep_their_order():
    known = {"soc_version": "S", "python": "p", "aipp_config": "a", "fusion_switch_file": "f", "atc_options": {"z": 1}}
    found = sweep([{"backend": "ascend", "precision": "high"}], backends={"ascend": {**known}})
    assert list(options(found.option_flags(cell("ascend", "high"))).items()) == [
        *list(known.items())[:4],
        ("op_precision_ini", "resources/op_precision.ini"),
        ("z", "1"),
    ]
    native = {"cuda_graph": "false", "device": "cuda"}
    found = sweep([{"backend": "aotinductor"}], backends={"aotinductor": native})
    assert list(options(found.option_flags(cell("aotinductor")))) == ["device", "cuda_graph", "graph"]


VALUES = {"boolean": (True, "true"), "integer": (7, "7"), "text": ("x", "x"), "file": ("a file.txt", "a file.txt")}
VALUES["program"] = ("/a place/program", "/a place/program")
DECLARED = [(backend, option) for backend in backends.every() for option in backend.options if option.setting]
FURTHER = [backend for backend in backends.every() if backend.passes_on]


@pytest.mark.parametrize("by_target", [False, True], ids=["settings", "target"])
@pytest.mark.parametrize(("backend", "option"), DECLARED, ids=lambda value: value.name)
def test_every_declared_option_reaches_the_compiler(backend, option, by_target):
    """What a user sets is passed on, and a file that it names is an input of the rule."""
    value, word = VALUES[option.kind] if not option.choices else option.choices[:1] * 2
    precision = (option.precisions or backend.precisions)[0]
    target, section = {"name": "v", "backend": backend.name, "precision": precision}, {}
    if by_target and option.name not in ("python", "set_env"):
        target["options"] = {option.name: value}
    else:
        section = {option.name: value}
    found = sweep([target], backends={backend.name: section})
    engine = cell(backend.name, precision, "v")
    assert options(found.option_flags(engine))[option.name] == word
    assert (word in found.option_files(engine)) == (option.kind == "file")
    for other in backend.precisions:
        if option.precisions and other not in option.precisions:
            assert option.name not in options(found.option_flags(cell(backend.name, other)))


@pytest.mark.parametrize("backend", FURTHER, ids=lambda value: value.name)
def test_the_compilers_own_options_reach_it(backend):
    further, plain = backend.passes_on.name, {"backend": backend.name}
    targets = [plain, {**plain, "name": "v", "options": {further: {"b": 2, "c": 3}}}]
    found = sweep(targets, backends={backend.name: {further: {"a": 1, "b": "x"}}})
    plain, variant = (found.options(cell(backend.name, backend.precisions[0], name)) for name in ("", "v"))
    assert {key: plain[key] for key in "ab"} == {"a": "1", "b": "x"} and "c" not in plain
    assert {key: variant[key] for key in "abc"} == {"a": "1", "b": "2", "c": "3"}


def test_a_plain_target_has_no_flag_for_its_variant():
    found = sweep([{"backend": "onnxruntime"}, {"backend": "onnxruntime", "name": "v"}])
    for flags in (found.option_flags, found.about, found.variant_flags):
        assert "--variant" not in flags(cell())
        assert flags(cell(variant="v")) == [*flags(cell()), "--variant", "v"]


def test_the_command_of_a_compiler_is_shown():
    found = sweep([{"backend": "ascend", "precision": "fp16"}], backends={"ascend": {"soc_version": "Ascend310P3"}})
    assert found.shown(cell("ascend", "fp16")) == (
        "# in a scratch folder: atc --framework=5 --model=model.onnx --output=bs4 --input_format=NCHW "
        "--input_shape=input:4,3,224,224 --log=error --soc_version=Ascend310P3\n"
    )
    assert found.shown(cell()) == ""


# preprocess


def test_models_that_share_a_transform_share_bins():
    found = sweep(models={"a": FUSIBLE, "b": {**FUSIBLE, "model_name": "smlpnet_base"}, "c": PLAIN})
    shards = [f"{transform}/shard-{shard}" for transform in ("smlpnet_tiny", "test_resnet") for shard in (0, 1)]
    assert found.files("preprocess") == [f"results/preprocess/photos/{shard}" for shard in shards]
    assert found.bins("b", "1") == found.all_bins("a")[1] == found.scored("smlpnet_tiny")[1]


def test_flags_of_preprocessing():
    found = sweep(calibration={"root": "/train", "images": 9})
    assert pairs(found.preprocess_flags()) == {
        "--data_root": "/my images",
        "--split": "val",
        "--on_bad_image": "stop",
        "--layout": "files",
        "--pixels": "float32",
    }
    rules = {"classes": "names.txt", "background_class": 0}
    found = sweep(
        dataset={"name": "photos", "root": "/my images", **rules}, calibration={"root": "/train", "images": 9}
    )
    assert {f"--{key}": str(value) for key, value in rules.items()}.items() <= pairs(found.preprocess_flags()).items()
    drawn = {"--data_root": "/train", "--split": "train", "--draw": "9", "--seed": "0", "--pixels": "float32"}
    assert pairs(found.calibration_flags()) == drawn
    found = sweep(calibration={"root": "/train", "columns": ["photo", "kind"]})
    words = found.calibration_flags()
    assert words[words.index("--columns") + 1 :][:2] == ["photo", "kind"]


# infer, evaluate, measure, tabulate


@pytest.mark.parametrize(
    ("model", "backend", "engine"),
    [
        (FUSIBLE, "pytorch", "results/retrieve/mine/checkpoint.pth"),
        (ONNX, "onnxruntime", "results/compile/mine/onnxruntime/fp32/bs2.onnx"),
    ],
)
def test_a_model_is_judged_by_a_plain_target_that_need_not_be_listed(model, backend, engine):
    found = sweep([{"backend": "openvino", "name": "v"}], {"mine": model}, accuracy={"reference_batch_size": 2})
    assert found.reference("mine") == backend
    folder = f"results/infer/mine/{backend}/fp32/photos/bs2"
    assert found.outputs(found.reference_cell("mine")) == [f"{folder}/shard-0", f"{folder}/shard-1"]
    assert found.engine(cell(backend, batch=2)) == engine


@pytest.mark.parametrize("variant", ["", "quick"])
def test_imported_results_take_the_place_of_ours(tmp_path, variant):
    target = {"backend": "ascend", "precision": "fp16", **({"name": variant} if variant else {})}
    found = sweep([target], infer={"import": str(tmp_path)})
    engine, other = cell("ascend", "fp16", variant), cell("ascend", "fp16", variant, 1)
    theirs = tmp_path / engine.place / "bs4"
    for shard in (0, 1):
        (theirs / f"shard-{shard}").mkdir(parents=True)
    assert found.outputs(engine) == [f"{theirs}/shard-0", f"{theirs}/shard-1"] and found.own_outputs(engine) == []
    assert found.imported(other) == [] and found.outputs(other)[0].startswith("results/infer/")
    assert found.files("measure") == [
        f"results/measure/{engine.place}/bs1.json",
        f"results/measure/{engine.place}/imported/bs4.json",
    ]
    assert found.imported_summary(engine) == f"{theirs}/shard-0/sumary.json"
    (theirs / "shard-0_summary.json").touch()
    assert found.imported_summary(engine) == f"{theirs}/shard-0_summary.json"
    (theirs / "shard-1").rmdir()
    with pytest.raises(UserError, match="shard-1 is missing, and other shards of that engine are there; add it"):
        found.outputs(engine)
    (theirs / "shard-0").rmdir()
    assert found.outputs(engine) == [str(theirs)]


def test_flags_of_the_tables():
    found = sweep(models={"a": FUSIBLE, "b": ONNX}, decision={"latency_ms_max": 2.5})
    assert found.table_flags() == [
        *("--published_name", "a=smlpnet_tiny", "b=test_resnet"),
        *("--reference_of", "a=pytorch", "b=onnxruntime"),
        *("--familywise", "none", "--latency_ms_max", "2.5", "--latency_percentile", "99"),
    ]


def test_what_evaluation_is_told_about_an_engine():
    told = {"--backend": "onnxruntime", "--precision": "fp32", "--batchsize": "4"}
    assert pairs(sweep().about(cell())) == told
    assert pairs(sweep(models={"mine": ONNX}).about(cell())) == {**told, "--num_classes": "5"}
