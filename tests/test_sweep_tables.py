"""Tables of runs: CSV and YAML agree, names of runs last, every mistake is found at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st
from sweep_runs import write_tiny

from genot_runner.parameters import SweepTableError, notebook_parameters
from genot_runner.sweep_tables import read_sweep, run_id


@pytest.fixture
def folder(tmp_path):
    write_tiny(tmp_path / "01_tiny.ipynb")
    return tmp_path


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder, name, text):
    with pytest.raises(SweepTableError) as caught:
        read_sweep(write(folder, name, text))
    return str(caught.value)


CSV = """\
notebook,section,seed,n_domains,rate,names,memory_mb
01_tiny.ipynb,151674,0,5,,,
01_tiny.ipynb,151674,1,,auto,"['x', 'y']",800

01_tiny.ipynb,a b,1,7.0,1,,
"""
YAML = """\
- {notebook: 01_tiny.ipynb, section: 151674, seed: 0, n_domains: 5}
- {notebook: 01_tiny.ipynb, section: "151674", seed: 1, rate: auto, names: [x, y], memory_mb: 800}
- {notebook: 01_tiny.ipynb, section: a b, seed: 1, n_domains: 7, rate: 1.0}
"""


def test_csv_and_yaml_mean_the_same(folder):
    from_csv = read_sweep(write(folder, "t.csv", CSV))
    from_yaml = read_sweep(write(folder, "t.yaml", YAML))
    assert [run.id for run in from_csv] == [run.id for run in from_yaml]
    assert from_csv[0].parameters == {"section": "151674", "seed": 0, "n_domains": 5}
    assert from_csv[1].parameters["names"] == from_yaml[1].parameters["names"] == ["x", "y"]
    assert from_csv[1].parameters["rate"] == "auto"  # the notebook's comment allows it
    assert type(from_csv[2].parameters["n_domains"]) is int
    assert [run.row for run in from_csv] == ["row 2", "row 3", "row 5"]  # as a spreadsheet counts
    assert from_csv[1].limits == from_yaml[1].limits == {"memory_mb": 800}
    semicolons = write(folder, "excel.csv", "\ufeff" + CSV.replace(",", ";").replace("';", "',"))
    assert [run.id for run in read_sweep(semicolons)] == [run.id for run in from_csv]


def test_a_grid_combines_its_lists(folder):
    text = "grid:\n  notebook: 01_tiny.ipynb\n  section: [a, 151674]\n  seed: [0, 1, 2]\n"
    text += "  names: [[x], [y, z]]\nruns:\n- {notebook: 01_tiny.ipynb, fail: error}\n"
    runs = read_sweep(write(folder, "t.yml", text))
    assert len(runs) == 1 + 2 * 3 * 2
    assert runs[0].row == "run 1"
    assert runs[1].row == "grid combination 1"
    assert {tuple(run.parameters["names"]) for run in runs[1:]} == {("x",), ("y", "z")}


def test_names_of_runs_are_readable_and_stay_when_a_table_grows(folder):
    first = read_sweep(write(folder, "t.csv", "notebook,seed\n01_tiny.ipynb,3\n"))
    grown = "notebook,wait,n_domains,seed\n01_tiny.ipynb,,7,3\n01_tiny.ipynb,0,8,3\n"
    second = read_sweep(write(folder, "t.csv", grown))
    assert first[0].id == second[0].id  # a default that is written out is the same run
    assert first[0].id.startswith("01-a-seed3-")
    assert len({run.id for run in second}) == 2


@settings(max_examples=50, deadline=None)
@given(
    one=st.fixed_dictionaries({"section": st.text(max_size=30), "seed": st.integers()}),
    other=st.fixed_dictionaries({"section": st.text(max_size=30), "seed": st.integers()}),
)
def test_same_name_means_same_values(tmp_path_factory, one, other):
    path = tmp_path_factory.getbasetemp() / "01_tiny.ipynb"
    if not path.exists():
        write_tiny(path)
        test_same_name_means_same_values.known = notebook_parameters(path)
    known = test_same_name_means_same_values.known
    names = [run_id(path, values, known) for values in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert "/" not in "".join(names)


def test_every_mistake_is_listed_with_its_row_before_anything_runs(folder):
    message = refused(
        folder,
        "t.csv",
        "notebook,section,seed,n_domains,sede,output_dir,threads\n"
        "99_none,a,0,,,,\n"
        "01_tiny.ipynb,a,0,,,,\n"
        "01_tiny.ipynb,a,1,seven,,,\n"
        "01_tiny.ipynb,a,1.5,,,,\n"
        "01_tiny.ipynb,a,1,,4,,\n"
        "01_tiny.ipynb,a,0,7,,,\n"
        ",a,2,,,,\n"
        "01_tiny.ipynb,a,3,,,here,\n"
        "01_tiny.ipynb,a,3,,,,half\n"
        "01_tiny.ipynb,a,3,,,,1,2\n",
    )
    for part in (
        "row 2: No single notebook is called '99_none'",
        "row 4: Parameter 'n_domains' is 'seven'; like its default 7, it should be a number",
        "row 5: Parameter 'seed' is 1.5; like its default 0, it should be a whole number",
        "row 6: The notebook has no parameter 'sede'. Did you mean 'seed'?",
        "n_domains = 7  domains to look for",
        "row 7: It is the same run as row 3",
        "row 8: It names no notebook",
        "row 9: output_dir cannot be given",
        "row 10: 'threads' is 'half'; it should be a whole number above 0",
        "row 11: It has 8 cells under 7 names",
    ):
        assert part in message
    assert "row 3:" not in message


def test_a_mistake_of_many_rows_is_told_once(folder):
    rows = "".join(f"01_tiny.ipynb,{number},1\n" for number in range(50))
    message = refused(folder, "t.csv", "notebook,seed,sede\n" + rows)
    assert message.count("no parameter 'sede'") == 1
    assert "row 2, row 3, row 4 and 47 more:" in message


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("t.csv", "", "needs a first line"),
        ("t.csv", "seed\n1\n", "one of them 'notebook'"),
        ("t.csv", "notebook,seed,seed\n", "different column names"),
        ("t.csv", "notebook,seed\n\n", "has no runs"),
        ("t.yaml", "", "should hold a list of runs"),
        ("t.yaml", "rows: []", "beside them (parameters stand below). It holds: rows."),
        ("t.yaml", "grid:\n  seed: [1]\nnotebook: '01'", "below). It holds: grid, notebook."),
        ("t.yaml", "- 3", "'name: value' pairs"),
        ("t.yaml", "runs: [", "cannot be read"),
        ("t.yaml", "runs: []", "has no runs"),
        ("t.txt", "", "should end in .csv"),
    ],
)
def test_a_file_that_is_no_table(folder, name, text, part):
    assert part in refused(folder, name, text)
    with pytest.raises(SweepTableError, match="cannot be read"):
        read_sweep(folder / "missing.csv")


def test_relative_paths_start_from_the_table(folder):
    (folder / "mine").mkdir()
    cell = '{"cells": [{"cell_type": "code", "source": "data_dir = None", "outputs": [], "id": "a",'
    cell += '"execution_count": null, "metadata": {"tags": ["parameters"]}}], "metadata":'
    cell += '{"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}},'
    write(folder, "02_paths.ipynb", cell + '"nbformat": 4, "nbformat_minor": 5}')
    run = read_sweep(write(folder, "t.csv", "notebook,data_dir\n02_paths.ipynb,mine\n"))[0]
    assert run.parameters == {"data_dir": str((folder / "mine").resolve())}
    assert run.notebook == str((folder / "02_paths.ipynb").resolve())


def test_a_grid_is_counted_before_it_is_combined(folder):
    lists = "".join(f"  p{n}: {list(range(60))}\n" for n in range(4))  # 12,960,000 combinations
    message = refused(folder, "t.yaml", f"grid:\n  notebook: 01_tiny.ipynb\n{lists}")
    assert "asks for 12,960,000 runs; at most 100,000 are taken" in message


def test_aliases_that_stand_for_thousands_of_millions_are_refused(folder):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for one, other in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{one}: &{one} [{', '.join([f'*{other}'] * 10)}]")
    assert "too large" in refused(folder, "t.yaml", "grid:\n  " + "\n  ".join(lines))
    assert "too large" in refused(folder, "t.yaml", "grid: &a\n  notebook: *a\n")
    assert "cannot be read" in refused(folder, "t.yaml", "runs: " + "[" * 5000)
    few = "runs:\n- &one {notebook: 01_tiny.ipynb, names: &names [x]}\n"
    runs = read_sweep(
        write(folder, "t.yaml", few + "- {notebook: 01_tiny.ipynb, seed: 1, names: *names}\n")
    )
    assert [run.parameters["names"] for run in runs] == [["x"], ["x"]]


@pytest.mark.parametrize("limit", ["nan", "inf", "-1", "0", "1e999", "a", "True", "[1]"])
def test_limits_are_finite_and_above_0(folder, limit):
    for name in ("threads", "memory_mb", "timeout_minutes"):
        rows = f"notebook,{name}\n01_tiny.ipynb,{limit}\n"
        assert f"row 2: {name!r} is " in refused(folder, "t.csv", rows)


def test_a_table_that_is_no_utf8_says_so(folder):
    (folder / "t.csv").write_bytes("notebook,section\n01_tiny.ipynb,café\n".encode("latin-1"))
    with pytest.raises(SweepTableError, match="Save it as UTF-8"):
        read_sweep(folder / "t.csv")
    surrogate = '- {notebook: 01_tiny.ipynb, section: "\\ud800"}'
    message = refused(folder, "t.yaml", surrogate)
    message.encode("utf-8")
