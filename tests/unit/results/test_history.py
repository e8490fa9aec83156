"""The history of finished sweeps: written once, read back with checks, whatever else happens to its files."""

import json
import multiprocessing
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from smlp.core import identity
from smlp.core.cli import UserError
from smlp.results import history
from smlp.results.history import Entry, Key, Predictions, Row

IMAGES = tuple(f"val/{number}.png" for number in range(100)) + ("val/\udce9.png",)
LABELS = np.arange(len(IMAGES)) % 10


def predictions(shift=0):
    return Predictions(IMAGES, LABELS, (LABELS + shift) % 10)


def entry(rate=50.0, shift=0, when="2026-11-27T10:00:00.000+00:00", settings=None):
    key = Key("tiny", "onnxruntime", "fp32", "", 1)
    figures = {"images": 101, "top1": 80.0, "engine_id": "e1", "verdict": "pass"}
    speed = {"images_per_s": rate, "stable": True, "engine_id": "e1", "device": "cpu"}
    rows = (
        Row("accuracy", key, figures, f"a{shift}", predictions=lambda: predictions(shift)),
        Row("accuracy", key._replace(batch=4), figures, f"b{shift}", predictions=lambda: predictions(shift)),
        Row("throughput", key._replace(way="latency"), speed, f"t{rate}", "h1", (rate, rate + 1), {"min_runs": 3}),
    )
    return Entry("this sweep", rows, {"tiny": {"sha256": "ab"}}, {"h1": {"host": {"processor": "x"}}}, settings, when)


def test_an_entry_reads_back_as_it_was_written(tmp_path):
    wanted = entry(settings={"measure": {"loads": 3}})
    path = history.append(tmp_path, wanted)
    assert path.name == f"20261127T100000Z-{wanted.id[:16]}.jsonl"
    found = history.read(path)
    assert (found.id, found.ended_at, found.settings) == (wanted.id, wanted.ended_at, wanted.settings)
    assert (found.starts, found.hosts) == (wanted.starts, wanted.hosts)
    for one, other in zip(found.rows, wanted.rows, strict=True):
        for name in ("table", "key", "figures", "result", "host", "rates", "asked"):
            assert getattr(one, name) == getattr(other, name)
    kept = found.rows[0].predictions()
    assert kept.images == IMAGES
    assert (kept.labels == LABELS).all() and (kept.predicted == predictions().predicted).all()


def test_a_row_is_keyed_by_its_engine_and_its_host(tmp_path):
    lines = [json.loads(line) for line in history.append(tmp_path, entry()).read_text().splitlines()]
    assert [(line["engine_id"], line["host"]) for line in lines[1:]] == [("e1", None), ("e1", None), ("e1", "h1")]


def test_a_sweep_is_kept_once_and_predictions_by_content(tmp_path):
    assert history.append(tmp_path, entry()) and history.append(tmp_path, entry(settings={"a": 1})) is None
    assert len(history.paths(tmp_path)) == 1
    kept = sorted((tmp_path / "predictions").iterdir())
    assert len(kept) == 2  # the images, and one set of predictions for two rows
    assert history.append(tmp_path, entry(60.0)) and sorted((tmp_path / "predictions").iterdir()) == kept
    history.append(tmp_path, entry(70.0, shift=1))
    assert len(list((tmp_path / "predictions").iterdir())) == 3


def test_predictions_of_imagenets_size_are_compact(tmp_path):
    images = tuple(f"val/n{number % 1000:08d}/ILSVRC2012_val_{number:08d}.JPEG" for number in range(50_000))
    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, 50_000)
    row = entry().rows[0]
    rows = []
    for number in range(3):
        predicted = np.where(random.random(50_000) < 0.2, random.integers(0, 1000, 50_000), labels)
        found = Predictions(images, labels, predicted)
        key = row.key._replace(batch=number)
        rows.append(Row("accuracy", key, row.figures, f"r{number}", predictions=lambda found=found: found))
    history.append(tmp_path, Entry("", tuple(rows), {}, {}))
    sizes = sorted(path.stat().st_size for path in (tmp_path / "predictions").iterdir())
    assert sizes[2] < 150_000 and sizes[3] < 600_000


def test_secrets_of_urls_are_not_kept(tmp_path):
    settings = {"models": {"a": {"checkpoint": {"source": "https://me:secret@host:8/a/b.pth?token=secret#x"}}}}
    path = history.append(tmp_path, entry(settings=settings))
    assert "secret" not in path.read_text()
    assert history.read(path).settings["models"]["a"]["checkpoint"]["source"] == "https://host:8/a/b.pth"


def _append(folder, rate):
    history.append(folder, entry(rate, shift=int(rate) % 3))


