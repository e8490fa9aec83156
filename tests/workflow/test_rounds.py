"""Loads of engines go in rounds, and yet none of them depends on another one."""

import re


def test_every_engine_is_loaded_once_before_one_is_loaded_twice(new_project, small):
    measure = {**small["measure"], "loads": 2, "sustained_s": 0.01}
    project = new_project({**small, "measure": measure})
    output = project.sweep()
    order = ["load 0", "load 0", "load 1", "load 1", "sustained load", "sustained load"]
    assert re.findall(r"(?:: measure \w+ fp32, batch 1, |: )(load \d|sustained load)", output) == order

    # what concerns one engine must not hide what concerns all of them
    with open(project.folder / "scripts/smlp/backends/onnxruntime.py", "a") as code:
        code.write("\nADDED = 1\n")
    for change, loads in (({"min_runs": 4}, 4), ({"min_runs": 4, "loads": 3}, 6), ({"loads": 3}, 4)):
        project.configure({**project.settings, "measure": {**measure, **change}})
        planned = project.planned()
        assert (planned["measure_load"], planned["measure_engine"]) == (loads, 2)
