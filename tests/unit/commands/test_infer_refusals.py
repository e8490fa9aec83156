"""What infer.py refuses by name, before it writes anything."""

import io
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from smlp.core.cli import UserError

SIZE = (3, 4, 4)


def refusal(infer, place, *more, **engine):
    """The message that refuses a run; nothing was written."""
    before = sorted(place.root.rglob("*"))
    with pytest.raises(UserError) as error:
        infer.main(place.flags(*more, **engine))
    # an empty --output may have been made
    assert [path for path in sorted(place.root.rglob("*")) if path != place.out] == [
        p for p in before if p != place.out
    ]
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_name_of_the_result_folder_without_output_is_refused(infer, place):
    with pytest.raises(UserError, match="--output_dirname needs --output"):
        infer.main(["--model", str(place.engine), "--output_dirname", "run"])


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, np.zeros(SIZE, np.float32))
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", "y")
    return stream.getvalue()[:-5]


ONE = np.zeros((1, *SIZE), np.float32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.bin", ONE.tobytes()[:-4], "has 188 bytes, whole images of float32 3x4x4 (192 bytes each) were expected"),
        ("b.bin", ONE.tobytes() + b"x", "has 193 bytes"),
        ("b.bin", b"", "has 0 bytes"),
        ("b.bin", ONE.astype(np.float16).tobytes(), "has 96 bytes"),
        ("b.npy", npy(ONE.astype(np.float64)), "holds float64 1x3x4x4, whole images of float32 3x4x4 were expected"),
        ("b.npy", npy(ONE.astype(">f4")), "holds >f4 1x3x4x4"),
        ("b.npy", npy(ONE.astype(np.int32)), "holds int32 1x3x4x4"),
        ("b.npy", npy(ONE.transpose(0, 2, 3, 1)), "holds float32 1x4x4x3"),
        ("b.npy", npy(ONE.ravel()), "holds float32 48"),
        ("b.npy", npy(ONE[:0]), "holds float32 0x3x4x4"),
        ("b.npy", npy(ONE)[:-10], "is not a plain .npy file"),
        ("b.npy", npy(ONE)[:20], "is not a plain .npy file"),
        ("b.npy", b"", "is not a plain .npy file"),
        ("b.npy", b"not numpy at all", "is not a plain .npy file"),
        ("b.npy", npy(np.array([{"code": print}], object)), "is not a plain .npy file"),
        ("b.npy", npz(), "is not a plain .npy file"),
        ("b.npy", zipped(), "is not a plain .npy file"),
        ("b.npy", npy(ONE).replace(b"{", b"(", 1), "is not a plain .npy file"),
        ("b.npy", npy(ONE).replace(b"(1, 3, 4, 4)", b"(1, 3, 4,-4)"), "is not a plain .npy file"),
        ("b.bin", ONE.tobytes() * 2, "holds 2 images where others hold 1"),
    ],
)
def test_a_file_that_is_no_image_of_this_engine_is_refused(infer, place, name, content, message):
    place.add("a.bin", "c.bin")
    (place.bins / name).write_bytes(content)
    assert refusal(infer, place).startswith(f"{place.bins / name}: {message}")


@pytest.mark.parametrize("last", [2, 4, 5])
def test_a_last_file_with_more_images_than_the_others_is_refused(infer, place, last):
    place.add("a.bin", "b.bin")
    place.add("c.bin", count=last)
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'c.bin'}: holds {last} images where others hold 1")


def test_a_short_file_in_the_middle_is_refused(infer, place):
    place.add("a.bin", count=2)
    place.add("b.bin")
    place.add("c.bin", count=2)
    assert refusal(infer, place).startswith(f"{place.bins / 'b.bin'}: holds 1 images where others hold 2")


@pytest.mark.parametrize("count", [3, 8])
def test_files_that_do_not_divide_the_batch_are_refused(infer, place, count):
    place.add("a.bin", "b.bin", count=count)
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'a.bin'}: holds {count} images, which does not divide the batch size 4")


