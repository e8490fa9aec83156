"""The rules know no backend but by its one `use rule`, which makes the files that the backend declares."""

import re
from pathlib import Path

import pytest

from smlp import backends
from smlp.workflow import plan

ROOT = Path(__file__).parents[3]
RULES = ROOT / "rules"
BLOCKS = {
    match[1]: match[2]
    for match in re.finditer(
        r"^use rule compile_engine as compile_(\w+) with:\n((?:    .*\n|\n(?=    ))+)",
        (RULES / "compile.smk").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}


def test_every_stage_has_a_rule_file_and_a_command():
    assert {path.stem for path in RULES.glob("*.smk")} == {*plan.STAGES, "common"}
    # scripts/profile.py would take the place of the standard library's module of that name
    commands = {"profile": "profile_engine"}
    assert all((ROOT / "scripts" / f"{commands.get(stage, stage)}.py").is_file() for stage in plan.STAGES)


def test_every_backend_that_compiles_has_its_rule():
    assert sorted(BLOCKS) == [backend.name for backend in backends.every() if backend.compiles_from]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_rule_makes_the_files_that_its_backend_declares(name):
    backend = backends.load(name)
    made = re.findall(r'^        \w+="(results/.*)",$', BLOCKS[name], re.MULTILINE)
    place = "results/compile/{model}/{backend}/{precision}{variant}/bs{batch}"
    assert made == [place + suffix for suffix in (backend.suffix, *backend.companions, ".json")]
    assert f'    wildcard_constraints:\n        backend="{name}",\n' in BLOCKS[name]
    counted = set(re.findall(r'(\w+)=counted\("(\w+)"\)', BLOCKS[name]))
    assert counted <= {(kind.resource, kind.resource) for kind in backend.devices}


@pytest.mark.parametrize("stage", ["compile", "infer", "measure", "profile"])
def test_what_makes_or_runs_engines_gets_the_variables_that_the_settings_ask_for(stage):
    text = (RULES / f"{stage}.smk").read_text(encoding="utf-8")
    assert "        environment=of_backend(hosts.environment),\n" in text
    assert '        " {params.environment:q}"\n' in text


def test_nothing_else_of_the_workflow_names_a_backend():
    files = [ROOT / "Snakefile", *RULES.iterdir(), *(ROOT / "scripts/smlp/workflow").glob("*.py")]
    names = "|".join(backends.names())
    found = []
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            of_its_rule = path.name == "compile.smk" and re.search(rf'compile_({names}) with:|^ +backend="', line)
            if re.search(rf"""["'.]({names})["'.]|\b({names}):""", line) and not of_its_rule:
                found.append(f"{path.name}: {line.strip()}")
    # distributions and environments that are called like a backend
    assert [line for line in found if "versions([" not in line and "envs/pytorch.yaml" not in line] == []


def test_the_shared_rules_file_is_short():
    assert len((RULES / "common.smk").read_text(encoding="utf-8").splitlines()) <= 80


def test_a_rule_that_takes_a_file_from_outside_knows_its_content():
    """Times of such inputs mean nothing, so that without a digest among the parameters no change would be seen."""
    rules = [rule for path in RULES.glob("*.smk") for rule in path.read_text(encoding="utf-8").split("\nrule ")[1:]]
    outside = re.compile(r"ancient\((?!of_cell\(sweep\.source_sidecar\)).*sweep\.\w+")
    found = [rule for rule in rules if outside.search(rule)]
    assert len(found) == 7
    assert [rule.partition(":")[0] for rule in found if "contents." not in rule.partition("params:")[2]] == []