def test_sweeps_that_end_together_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_append, args=(tmp_path, 50.0 + number // 2)) for number in range(12)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
    assert sorted(one.rows[2].rates[0] for one in history.read_all(tmp_path)) == [50.0, 51.0, 52.0, 53.0, 54.0, 55.0]


def test_a_kill_leaves_no_half_entry(tmp_path, monkeypatch):
    """At whatever rename the process ends: what is there can be read, and the next run adds the entry."""
    import os

    real, left = os.replace, 0

    def dying(source, target):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", dying)
    for number in range(4):
        left = number
        folder = tmp_path / str(number)
        if number < 3:
            with pytest.raises(KeyboardInterrupt):
                history.append(folder, entry())
            assert history.read_all(folder) == []
        left = 100
        history.append(folder, entry())
        (found,) = history.read_all(folder)
        assert (found.rows[0].predictions().predicted == LABELS).all()


def tampered(path, change):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    head = {name: value for name, value in lines[0].items() if name != "seal"}
    head["rows"] = len(lines) - 1
    head["seal"] = identity.digest([head, lines[1:]])
    path.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines[1:])))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda lines: lines[0].update(format="other"), "first line"),
        (lambda lines: lines[0].update(id="0" * 64), "its id is not"),
        (lambda lines: lines[0].update(hosts=[1]), "no hosts"),
        (lambda lines: lines[1].update(table="../x"), "no row of accuracy"),
        (lambda lines: lines[1].update(predictions="../../etc/passwd"), "64 hexadecimal digits"),
        (lambda lines: lines[1]["figures"].update(top1="high"), "top1 is 'high', a number"),
        (lambda lines: lines[3].update(rates=[1, -1]), "rates"),
        (lambda lines: lines[3].update(rates=[True]), "rates"),
        (lambda lines: lines[1]["key"].update(model=7), "what it is about"),
        (lambda lines: lines.append(lines[1]), "two rows"),
    ],
)
def test_an_entry_of_others_is_checked_though_its_seal_holds(tmp_path, change, named):
    path = history.append(tmp_path, entry())
    tampered(path, change)
    with pytest.raises(UserError, match=named) as error:
        history.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda text: text[:-20], "not JSON"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "seal is broken"),
        (lambda text: text.replace("50.0", "51.0"), "seal is broken"),
        (lambda text: "", "empty"),
        (lambda text: "[" * 100_000, "not JSON"),
        (lambda text: '{"a": ' * 200 + "1" + "}" * 200, "nested"),
        (lambda text: '{"a": NaN}', "not JSON"),
    ],
)
def test_a_damaged_entry_is_named_and_left_out(tmp_path, capsys, content, named):
    path = history.append(tmp_path, entry())
    history.append(tmp_path, entry(60.0))
    path.write_text(content(path.read_text()))
    with pytest.raises(UserError, match=named):
        history.read(path)
    assert [one.rows[2].rates[0] for one in history.read_all(tmp_path)] == [60.0]
    assert str(path) in capsys.readouterr().err


def test_damaged_predictions_are_noticed_and_made_again(tmp_path):
    path = history.append(tmp_path, entry())
    for kept in (tmp_path / "predictions").iterdir():
        kept.write_bytes(kept.read_bytes()[:-3])
    with pytest.raises(UserError, match="is damaged"):
        history.read(path).rows[0].predictions()
    history.append(tmp_path, entry(60.0))
    assert history.read(path).rows[0].predictions().images == IMAGES


def test_a_bomb_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "_MAX_PREDICTIONS_BYTES", 1 << 16)
    path = history.append(tmp_path, entry())
    for kept in (tmp_path / "predictions").iterdir():
        kept.write_bytes(zlib.compress(b" " * (10 << 20)))
    with pytest.raises(UserError, match="too large"):
        history.read(path).rows[0].predictions()


def test_entries_can_be_copied_without_their_predictions(tmp_path):
    path = history.append(tmp_path / "a", entry())
    shutil.copy2(path, tmp_path)
    found = history.read(tmp_path / path.name)
    with pytest.raises(UserError, match="copy the folder predictions"):
        found.rows[0].predictions()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "history").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        history.append(tmp_path / "history", entry())
    assert (tmp_path / "history").read_text() == "mine"


def test_the_one_before_is_the_latest_earlier_one_of_the_same_host(tmp_path):
    hosts = {"h2": {"host": {"processor": "y"}}}

    def elsewhere(one):
        rows = [row if row.host is None else Row(**{**vars(row), "host": "h2"}) for row in one.rows]
        return Entry(one.name, tuple(rows), one.starts, hosts, None, one.ended_at)

    first, second = entry(50.0, when="2026-01-01T00:00:00+00:00"), entry(51.0, when="2026-01-02T00:00:00+00:00")
    third = elsewhere(entry(52.0, when="2026-01-03T00:00:00+00:00"))
    now = entry(53.0, when="2026-01-04T00:00:00+00:00")
    later = entry(54.0, when="2026-01-05T00:00:00+00:00")
    assert history.before(now, [first, second, third, now, later]) is second
    assert history.before(now, [third, now]) is third
    assert history.before(now, [now, later]) is None
    for one in (first, second):
        history.append(tmp_path, one)
    assert history.choose(tmp_path).id == second.id
    assert history.choose(tmp_path, [second.id]).id == first.id
    with pytest.raises(UserError, match="no entry"):
        history.choose(Path(tmp_path / "none"))
