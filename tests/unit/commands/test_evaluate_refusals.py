"""What evaluate.py refuses by name: damaged results, manifests and references."""

import numpy as np
import pytest

CLASSES = 10


def damage_missing(run):
    run.result(7).unlink()


def damage_surplus(run):
    run.write_result(run.results / "batch-00012_0.npy", run.logits[:1])


def damage_second_output(run):
    run.write_result(run.results / "batch-00003_1.npy", run.logits[:1])


def damage_unknown_file(run):
    (run.results / "notes.md").touch()


def damage_two_formats(run):
    run.write_result(run.result(3, ".txt"), run.logits[3:4])


def damage_truncated(run):
    content = run.result(3).read_bytes()
    run.result(3).write_bytes(content[:-1])


def damage_header_only(run):
    run.result(3).write_bytes(b"\x93NUMPY")


def damage_empty(run):
    run.result(3).write_bytes(b"")


def damage_longer(run):
    run.result(3).write_bytes(run.result(3).read_bytes() + b"\0")


def damage_class_count(run):
    np.save(run.result(3), run.logits[3:4, :-1])


def damage_image_count(run):
    np.save(run.result(3), run.logits[2:4])


def damage_rank(run):
    np.save(run.result(3), run.logits[3])


def damage_nan(run):
    run.logits[3, 4] = np.nan
    np.save(run.result(3), run.logits[3:4])


def damage_infinity(run):
    run.logits[3, 4] = -np.inf
    np.save(run.result(3), run.logits[3:4])


def damage_text(run):
    np.save(run.result(3), np.array([["x"] * CLASSES]))


def damage_pickle(run):
    np.save(run.result(3), np.array([[print] * CLASSES], dtype=object), allow_pickle=True)


def damage_archive(run):
    with open(run.result(3), "wb") as stream:
        np.savez(stream, logits=run.logits[3:4])


def damage_giant_header(run):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 10), }" % 10**25
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    run.result(3).write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def damage_precision(run):
    np.save(run.result(3), run.logits[3:4].astype(np.float64))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_missing, "batch-00007_0"),
        (damage_surplus, "batch-00012_0.npy"),
        (damage_second_output, "batch-00003_1.npy"),
        (damage_unknown_file, "notes.md"),
        (damage_two_formats, "batch-00003_0.txt"),
        (damage_truncated, "batch-00003_0.npy"),
        (damage_header_only, "batch-00003_0.npy"),
        (damage_empty, "batch-00003_0.npy"),
        (damage_longer, "batch-00003_0.npy"),
        (damage_class_count, "batch-00003_0.npy: holds 1 images of 9 classes"),
        (damage_image_count, "batch-00003_0.npy: holds 2 images"),
        (damage_rank, "batch-00003_0.npy"),
        (damage_nan, "batch-00003_0.npy: row 0 is not finite"),
        (damage_infinity, "batch-00003_0.npy: row 0 is not finite"),
        (damage_text, "batch-00003_0.npy"),
        (damage_pickle, "batch-00003_0.npy"),
        (damage_archive, "batch-00003_0.npy"),
        (damage_giant_header, "batch-00003_0.npy"),
        (damage_precision, "batch-00003_0.npy: holds float64"),
    ],
)
def test_a_damaged_result_is_refused_by_name(run, damage, named, assert_refused):
    damage(run)
    assert_refused(run.flags(), named)


@pytest.mark.parametrize("cut", [1, 2, CLASSES * 2, CLASSES * 4])
def test_a_short_bin_is_refused(tmp_path, cut, make_run, assert_refused):
    run = make_run(tmp_path, suffix=".bin")
    path = run.result(5, ".bin")
    path.write_bytes(path.read_bytes()[:-cut])  # half of float32 looks like float16, were it not for the others
    assert_refused(run.flags("--outputs_dtype", "float32"), "batch-00005_0.bin")


