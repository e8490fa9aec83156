"""Published accuracy is shown for the very checkpoint that it was published of, and on as many images."""

import pytest
from result_files import PUBLISHED, ROOT, Sweep, accuracy, assert_refused, dicts, judged

from smlp.models import preprocessing
from smlp.results import reader
from smlp.results.accuracy import make_accuracy, make_accuracy_tables, published_notes

# the published checkpoint, as resources/published.csv lists it
WORDS = "resize 256 bicubic, center 224x224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
START = {"id": "1" * 64, "sha256": "ab" * 32, "md5": "061415304f38317c3850a587ef709d45"}


def tabulated(root, *contents, published=PUBLISHED):
    records = reader.read_accuracy(Sweep(root, contents, []).files["accuracy"])
    quoted = reader.choose_published(published, ["smlpnet_tiny"], [])
    table = make_accuracy(records, reader.Target("pytorch", "fp32"), quoted)
    (shown,) = make_accuracy_tables(table, published_notes(records, table, quoted))
    return dicts(table), shown


def test_the_published_drop_is_another_figure_than_the_engines(tmp_path):
    reference = accuracy("pytorch", "fp32", 8, start=START, images=50000, transform=WORDS)
    engine = judged("onnxruntime", "fp32", 8, start=START, images=50000)
    (first, second), table = tabulated(tmp_path, reference, engine)
    assert (first["published_top1"], first["published_device"]) == (81.74, "pytorch")
    assert first["published_to_reference_drop_points"] == pytest.approx(0.04)
    assert second["published_to_reference_drop_points"] is None and second["drop_points"] == 0.2
    assert f"transform of the images of smlpnet_tiny: {WORDS}." in table.notes
    column = table.header.index("published → reference (points)")
    assert [row[column] for row in table.rows] == ["+0.04", "–"]
    assert "smlpnet_tiny: 81.74 % top-1 are published of this checkpoint (pytorch), on as many images." in table.notes


def test_a_random_network_on_40_images_is_not_compared_with_the_published_accuracy(tmp_path):
    other = {"id": "2" * 64, "sha256": "cd" * 32, "md5": "ef" * 16}
    contents = [accuracy("pytorch", "fp32", batch, start=other, images=40, top1=0.0) for batch in (1, 8)]
    found, table = tabulated(tmp_path, *contents)
    assert [row["published_top1"] for row in found] == [None, None]
    assert "published → reference (points)" not in table.header and "81.74" not in str(table)
    assert table.notes[-1:] == [
        f"smlpnet_tiny: published accuracies are not shown: the checkpoint (sha256 {'cd' * 32}) is not listed in "
        "resources/published.csv; if it is the published one, add its checkpoint_sha256, images and transform there."
    ]


def test_the_published_checkpoint_on_other_images_is_not_compared(tmp_path):
    (row,), table = tabulated(tmp_path, accuracy("pytorch", "fp32", 8, start=START, images=1000))
    assert row["published_top1"] is None
    assert table.notes[-1:] == [
        "smlpnet_tiny: 81.74 % top-1 are published of this checkpoint (pytorch), on 50000 images; 1000 were scored "
        "here, so that they are not compared."
    ]


def test_weights_that_were_chosen_in_the_published_file_are_not_compared(tmp_path):
    chosen = {**START, "key": "model_ema"}
    (row,), table = tabulated(tmp_path, accuracy("pytorch", "fp32", 8, start=chosen, images=50000, transform=WORDS))
    assert row["published_top1"] is None
    assert "the weights 'model_ema' were chosen among those in the checkpoint" in table.notes[-1]


@pytest.mark.parametrize(
    ("words", "said"), [(WORDS.replace("256", "224"), WORDS.replace("256", "224")), (None, "not known")]
)
def test_the_published_checkpoint_after_another_transform_is_not_compared(tmp_path, words, said):
    content = accuracy("pytorch", "fp32", 8, start=START, images=50000, transform=words)
    (row,), table = tabulated(tmp_path, content)
    assert row["published_top1"] is None and row["transform"] == words
    assert table.notes[-1] == (
        "smlpnet_tiny: 81.74 % top-1 are published of this checkpoint (pytorch), with another transform: "
        f"{WORDS}; here it is {said}, so that they are not compared."
    )


def test_the_published_transform_is_that_of_our_models():
    lines = [line for line in PUBLISHED if line.checkpoint_md5]
    assert [line.transform for line in lines] == [str(preprocessing.SMLPNET)] * 2


def test_a_result_that_does_not_know_its_checkpoint_is_not_compared(tmp_path):
    (row,), table = tabulated(tmp_path, accuracy("pytorch", "fp32", 8, images=50000))
    assert row["published_top1"] is None and "(sha256 not known) is not listed" in table.notes[-1]


def test_a_model_without_published_accuracies_gets_no_note(tmp_path):
    records = reader.read_accuracy(Sweep(tmp_path, [accuracy("pytorch", "fp32", 8)], []).files["accuracy"])
    speed = [line for line in PUBLISHED if line.what == "throughput"]
    table = make_accuracy(records, reader.Target("pytorch", "fp32"), {"smlpnet_tiny": speed})
    assert published_notes(records, table, {"smlpnet_tiny": speed}) == []


LINE = "smlpnet_tiny,top1,mine,,,70,percent,me"


@pytest.mark.parametrize(
    ("checksums", "shown"),
    [
        (f",{'AB' * 32}", 70.0),  # capitals are the same digits
        (f"{START['md5']},{'ab' * 32}", 70.0),
        (f"{'0' * 32},{'ab' * 32}", None),  # both are given: both must be right
        (f",{'ba' * 32}", None),
    ],
)
def test_a_checkpoint_that_the_user_lists_is_compared(tmp_path, checksums, shown):
    path = tmp_path / "published.csv"
    header = (ROOT / "resources" / "published.csv").read_text().splitlines()[0]
    path.write_text(f'{header}\n{LINE},{checksums},30,"{WORDS}"\n')
    content = accuracy("pytorch", "fp32", 8, start=START, images=30, transform=WORDS)
    (row,), _ = tabulated(tmp_path, content, published=reader.read_published(path))
    assert row["published_top1"] == shown


@pytest.mark.parametrize(
    ("ends", "named"),
    [
        (f",{'ab' * 32},,{WORDS.split(',')[0]}", "gives a checkpoint's checksum; give the number of scored images too"),
        (f",{'ab' * 32},50000,", "and the transform as the column transform"),
        (f"{'x' * 32},,50000,x", "checkpoint_md5 is 'xxxx"),
        (f",{'ab' * 31},50000,x", "64 hexadecimal digits were expected"),
        ("", "has fewer values than the header has columns"),
    ],
)
def test_a_listed_checkpoint_is_checked(sweep, capsys, ends, named):
    path = sweep.root / "published.csv"
    header = (ROOT / "resources" / "published.csv").read_text().splitlines()[0]
    path.write_text(f"{header}\n{LINE},{ends}\n")
    assert_refused(sweep, capsys, path, "line 2", named, flags=["--published", path])