def test_names_that_are_the_same_up_to_the_first_dot_are_refused(infer, place):
    place.add("a.1.bin", "a.2.bin")
    message = refusal(infer, place)
    assert message.startswith(f"{place.bins / 'a.2.bin'}: its output would overwrite that of a.1.bin")


def test_a_file_that_is_listed_twice_is_refused(infer, place):
    (path,) = place.add("a.bin")
    message = refusal(infer, place, "--input", f"{path},{path}")
    assert message.startswith(f"{path}: its output would overwrite that of a.bin")


def test_a_folder_without_images_is_refused(infer, place):
    (place.bins / "manifest.csv").write_text("x")
    assert refusal(infer, place).startswith(f"{place.bins}: holds no .bin or .npy file")


@pytest.mark.parametrize(
    "spec", ["{root}/none", "{bins}/a.bin,{root}/none", "{bins}/a.bin,{bins}", "{bins},{bins}", ""]
)
def test_an_input_that_is_not_there_is_refused(infer, place, spec):
    place.add("a.bin")
    message = refusal(infer, place, "--input", spec.format(root=place.root, bins=place.bins))
    assert "is no file; --input takes one folder" in message or "holds no .bin or .npy file" in message


def test_a_missing_engine_is_refused(infer, place):
    place.add("a.bin")
    message = refusal(infer, place, engine=place.root / "bs8.onnx")
    assert message.startswith(f"{place.root / 'bs8.onnx'}: no such engine")


def test_another_batch_than_the_engines_is_refused(infer, place):
    place.add("a.bin")
    message = refusal(infer, place, "--batchsize", 8)
    assert message == "--batchsize 8: the engine was compiled for batch 4; leave the flag out"


def test_a_result_folder_with_foreign_files_is_not_replaced(infer, place):
    place.add("a.bin")
    (place.out / "run").mkdir(parents=True)
    (place.out / "run" / "a_0.bin").write_text("older")
    (place.out / "run" / "notes.md").write_text("mine")
    message = refusal(infer, place)
    assert message.startswith(f"{place.out / 'run'}: holds 'notes.md', which this command did not write")
    assert (place.out / "run" / "a_0.bin").read_text() == "older"


def test_an_older_result_survives_a_failed_run(infer, place):
    place.add("a.bin")
    assert infer.main(place.flags()) == 0
    before = (place.out / "run" / "a_0.bin").read_bytes()
    (place.bins / "b.bin").write_bytes(b"short")
    refusal(infer, place)
    assert place.written() == ["run", "run/a_0.bin", "run_summary.json"]
    assert (place.out / "run" / "a_0.bin").read_bytes() == before


def test_an_engine_with_free_pixels_is_refused(infer, place):
    place.mixer_onnx(place.engine, 4)
    model = onnx.load(place.engine)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, place.engine)
    place.add("a.bin")
    assert "takes 'input' 4x3x?x4; one image input with only the batch free was expected" in refusal(infer, place)


def test_an_engine_with_two_inputs_is_refused(infer, place):
    model = onnx.load(place.engine)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [4]))
    onnx.save(model, place.engine)
    place.add("a.bin")
    assert "takes 'input' 4x3x4x4, 'mask' 4; one image input" in refusal(infer, place)


def test_a_damaged_sidecar_is_refused(infer, place):
    place.add("a.bin")
    (place.root / "bs4.json").write_text("[1, 2]")
    assert refusal(infer, place).startswith(f"{place.root / 'bs4.json'}: is no sidecar")
    (place.root / "bs4.json").write_text('{"backend": "tensorflow"}')
    assert "backend 'tensorflow' is not known; choose one of" in refusal(infer, place)


def test_a_suffix_that_names_no_backend_is_refused(infer, place):
    place.add("a.bin")
    place.engine.rename(place.root / "bs4.engine")
    message = refusal(infer, place, engine=place.root / "bs4.engine")
    assert message.startswith(f"{place.root / 'bs4.engine'}: no sidecar bs4.json, and its suffix names no backend")