@pytest.mark.parametrize(
    "text",
    ["", "0.5 0.1", "0.5 " * CLASSES, "0.5 " * (CLASSES - 1) + "\n", "0.5 \n" * 2 + "0.5 0.5 \n", "0.5 x \n", "\xff\n"],
)
def test_a_damaged_txt_is_refused(tmp_path, text, make_run, assert_refused):
    run = make_run(tmp_path, suffix=".txt")
    run.result(3, ".txt").write_text(text, encoding="latin-1")
    assert_refused(run.flags(), "batch-00003_0.txt")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("label", "target"), "no column label"),
        (lambda text: text.replace("index,bin", "idx,bin"), "no column index"),
        (lambda text: "", "no column"),
        (lambda text: text.splitlines()[0] + "\n", "lists no images"),
        (lambda text: text + text.splitlines()[1].replace("0,batch-00000", "12,batch-00012", 1) + "\n", "listed twice"),
        (lambda text: text + "0,batch-00012.bin,new.JPEG,0,0,0\n", "line 14: index 0 occurs a second time"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG\n", "line 14"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG,0,-1,0\n", "label '-1'"),
        (lambda text: text + "12,batch-00012.bin,new.JPEG,0,cat,0\n", "label 'cat'"),
        (lambda text: text + f"12,batch-00012.bin,new.JPEG,0,{'9' * 5000},0\n", "line 14: label '999"),
        (lambda text: text + "12,batch-00003.1.bin,new.JPEG,0,1,0\n", "share the stem batch-00003"),
        (lambda text: text + '12,"batch-00012.bin,new.JPEG,0,1,0\n', "is not a manifest in CSV"),
        (lambda text: text + "\0", "manifest.csv"),
    ],
)
def test_a_damaged_manifest_is_refused(run, edit, named, assert_refused):
    run.manifest.write_text(edit(run.manifest.read_text()))
    assert_refused(run.flags(), run.manifest, named)


def test_a_manifest_that_is_no_text_is_refused(run, assert_refused):
    run.manifest.write_bytes(b"\x89PNG\xff\xfe")
    assert_refused(run.flags(), run.manifest, "no column index, bin, image", "a manifest of scripts/preprocess.py")


def test_a_shard_that_is_given_twice_is_refused(run, assert_refused):
    flags = [*run.flags(), str(run.manifest)]
    assert_refused(flags, "0.JPEG is listed twice (also in", "give each shard once")


def test_a_label_beyond_the_models_classes_is_refused(run, write_result, assert_refused):
    run.manifest.write_text(run.manifest.read_text() + "12,batch-00012.bin,cat.JPEG,cat,10,0\n")
    write_result(run.result(12), run.logits[:1])
    assert_refused(run.flags(), "cat.JPEG", "label 10", "10 classes")


def test_missing_paths_are_refused(run, assert_refused):
    assert_refused([*run.flags(), "--labels", str(run.root / "no.csv")], "no.csv")
    assert_refused([*run.flags(), "--reference", str(run.root / "no.csv")], "no.csv")
    flags = run.flags()
    flags[1] = str(run.root / "out put" / "bs2")
    assert_refused(flags, "bs2")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda lines: lines[:-1], "lacks image"),
        (lambda lines: [*lines, "12,more.JPEG,1,1,0"], "more.JPEG"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 3)[0] + ",0,0,0"], "label 0"),
        (lambda lines: [*lines, lines[-1]], "contradicts itself"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 2)[0] + ",9,1"], "contradicts itself"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",x"], "rank 'x'"),
        (lambda lines: [lines[0].replace("rank", "place"), *lines[1:]], "no column rank"),
    ],
)
def test_a_reference_of_other_images_is_refused(run, edit, named, capsys, evaluate, assert_refused):
    table = run.root / "reference.csv"
    evaluate.main(run.flags("--predictions", table))
    capsys.readouterr()
    table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    assert_refused(run.flags("--reference", table), "reference.csv", named)
