"""The command line: what it passes on, what it prints, how it exits."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest

import genot_runner.command_line as command_line
from genot_runner import NotebookError, NotebookRun
from genot_runner.sweeps import SweepResult

PARAMETERS = """\
section = "151673"  # name of the section
label_key = "auto"
data_dir = None
n_domains = 7  # domains to look for
rate = 0.1
quick = False
names = ["left"]
"""


@pytest.fixture
def notebook(tmp_path):
    content = nbformat.v4.new_notebook()
    content.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python",
        "language": "python",
    }
    content.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    path = tmp_path / "01_tiny.ipynb"
    nbformat.write(content, path)
    return str(path)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Let run_notebook note what it is asked for instead of running it."""
    calls = []

    def run_notebook(name, parameters, *, output_dir=None):
        calls.append((name, parameters, output_dir))
        metrics = {"ari": 0.61234, "n_spots": 300, "source": "simulated"}
        return NotebookRun(tmp_path / "01.ipynb", tmp_path / "01.html", metrics, tmp_path, 61.7)

    monkeypatch.setattr(command_line, "run_notebook", run_notebook)
    return calls


def test_values_have_the_kind_of_the_default(notebook, asked):
    pairs = ["section=151674", "n_domains=5", "rate=1e-3", "quick=True", "names=['a', 'b']"]
    assert command_line.main(["run", notebook, *pairs]) == 0
    assert asked == [
        (
            notebook,
            {
                "section": "151674",
                "n_domains": 5,
                "rate": 0.001,
                "quick": True,
                "names": ["a", "b"],
            },
            None,
        )
    ]


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("section=a=b", "a=b"),
        ("section=", ""),
        ("label_key=None", None),
        ("data_dir=some/folder", "some/folder"),
        ("quick=true", True),
        ("quick=False", False),
        ("n_domains=-1", -1),
        ("n_domains=[", "["),  # left for run_notebook to refuse
        ("unknown=3", 3),
    ],
)
def test_one_value(notebook, asked, pair, value):
    assert command_line.main(["run", notebook, pair]) == 0
    assert asked[0][1] == {pair.partition("=")[0]: value}


@pytest.mark.parametrize("order", [0, 1])
def test_options_and_parameters_in_any_order(notebook, asked, order):
    rest = [["--output-dir", "here"], ["n_domains=5", "quick=true"]]
    arguments = [*rest[order], *rest[1 - order]]
    assert command_line.main(["run", notebook, *arguments]) == 0
    assert asked == [(notebook, {"n_domains": 5, "quick": True}, "here")]


def test_a_run_reports_scores_and_where_the_results_are(notebook, asked, capsys, tmp_path):
    command_line.main(["run", notebook])
    printed = capsys.readouterr().out
    for part in ("0.612", "300", "simulated", "62 s", "01.ipynb", "01.html"):
        assert part in printed


def test_an_unknown_notebook_is_an_error_on_one_line(capsys):
    assert command_line.main(["run", "no_such_notebook"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("Error: No single notebook is called 'no_such_notebook'")
    assert not printed.out


def test_a_pair_without_a_value_is_an_error(notebook, asked, capsys):
    assert command_line.main(["run", notebook, "n_domains"]) == 1
    assert "'n_domains' is not of the form NAME=VALUE" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize("problem", [NotebookError("Cell [3] failed"), OSError("disk full")])
def test_a_failed_run_is_told_without_a_traceback(notebook, monkeypatch, capsys, problem):
    def fail(*arguments, **options):
        raise problem

    monkeypatch.setattr(command_line, "run_notebook", fail)
    assert command_line.main(["run", notebook]) == 1
    assert capsys.readouterr().err == f"Error: {problem}\n"


def test_an_unknown_parameter_is_refused_before_anything_runs(notebook, capsys, tmp_path):
    arguments = ["run", notebook, "n_domain=5", "--output-dir", str(tmp_path / "results")]
    assert command_line.main(arguments) == 1
    assert "Did you mean 'n_domains'?" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            [],
            ["walk"],
            ["run"],
            ["run", "01", "--seed", "1"],
            ["parameters", "01", "a=1"],
            ["copy"],
        ),
        *(["sweep"], ["sweep", "table.csv", "--output-dir", "out", "seed=1"]),
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_sweep_passes_its_options_on_and_tells_what_happened(monkeypatch, capsys, tmp_path):
    asked = {}

    def run_sweep(table, **options):
        asked.update(options, table=table)
        unfinished = [(f"01-{number}", "cell [3]: ValueError: no\nmore") for number in range(21)]
        return SweepResult(tmp_path, {"finished": 2, "failed": 21}, unfinished, 1)

    monkeypatch.setattr(command_line, "run_sweep", run_sweep)
    options = ["--output-dir", "out", "--cores", "3", "--memory-mb", "900", "--profile", "slurm"]
    assert command_line.main(["sweep", "t.csv", *options, "--", "--retries", "0"]) == 1
    assert asked == {
        "table": "t.csv",
        "output_dir": "out",
        "profile": "slurm",
        "cores": 3,
        "threads": 1,
        "memory_mb": 900.0,
        "timeout_minutes": 60,
        "dry_run": False,
        "snakemake_arguments": ["--retries", "0"],
    }
    printed = capsys.readouterr().out
    for part in ("2 finished, 21 failed", "01-0: cell [3]: ValueError: no\n", "and 1 more"):
        assert part in printed


def test_as_a_program(notebook):
    """Once from outside: quick to start, parameters on stdout, errors on stderr and exit code."""
    start = [sys.executable, "-m", "genot_helpers"]
    listed = subprocess.run([*start, "parameters", notebook], capture_output=True, text=True)
    assert listed.returncode == 0
    assert "n_domains = 7  # domains to look for\n" in listed.stdout
    assert not listed.stderr
    failed = subprocess.run([*start, "parameters", "none"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--seed 1 --quick True", "seed=1 quick=True"),
        ("--n-domains=5", "n_domains=5"),
        ("-p seed=1 -p quick=True", "seed=1 quick=True"),
        ("-p seed 1 -p quick True", "seed=1 quick=True"),
        ("--set seed=1", "seed=1"),
    ],
)
def test_what_is_written_as_options_is_shown_as_parameters(given, meant, notebook, capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["run", notebook, *given.split()])
    assert f"written without dashes: {meant}\n" in capsys.readouterr().err


def test_a_notebook_is_all_that_run_needs(capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["run"])
    said = capsys.readouterr().err
    assert "required: notebook" in said and "required: notebook, " not in said
