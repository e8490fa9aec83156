"""Images in archives are watched by content, and an archive is read once, not by every plan."""

import os

import data_layouts
import pytest

from smlp.core.cli import UserError
from smlp.data import archives, dataset, packed
from smlp.workflow import checks, outside, settings, watch
from smlp.workflow.plan import Sweep

SAMPLES = data_layouts.samples_of((number % 2, b"image %d" % number) for number in range(6))


def contents(**more):
    """As of a new plan in a new process."""
    return whole(**more)[1]


def whole(**more):
    """The same, with the settings."""
    archives._known.clear()
    config = {
        "models": {"mine": {"model_name": "smlpnet_tiny", "checkpoint": "mine.pth"}},
        "dataset": {"name": "photos", "root": "data", "shards": 2},
        "targets": [{"backend": "onnxruntime"}],
    }
    complete = settings.complete({"batch_sizes": [1], **config, **more}, "sweep.yaml")
    return complete, outside.Contents(Sweep(complete), complete)


def shards(**more):
    asked = contents(**more)
    found = [asked.shard(shard) for shard in "01"]
    asked.watch.save()
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "SETTLED_NS", -(10**18))
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """What is read of archives, and which of them are listed."""
    seen = []
    for module, name in ((packed, "read"), (archives, "_read_index")):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *about, whole=whole: seen.append(about[:2]) or whole(*about))
    return seen


@pytest.mark.parametrize("layout", ["tar_of_folders", "tars_per_class", "webdataset", "hub_parquet"])
def test_an_archive_is_read_once_until_it_changes(folder, reads, layout):
    data_layouts.LAYOUTS[layout](folder / "data", SAMPLES)
    before = shards()
    assert len(reads) >= len(SAMPLES)
    reads.clear()
    assert shards() == before and reads == []
    for path in (folder / "data").rglob("*"):
        os.utime(path)
    assert shards() == before and reads  # read again, and the same
    changed = [*SAMPLES[:5], SAMPLES[5]._replace(content=b"other")]
    data_layouts.LAYOUTS[layout](folder / "new", changed)
    for path in (folder / "new").rglob("*.*"):
        if path.is_file():
            os.replace(path, folder / "data" / path.relative_to(folder / "new"))
            os.utime(folder / "data" / path.relative_to(folder / "new"), (1_000_000_000, 1_000_000_000))
    after = shards()
    assert after[0] == before[0] and after[1] != before[1]


def test_every_layout_has_the_same_contents(folder):
    digests = set()
    for layout in ("class_folders", "tars_per_class", "hub_parquet"):
        data_layouts.LAYOUTS[layout](folder / layout, SAMPLES)
        asked = contents(dataset={"name": "photos", "root": layout})
        digests.add(tuple(sorted(asked._digests(0) + asked._digests(1))))
    assert len(digests) == 1


def test_training_tables_have_columns_of_their_own(folder):
    """A table with two images in a row: which one is to be calibrated with is said, and another one is another draw."""
    data_layouts.hub_parquet(folder / "data", SAMPLES)
    data_layouts.two_images_a_row(folder / "data" / "train.parquet", 20)

    def drawn(**calibration):
        calibration = {"images": 3, **calibration}
        complete, asked = whole(calibration=calibration, targets=[{"backend": "onnxruntime", "precision": "int8"}])
        checks.Checks(Sweep(complete), complete, asked).calibration()
        found = asked.calibration()
        asked.watch.save()
        return found

    with pytest.raises(UserError, match=r"has no column 'image', its columns are left, right;.*calibration\.columns"):
        drawn()
    left = drawn(columns=["left", "kind"])  # the class does not matter
    assert left == drawn(columns=["left", "kind"]) != drawn(columns=["right", "kind"])


def test_a_draw_from_archives_holds_until_one_changes(folder, reads):
    data_layouts.class_folders(folder / "data", SAMPLES)
    train = data_layouts.samples_of((number % 2, b"training %d" % number) for number in range(20))
    data_layouts.tar(folder / "data" / "train.tar", [(f"{one.synset}/{one.name}", one.content) for one in train])

    def drawn():
        asked = contents(calibration={"images": 3})
        found = asked.calibration()
        asked.watch.save()
        return found

    before = drawn()
    assert len(reads) == 4  # listed, and three images
    reads.clear()
    assert drawn() == before and reads == []
    others = [one._replace(content=one.content + b"!") for one in train]
    data_layouts.tar(folder / "data" / "train.tar", [(f"{one.synset}/{one.name}", one.content) for one in others])
    assert drawn() != before
    assert dataset.list_images(folder / "data", "train")[0].image.startswith("train.tar/n0")
