"""Values of parameters: what is a name stays text, and what cannot be right is refused at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from genot_runner import NotebookError, notebook_parameters, run_notebook
from genot_runner.notebooks import list_notebooks
from genot_runner.parameters import RULES, check_names, check_parameters, read_value
from genot_runner.sweep_tables import read_sweep

KNOWN = {number: notebook_parameters(number) for number in ("01", "05", "06", "09", "10")}


def value(notebook, name, text):
    """Read a value as the command line and tables do, and check it."""
    known = KNOWN[notebook]
    return check_parameters({name: read_value(name, text, known)}, known)[name]


def refused(notebook, name, given):
    known = KNOWN[notebook]
    given = read_value(name, given, known) if isinstance(given, str) else given
    with pytest.raises(NotebookError) as caught:
        check_parameters({name: given}, known)
    return str(caught.value)


@pytest.mark.parametrize("text", ["1.10", "1_2", "2e5", "10.0", "0x10", "151673", "E9.5", "True"])
def test_names_stay_text_also_where_the_default_is_none(text):
    for notebook, name in (("01", "section"), ("10", "section"), ("10", "left"), ("06", "right")):
        assert value(notebook, name, text) == text
    assert value("01", "together_with", f"[{text}, '151675']") == [text, "151675"]
    assert value("01", "together_with", [text]) == [text]


@pytest.mark.parametrize(
    ("notebook", "name", "text", "wanted"),
    [
        ("10", "section", "None", None),
        ("06", "t", "0.25", 0.25),
        ("06", "t", "1", 1),
        ("06", "t", "None", None),
        ("10", "n_domains", "7", 7),
        ("10", "n_domains", "7.0", 7),
        ("01", "label_key", "None", None),
        ("10", "positions", "X_umap", "X_umap"),
        ("10", "positions", "['x', 'y']", ["x", "y"]),
        ("09", "gene", "1700022A21Rik", "1700022A21Rik"),
        ("01", "encoder", "paper", "paper"),
        ("01", "quick", "true", True),
    ],
)
def test_right_values_are_taken(notebook, name, text, wanted):
    found = value(notebook, name, text)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("notebook", "name", "given", "part"),
    [
        ("01", "seed", "-1", "whole number from 0 to 4,294,967,295"),
        ("01", "seed", "1.5", "a whole number"),
        ("01", "seed", str(10**30), "whole number from 0"),
        ("06", "t", "half", "'t' is 'half'; it should be a number from 0 to 1"),
        ("06", "t", "1.5", "a number from 0 to 1"),
        ("06", "t", "nan", "a number from 0 to 1"),
        ("06", "t", math.nan, "a number from 0 to 1"),
        ("01", "n_domains", "1", "whole number from 2"),
        ("01", "n_domains", "None", "cannot be None"),
        ("10", "n_domains", "many", "whole number from 2"),
        ("01", "n_components", "0", "from 1"),
        ("01", "encoder", "spectrall", "Did you mean 'spectral'?"),
        ("05", "correction", "center", "Did you mean 'centre'?"),
        ("05", "cut_sides", "['right', 'lfet']", "Did you mean 'left'?"),
        ("05", "anterior", "V1", "should be a list"),
        ("10", "micrometres_per_unit", "0", "a number above 0"),
        ("10", "micrometres_per_unit", "1e999", "a number above 0"),
        ("01", "section", "caf\udce9", "no UTF-8 text"),
        ("01", "sede", "1", "Did you mean 'seed'?"),
    ],
)
def test_what_cannot_be_right_is_refused(notebook, name, given, part):
    message = refused(notebook, name, given)
    assert part in message
    message.encode("utf-8")  # it can be printed


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.text())))
def test_any_value_is_taken_or_refused_in_words(anything):
    for known in KNOWN.values():
        for name in known:
            try:
                check_parameters({name: anything}, known)
            except NotebookError as problem:
                assert name in str(problem)


def test_every_default_of_the_collection_is_allowed():
    for notebook, _ in list_notebooks():
        known = notebook_parameters(notebook)
        for name, facts in known.items():
            read = {name: eval(facts["default"])}
            assert check_parameters(read, known) == read


def test_rules_hold_for_notebooks_of_this_kind_only():
    known = {"t": {"default": "5.0", "help": "minutes"}}
    assert check_parameters({"t": 7.5}, known) == {"t": 7.5}
    assert set(RULES) > {"seed", "t", "n_domains"}


@pytest.mark.parametrize(
    ("notebook", "given", "part"),
    [
        (
            "01",
            {"data_source": "dmeo"},
            "no existing path. Did you mean 'demo'",
        ),
        ("01", {"data_source": "no/such/folder"}, "no existing path"),
        ("01", {"section": "15167"}, "no slice is called '15167' in demo. Did you mean '15167"),
        ("01", {"together_with": ["151674", "15I675"]}, "'together_with': no slice is called"),
        ("05", {"anterior": ["V1_Mouse_Brain_Sagital_Anterior"]}, "Did you mean 'V1_Mouse_Brain_S"),
        ("06", {"left": "151673x"}, "Parameter 'left'"),
        ("10", {"section": "merfish_5"}, "Did you mean 'merfish_"),
    ],
)
def test_names_that_nothing_has_are_refused_before_a_kernel_starts(notebook, given, part, tmp_path):
    with pytest.raises(NotebookError) as caught:
        run_notebook(notebook, given, output_dir=tmp_path / "results", progress=False)
    assert part in str(caught.value)
    assert not (tmp_path / "results").exists()
    table = tmp_path / "table.yaml"
    cells = ", ".join(f"{name}: {one}" for name, one in given.items())
    table.write_text(f"- {{notebook: '{notebook}', {cells}}}")
    with pytest.raises(NotebookError, match="run 1: Parameter"):
        read_sweep(table)


def test_names_in_the_readers_own_folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.h5ad").touch()
    given = {"data_source": str(tmp_path), "left": "one", "right": "two", "held_out": None}
    check_names(given, KNOWN["06"])
    with pytest.raises(NotebookError, match=r"'tow' .* Did you mean 'two'\? There: one, two"):
        check_names(given | {"right": "tow"}, KNOWN["06"])
    check_names({"data_source": str(tmp_path / "one.h5ad"), "section": "any"}, KNOWN["01"])


def test_a_notebook_called_1_in_a_table_is_01_and_names_stay_text(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("notebook,section,t\n10,1.10,\n10,1_2,\n6,,0.5\n")
    for name in ("1.10", "1_2"):
        (tmp_path / f"{name}.h5ad").touch()
    table.write_text(
        f"notebook,section,data_source,seed\n10,1.10,{tmp_path},\n10,1_2,{tmp_path},\n1,,,3\n"
    )
    runs = read_sweep(table)
    assert [run.parameters.get("section") for run in runs] == ["1.10", "1_2", None]
    assert runs[2].notebook.endswith("01_dlpfc_spatial_domains.ipynb")
