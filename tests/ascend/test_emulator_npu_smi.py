"""The emulator's npu-smi against its contract. A comment at each test names file and section.

Tests and emulator are written from the same contracts: what these tests hold true is the contract, not an NPU.
"""

from __future__ import annotations

import re

import pytest
from emulated import load_script

ROW_1 = re.compile(
    r"^\|\s*(\d+)\s+([A-Za-z0-9_]+)\s*\|\s*(\w+)\s*\|\s*(NA|-|[\d.]+)\s+(-?\d+|NA)\s+(\S+)\s*/\s*(\S+)\s*\|", re.M
)
ROW_2 = re.compile(
    r"^\|\s*(\d+)(?:\s+(\d+))?\s*\|\s*([0-9A-Fa-f:.]+|NA)\s*\|\s*(\d+)\s+(\S+)\s*/\s*(\d+)(?:\s+(\d+)\s*/\s*(\d+))?\s*\|",
    re.M,
)


@pytest.fixture
def smi(monkeypatch, capsys):
    """Call npu-smi on the emulated host `variant`. Returns exit status and stdout."""

    def call(variant, *words):
        monkeypatch.setenv("SMLP_EMULATOR_NPU_SMI", variant)
        status = load_script("npu-smi").main(list(words))
        out, err = capsys.readouterr()
        assert err == ""
        return status, out

    return call


@pytest.mark.parametrize(
    "variant, version, cards, health, devices, processes",
    [
        ("310P3-old", "22.0.3", [("0", "310P3")], "OK", ["0"], None),
        ("310P3-new", "25.3.rc1", [("6", "310P3")], "OK", ["0"], []),
        ("310P3-busy", "25.3.rc1", [("6", "310P3")], "OK", ["0"], [("6", "395864", "power_test", "5118")]),
        ("310P3-alarm", "25.3.rc1", [("6", "310P3")], "Alarm", ["0"], []),
        (
            "310P3-two",
            "25.3.rc1",
            [("1", "310P3"), ("10", "310P3")],
            "OK",
            ["0", "1"],
            [("10", "1333928", "", "999")],
        ),
        ("910B3", "23.0.rc3.3", [("0", "910B3")], "OK", [""], []),
        ("a3", "25.3.rc1", [("0", "Ascend910"), ("0", "Ascend910")], "OK", ["0", "1"], []),
    ],
)
def test_npu_smi_info(smi, variant, version, cards, health, devices, processes):  # npu_smi.md 1.1 to 1.3
    status, text = smi(variant, "info")
    assert status == 0 and len({len(line) for line in text.splitlines()}) == 1
    assert re.search(r"npu-smi\s+(\S+)\s+Version:\s+(\S+)", text).groups() == (version, version)
    rows = [row for row in ROW_1.findall(text) if ":" not in row[2] and not row[2].isdigit()]
    assert [row[:2] for row in rows] == cards and {row[2] for row in rows} == {health}
    assert [row[1] for row in ROW_2.findall(text) if ":" in row[2]] == devices
    assert (rows[0][3] == "NA") == (variant.startswith("310P3") and variant != "310P3-old")
    if variant == "a3":
        assert rows[1][3] == "-"
    found = re.findall(r"^\|\s*(\d+)\s+\d+\s*\|\s*(\d+)\s*\|\s*(.*?)\s*\|\s*(\d+)\s*\|", text, re.M)
    assert found == (processes or [])
    idle = set(re.findall(r"No running processes found in NPU (\d+)", text))
    assert idle == (set() if processes is None else {card for card, _ in cards} - {row[0] for row in processes})


def test_npu_smi_queries(smi):  # npu_smi.md 2
    def fields(*words):
        status, text = smi("310P3-busy", "info", *words)
        assert status == 0
        return [tuple(part.strip() for part in line.split(":", 1)) for line in text.splitlines() if " : " in line]

    assert fields("-l") == [("Total Count", "1"), ("NPU ID", "6"), ("Chip Count", "1")]
    assert smi("310P3-busy", "info", "-m")[1].splitlines()[1].split() == ["6", "0", "0", "Ascend", "310P3"]
    assert ("Software Version", "25.3.rc1") in fields("-t", "board", "-i", "6")
    assert ("Chip Name", "310P3") in fields("-t", "board", "-i", "6", "-c", "0")
    assert ("Health", "OK") in fields("-t", "health", "-i", "6")
    assert ("DDR Capacity(MB)", "21534") in fields("-t", "usages", "-i", "6")
    for kind, label in (("common", "NPU Real-time Power(W)"), ("power", "Power Dissipation(W)")):
        assert 15.8 <= float(dict(fields("-t", kind, "-i", "6"))[label]) <= 19.3
    text = smi("310P3-busy", "info", "-t", "power", "-i", "6")[1]
    assert re.search(r"^\tPower Dissipation\(W\) {11}: \d", text, re.M)  # label padded to 30
    assert (
        "\tProcess id:395864  Process name:power_test        Process memory(MB):5118\n"
        in smi("310P3-busy", "info", "-t", "proc-mem", "-i", "6")[1]
    )
    assert "\tNo process in device.\n" in smi("310P3-new", "info", "-t", "proc-mem", "-i", "6")[1]


@pytest.mark.parametrize(
    "variant, words, status, text",
    [
        ("310P3-old", [], 215, "Usage"),
        ("310P3-old", ["inform"], 211, "Command or option is not found."),
        ("used-8020", ["info"], 172, "dcmi model initialized failed, because the device is used. ret is -8020\n"),
        ("driver-8005", ["info"], 187, "dcmi module initialize failed. ret is -8005\n"),
        ("310P3-old", ["info", "-t", "power", "-i", "0", "-c", "0"], 193, "does not support"),
        ("310P3-old", ["-v"], 0, "npu-smi version: 22.0.3\n"),
    ],
)
def test_npu_smi_status(smi, variant, words, status, text):  # npu_smi.md 3
    got, out = smi(variant, *words)
    assert got == status and text in out


def test_npu_smi_as_a_command(host):  # npu_smi.md 3
    done = host.run("npu-smi", "info", npu_smi="used-8020", sourced=False)
    assert done.returncode == 172 and done.stdout.startswith("dcmi model initialized failed")
