"""What Snakemake makes of the profiles. tests/workflow/test_slurm.py runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PROFILES = {
    "slurm": ["profiles/slurm"],
    "slurm-npu": ["profiles/slurm", "profiles/slurm-npu"],
    "cluster-generic": ["profiles/cluster-generic"],
}


@pytest.mark.parametrize("name", PROFILES)
def test_the_settings_of_the_default_profile_hold_too(name):
    code = "import json, sys; from snakemake import cli; _, flags = cli.parse_args(sys.argv[1:])"
    code += "; print(json.dumps(vars(flags), default=str))"
    words = [word for profile in PROFILES[name] for word in ("--profile", profile)]
    # a process of its own, because a command here is called like a module that Snakemake needs
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    flags = json.loads(done.stdout)
    assert flags["show_failed_logs"] and flags["rerun_incomplete"] and flags["keep_going"]
    assert flags["max_checksum_file_size"] > 10**10
    assert flags["executor"] == ("cluster-generic" if name == "cluster-generic" else "slurm")
    assert flags["retries"] == 2 and flags["cores"] is None


def test_no_rule_retries_by_itself():
    """It would at every level of a batch job, without more memory."""
    assert not [path.name for path in ROOT.glob("rules/*.smk") if "retries" in path.read_text()]


def test_rules_that_profiles_name_are_there():
    text = "".join(path.read_text() for path in ROOT.glob("rules/*.smk"))
    for path in ROOT.glob("profiles/*/config.yaml"):
        for rule in yaml.safe_load(path.read_text()).get("set-resources", {}):
            assert f"\nrule {rule}:\n" in text, (path, rule)


@pytest.mark.parametrize(
    ("squeue", "scontrol", "state"),
    [
        ("COMPLETED", "", "success"),
        ("PENDING", "", "running"),
        ("PREEMPTED", "", "running"),
        ("TIMEOUT", "", "failed"),
        ("OUT_OF_MEMORY", "", "failed"),
        ("", "Slurmctld(primary) at there is UP", "failed"),
        ("", "Slurmctld(primary) at there is DOWN", "running"),
    ],
)
def test_states_of_jobs(tmp_path, squeue, scontrol, state):
    for name, said in (("squeue", squeue), ("scontrol", scontrol)):
        (tmp_path / name).write_text(f"#!/bin/sh\n[ -z '{said}' ] || echo '{said}'\n")
        (tmp_path / name).chmod(0o755)
    script = ROOT / "profiles/cluster-generic/status.sh"
    done = subprocess.run([script, "7"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{state}\n", "")
