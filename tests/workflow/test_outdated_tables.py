"""Tables that are out of date never stand where current ones do: after a failure, a kill, a partial target."""

from test_caching import setting


def tables(project):
    """Which of both folders there are."""
    return sorted(path.name for path in (project.folder / "results").glob("tables*"))


def margin(project, points):
    setting("accuracy", "margin_points", points)(project)


def test_old_tables_never_look_current(demo_sweep):
    project = demo_sweep
    published = project.folder / "resources" / "published.csv"
    right, old = published.read_text(), (project.folder / "results/tables/accuracy.csv").read_text()

    margin(project, 2.5)
    assert project.planned() and tables(project) == ["tables"]
    published.write_text("nothing\n")
    failed = project.snakemake(*project.where)
    assert failed.returncode == 1
    assert "results/tables: now in results/tables.outdated" in failed.stdout
    assert "results/tables.outdated: has the tables of before" in failed.stdout
    assert tables(project) == ["tables.outdated"]
    assert (project.folder / "results/tables.outdated/accuracy.csv").read_text() == old

    published.write_text(right)
    project.sweep()
    assert tables(project) == ["tables"] and project.planned() == {}
    assert (project.folder / "results/tables/accuracy.csv").read_text() != old

    margin(project, 3)
    held = project.hold(project.folder / "results/evaluate/tiny/onnxruntime/fp32/digits/bs4.json")
    assert tables(project) == ["tables.outdated"]
    held.kill()
    assert project.snakemake("--unlock").returncode == 0
    assert tables(project) == ["tables.outdated"]

    assert "results/tables.outdated: has the tables of before" in project.sweep("evaluate")
    assert tables(project) == ["tables.outdated"]
    project.sweep()
    assert tables(project) == ["tables"]

    margin(project, 4)
    project.sweep("--touch")
    assert tables(project) == ["tables"]
