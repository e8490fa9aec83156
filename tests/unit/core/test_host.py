"""What a host says about itself, read from made-up trees of /proc and /sys."""

import os

import pytest

from smlp.core import cli, host

CPUINFO = """processor\t: 0
model name\t: Testor 9000
microcode\t: 0x2b
flags\t\t: fpu smep avx2 avx512_vnni sse4_1{}

processor\t: 1
flags\t\t: other avx
"""
UNIFIED = "38 24 0:34 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def tree(tmp_path):
    """tree({path: text}): the root of a made-up system."""

    def make(contents):
        for name, text in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_facts_of_bare_metal(tree):
    governors = {f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor": "powersave\n" for number in (0, 1)}
    assert host.facts(tree({"proc/cpuinfo": CPUINFO.format(""), **governors})) == {
        "processor": "Testor 9000",
        "features": ["avx2", "avx512_vnni", "sse4_1"],
        "virtualisation": "none",
        "microcode": "0x2b",
        "governor": "powersave",
    }


@pytest.mark.parametrize(
    ("told", "virtualisation"),
    [
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "pc-1\n"}, "QEMU pc-1"),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({}, "some hypervisor"),
    ],
)
def test_a_virtual_machine_says_so(tree, told, virtualisation):
    root = tree({"proc/cpuinfo": CPUINFO.format(" hypervisor"), **told})
    assert host.facts(root)["virtualisation"] == virtualisation


def test_a_host_that_tells_nothing_is_no_error(tmp_path):
    found = {**host.facts(tmp_path), **host.memory(tmp_path)}
    assert found.pop("processor") and found.pop("features") == []
    assert set(found.values()) == {None}
    assert host.processors(tmp_path) == {"affinity": len(os.sched_getaffinity(0)), "quota": None}


def test_memory_policy(tree):
    root = tree(
        {
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            "proc/self/status": "Name:\tx\nMems_allowed:\t3\nMems_allowed_list:\t0-1\n",
            "proc/self/numa_maps": "55e8fb07f000 interleave:0-1 file=/bin/x\n7ff default\n",
        }
    )
    assert host.memory(root) == {
        "transparent_huge_pages": "madvise",
        "numa_nodes": "0-1",
        "numa_policy": "interleave:0-1",
    }


@pytest.mark.parametrize(
    ("contents", "quota"),
    [
        # version 2: of a group and the one that it is nested in the smaller counts
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"}, 4.0),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            },
            1.5,
        ),
        # a container whose own group is the top
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "nonsense\n"}, None),
    ],
)
def test_quota_of_cgroup_version_2(tree, contents, quota):
    assert host.processors(tree({"proc/self/mountinfo": UNIFIED, **contents}))["quota"] == quota


@pytest.mark.parametrize(
    ("top", "group", "place"), [("/", "/slurm/job_1", "slurm/job_1/"), ("/docker/a", "/docker/a", "")]
)
def test_quota_of_cgroup_version_1(tree, top, group, place):
    folder = f"sys/fs/cgroup/cpu,cpuacct/{place}"
    root = tree(
        {
            "proc/self/mountinfo": f"33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
            "proc/self/cgroup": f"3:cpuset:/\n2:cpu,cpuacct:{group}\n1:name=systemd:/\n",
            f"{folder}cpu.cfs_quota_us": "300000\n",
            f"{folder}cpu.cfs_period_us": "100000\n",
        }
    )
    assert host.processors(root)["quota"] == 3.0


@pytest.mark.parametrize(("maximum", "usable"), [("max 100000", 8), ("150000 100000", 1), ("20000 100000", 1)])
def test_usable_processors_are_those_of_affinity_and_quota(tree, monkeypatch, maximum, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    root = tree({"proc/self/mountinfo": UNIFIED, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": maximum})
    assert host.usable_processors(root) == usable


def test_workers_are_cut_to_the_quota(monkeypatch):
    monkeypatch.setattr(host, "_quota", lambda root: 1.0)
    assert cli.default_workers() == 1


# the state of the processors

FREQUENCY = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
MHZ = CPUINFO.replace("\nflags", "\ncpu MHz\t\t: 2900.500\nflags")


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


def test_a_host_tells_the_clock_and_temperature_of_its_processors(tree, two_processors):
    root = tree(
        {
            FREQUENCY.format(0): "3000000\n",
            FREQUENCY.format(1): "2000000\n",
            FREQUENCY.format(2): "9000000\n",  # not of this process
            "sys/class/hwmon/hwmon0/name": "nvme\n",
            "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
            "sys/class/hwmon/hwmon1/name": "coretemp\n",
            "sys/class/hwmon/hwmon1/temp1_input": "61500\n",
            "sys/class/hwmon/hwmon1/temp2_input": "64000\n",
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone0/temp": "63000\n",
        }
    )
    assert host.telemetry(root) == {"temperature_c": 64.0, "clock_mhz": 2500.0}


def test_without_a_frequency_driver_cpuinfo_tells_the_clock_but_not_of_a_virtual_machine(tree, two_processors):
    assert host.telemetry(tree({"proc/cpuinfo": MHZ.format("")})) == {"temperature_c": None, "clock_mhz": 2900.5}
    assert host.telemetry(tree({"proc/cpuinfo": MHZ.format(" hypervisor")})) == {}


@pytest.mark.parametrize("text", ["", "<unknown>\n", "-\n", "9" * 40, "1e9\n"])
def test_what_is_no_number_is_not_told(tree, two_processors, text):
    root = tree(
        {
            FREQUENCY.format(0): text,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": text,
        }
    )
    assert host.telemetry(root) == {}


def test_of_many_processors_some_tell_the_clock(tree, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(256)))
    read = []
    monkeypatch.setattr(host, "text", lambda path: read.append(path))
    assert host._clock_mhz(tree({})) is None
    assert len([path for path in read if path.name == "scaling_cur_freq"]) <= 16
