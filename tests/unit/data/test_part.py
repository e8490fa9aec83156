"""dataset.part: a stratified, seeded part of a data set, the same on every machine."""

import collections
import hashlib
import json

import pytest

from smlp.data import dataset


def entries_of(*counts):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return [dataset.Entry(index, f"val/{label}/{index}.png", f"{label}", label) for index, label in enumerate(labels)]


@pytest.mark.parametrize("count", [1, 5, 10, 33, 99])
def test_every_class_has_its_share(count):
    entries = entries_of(50, 30, 19, 1)
    part = dataset.part(entries, count, 0)
    assert len(part) == count and [entry.index for entry in part] == list(range(count))
    found = collections.Counter(entry.label for entry in part)
    for label, size in enumerate((50, 30, 19, 1)):
        assert abs(found[label] - size * count / 100) < 1
    order = [entry.image for entry in entries]
    assert [entry.image for entry in part] == sorted((entry.image for entry in part), key=order.index)


def test_the_choice_depends_on_the_seed_and_the_paths_alone():
    entries = entries_of(40, 40)
    chosen = {seed: [entry.image for entry in dataset.part(entries, 20, seed)] for seed in range(3)}
    assert len(set(map(tuple, chosen.values()))) == 3
    assert chosen[0] == [entry.image for entry in dataset.part(entries, 20, 0)]
    ranks = {f"val/0/{index}.png": hashlib.sha256(f"0\0val/0/{index}.png".encode()).digest() for index in range(40)}
    assert set(chosen[0][:10]) == set(sorted(ranks, key=ranks.get)[:10])
    more = [entry.image for entry in dataset.part(entries, 30, 0)]
    assert set(chosen[0]) < set(more)


@pytest.mark.parametrize("count", [80, 81, 1000])
def test_a_part_is_at_most_everything(count):
    assert dataset.part(entries_of(40, 40), count, 0) == entries_of(40, 40)


def test_the_command_takes_a_part_and_says_of_how_many(tmp_path, jpeg, load_command):
    for index in range(12):
        path = tmp_path / "data" / "val" / "abc"[index // 4] / f"{index:02d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(index))
    preprocess = load_command("preprocess")
    flags = ["--data_root", str(tmp_path / "data"), "--workers", "1", "--images", "6", "--seed", "1"]
    shards = []
    for index in range(2):
        bins = tmp_path / f"shard-{index}"
        assert preprocess.main([*flags, "--save_dir", str(bins), "--shard", f"{index}/2"]) == 0
        shards += dataset.read_manifest(bins / "manifest.csv")
        facts = json.loads((tmp_path / f"shard-{index}.json").read_text())
        assert facts["part"] == facts["identity"]["flags"]["part"] == {"images": 6, "of": 12, "seed": 1}
    assert collections.Counter(row.label for row in shards) == {0: 2, 1: 2, 2: 2}
    assert [row.index for row in shards] == list(range(6))
    assert [row[:1] + row[2:5] for row in shards] == dataset.list_images(tmp_path / "data", images=6, seed=1)
