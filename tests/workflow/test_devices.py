"""Two sweeps on one device take turns, and who waits says for whom."""

import json
import re
import shutil

PLAIN_PYTHON = True  # see new_project


def uses(project):
    """(path, taken, released) of every use of a device, in the order of time."""
    found = []
    for pattern in ("measure/**/load-*.json", "infer/**/*_summary.json"):
        for path in (project.folder / "results").glob(pattern):
            facts = json.loads(path.read_text())["smlp"]
            assert facts["device"] == "cpu" and facts["device_taken_at"] < facts["device_released_at"]
            found.append((path, facts["device_taken_at"], facts["device_released_at"]))
    return sorted(found, key=lambda use: use[1])


def test_two_sweeps_at_once_do_not_measure_while_the_other_runs(new_project, small):
    first = new_project(small)
    first.sweep("compile", "preprocess")
    second = new_project(first)
    shutil.rmtree(second.folder / "results" / "preprocess")
    for project in (first, second):
        project.environment["SMLP_LOCK_DIR"] = str(first.temporary)

    # the first one is measuring: it opens its images when the device is its own
    measuring = first.hold_opening("results/preprocess/digits/test_resnet/shard-0/manifest.csv", "measure")
    holder = re.match(r"process \d+ of user \d+ ", (first.temporary / "smlp-sweep-cpu.lock").read_text())[0]
    # not only engines use the machine: its bins are yet to be made
    waiting = second.hold_opening("lock", "infer", "measure")
    assert uses(second) == []
    logs = "".join(path.read_text() for path in (second.folder / "results/logs/preprocess").rglob("*.log"))
    assert re.findall(
        r"waiting for device cpu, used by (process \d+ of user \d+ )since .* scripts/measure\.py", logs
    ) == [holder]
    waiting.go()
    measuring.go()
    for status, said in (measuring.wait(), waiting.wait()):
        assert status == 0, said

    mine, theirs = uses(first), uses(second)
    assert (len(mine), len(theirs)) == (2, 4)
    both = sorted(mine + theirs, key=lambda use: use[1])
    overlapping = [(one, other) for one in both for other in both if one[1] < other[1] < one[2]]
    assert not [pair for pair in overlapping if any("measure" in use[0].parts for use in pair)]
