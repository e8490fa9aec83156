"""What npu-smi and the version files of CANN say, read from texts of real hosts."""

import pytest

from smlp.backends.ascend import cann, npu_smi
from smlp.core.cli import UserError

NEW_310P = """
+--------------------------------------------------------------------------------------------------------+
| npu-smi 25.3.rc1                                 Version: 25.3.rc1                                     |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 6       310P3                 | OK              | NA           50                0     / 0             |
| 0       0                     | 0000:84:00.0    | 0            1839 / 21525                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| No running processes found in NPU 6                                                                    |
+===============================+=================+======================================================+
"""
OLD_310P = """
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 64      310P3     | Alarm           | 16.1         44                0    / 0              |
| 0       1         | NA              | 3            NA / 21534                              |
+===================+=================+======================================================+
"""
WITH_HBM = """
| npu-smi 23.0.rc3.3               Version: 23.0.rc3.3                                           |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 1     910B3               | OK            | 133.9       43                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3400 / 65536         |
| 10    910B3               | OK            | 90.1        41                0    / 0             |
| 0                         | 0000:C2:00.0  | 97          0    / 0          60478/ 65536         |
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
| No running processes found in NPU 1                                                            |
| 10      0                 | 1333928       |                          | 37709                   |
"""
MAPPING = """
\tNPU ID                        Chip ID                       Chip Logic ID                 Chip Name
\t1                             0                             3                             Ascend 910B3
\t1                             1                             -                             Mcu
\t10                            0                             0                             Ascend 910B3
"""


def test_table_of_a_new_310p():
    table = npu_smi.parse_table(NEW_310P)
    assert (table.tool_version, table.driver_version) == ("25.3.rc1", "25.3.rc1")
    (chip,) = table.chips
    assert (chip.npu_id, chip.device) == (6, 0)  # never the same number
    assert (chip.name, chip.health, chip.power_w, chip.temperature_c) == ("310P3", "OK", None, 50)
    assert (chip.memory_used_mb, chip.memory_total_mb, chip.processes) == (1839, 21525, [])


def test_table_without_header_and_processes():
    table = npu_smi.parse_table(OLD_310P)
    assert table.tool_version is None
    first, second = table.chips
    assert (first.power_w, first.processes) == (15.8, None)  # None: unknown, which is not idle
    assert (second.npu_id, second.device, second.health, second.aicore_percent) == (64, 1, "Alarm", 3)
    assert (second.memory_used_mb, second.memory_total_mb) == (None, 21534)


def test_table_with_hbm():
    free, busy = npu_smi.parse_table(WITH_HBM, npu_smi.parse_mapping(MAPPING)).chips
    assert (free.npu_id, free.device, free.processes) == (1, 3, [])
    assert (busy.npu_id, busy.device, busy.memory_used_mb) == (10, 0, 60478)
    assert busy.processes == [npu_smi.Process(1333928, "", 37709)]  # and NPU 1 is not taken for NPU 10


@pytest.mark.parametrize("text", ["", "There is no NPU card on this server.", "| 1 |", "| 0 | | |\n| 0 0 | 1:2 | x |"])
def test_table_of_nothing(text):
    assert npu_smi.parse_table(text).chips == []


def test_fields_and_processes():
    assert npu_smi.parse_fields("\tNPU ID                         : 0\n\nChip Name : mcu\n")["Chip Name"] == "mcu"
    line = "\tProcess id:395864  Process name:power_test        Process memory(MB):5118\n"
    assert npu_smi.parse_proc_mem(line) == [npu_smi.Process(395864, "power_test", 5118)]
    assert npu_smi.parse_proc_mem("\tNo process in device.\n") == []
    assert npu_smi.parse_proc_mem("This device does not support querying proc-mem.") is None


COMMON = """
\tNPU ID                         : 0
\tChip Count                     : 2

\tChip ID                        : 0
\tAicore Freq(MHZ)               : 900
\tAicore curFreq(MHZ)            : 900
\tTemperature(C)                 : 41

\tChip ID                        : 1
\tAicore curFreq(MHZ)            : 760

\tChip Name                      : MCU
\tTemperature(C)                 : 38
\tNPU Real-time Power(W)         : 71.7
"""


def test_common_facts_are_those_of_each_chip():
    found = npu_smi.parse_common(COMMON)
    assert [found[chip].get("Aicore curFreq(MHZ)") for chip in ("0", "1", "mcu")] == ["900", "760", None]
    assert found["mcu"]["NPU Real-time Power(W)"] == "71.7" and found["0"]["Temperature(C)"] == "41"
    assert npu_smi.parse_common("This device does not support querying common.") == {}


@pytest.mark.parametrize(
    "files, version",
    [
        ({f"{cann.platform.machine()}-linux/ascend_toolkit_install.info": "version=5.1.RC2\n"}, "5.1.RC2"),
        ({"version.cfg": "# version: 1.0\nruntime_running_version=[1.84.15.1.310:6.0.1]\n"}, "6.0.1"),
        ({"ascend_nnrt_install.info": "package_name=x\nversion=9.2.0-beta.2\n"}, "9.2.0-beta.2"),
        ({}, "8.0.T63"),
    ],
)
def test_cann_version(tmp_path, files, version):
    home = tmp_path / "8.0.T63"
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    assert cann.version_of(home) == version


@pytest.mark.parametrize("version, opset", [("5.1.RC2", 13), ("6.0.RC1", 13), ("7.0.0", 18), ("9.2.0-beta.2", 18)])
def test_newest_opset(version, opset):
    assert cann.newest_opset(version) == opset


def test_version_info(tmp_path):
    (tmp_path / "version.info").write_text("Version=24.1.rc1\nascendhal_version=7.35.19\n")
    assert cann.version_info(tmp_path / "version.info") == "24.1.rc1"
    assert cann.version_info(tmp_path / "none") is None


def test_visible_devices_renumber(monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3,1")
    assert [npu_smi.physical(device) for device in (0, 1, 2)] == [3, 1, 2]


def test_without_cann(monkeypatch, tmp_path):
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install the package Ascend-cann-toolkit .*source .*set_env.sh"):
        cann.require()
    monkeypatch.setattr(npu_smi, "_PLACES", ())
    with pytest.raises(UserError, match="npu-smi is not there: install Ascend driver"):
        npu_smi.table()


def test_cann_that_is_not_set_up(monkeypatch, tmp_path):
    script = tmp_path / "ascend-toolkit" / "set_env.sh"
    script.parent.mkdir()
    script.write_text("")
    assert cann.installed(tmp_path)[0] == script
