"""Headless runs of a tiny notebook: parameters in, results out, failures explained."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import nbformat
import psutil
import pytest
from nbclient.exceptions import DeadKernelError

from genot_runner import (
    NotebookError,
    find_notebook,
    notebook_parameters,
    notebooks,
    run_notebook,
    runs,
)
from genot_runner.run_folder import git_state, read_record

PARAMETERS = """\
data_source = "demo"  # where slices come from
data_dir = None  # folder for "local"
n_domains = 7  # domains to look for
rate = 1e-3  # of learning
quick = False  # fewer starts
names = ["left", "right"]
output_dir = "somewhere"
"""
WORK = """\
import json
import pathlib

given = {"data_source": data_source, "data_dir": data_dir, "n_domains": n_domains, "rate": rate}
given |= {"quick": quick, "names": names, "folder": str(pathlib.Path.cwd())}
"""
CHECK = """\
if n_domains > 10:
    raise ValueError("too many domains")
"""
WRITE = 'pathlib.Path(output_dir, "metrics.json").write_text(json.dumps(given))'


def write_notebook(path, *cells):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python",
        "language": "python",
    }
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    if cells:
        notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return write_notebook(folder / "01_tiny.ipynb", PARAMETERS, WORK, CHECK, WRITE)


@pytest.fixture
def no_kernel(monkeypatch):
    """Let papermill note what it is asked for, and do nothing."""
    asked = {}

    def execute_notebook(source, executed, **options):
        asked.update(options, source=source, executed=executed)
        lesson = nbformat.read(source.removeprefix(runs.LESSON), as_version=4)
        nbformat.write(lesson, executed.removeprefix(runs.WHOLE))

    monkeypatch.setattr(runs.papermill, "execute_notebook", execute_notebook)
    return asked


# --- with a kernel (slow: two starts) -------------------------------------------------------------


def test_a_run_takes_parameters_and_keeps_everything_in_one_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_slice.h5ad").touch()
    source = tiny.read_bytes()
    given = {"data_source": "my_slice.h5ad", "n_domains": 5, "rate": 1, "quick": True}
    run = run_notebook(tiny, given, output_dir="results/tiny", progress=False)
    assert run.output_dir == tmp_path / "results" / "tiny"
    assert run.metrics == json.loads((run.output_dir / "metrics.json").read_text())
    assert run.metrics == {
        "data_source": str(tmp_path / "my_slice.h5ad"),  # absolute: the kernel runs elsewhere
        "data_dir": None,
        "n_domains": 5,
        "rate": 1,
        "quick": True,
        "names": ["left", "right"],
        "folder": str(tiny.parent),
    }
    assert run.notebook == run.output_dir / "01_tiny.ipynb"
    executed = nbformat.read(run.notebook, as_version=4)
    assert all(cell.execution_count for cell in executed.cells)
    assert "n_domains" in run.html.read_text(encoding="utf-8")
    assert {file.name for file in run.output_dir.iterdir()} == {
        "01_tiny.ipynb",
        "01_tiny.html",
        "metrics.json",
        "run.json",
    }
    assert run.seconds > 0
    assert tiny.read_bytes() == source
    record = json.loads((run.output_dir / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["error"] is record["failed_cell"] is None
    assert record["notebook"] == "01_tiny"
    assert record["notebook_sha256"] == hashlib.sha256(source).hexdigest()
    assert record["parameters"]["n_domains"] == 5
    assert record["parameters"]["names"] == ["left", "right"]  # a default
    assert record["given"] == sorted(given)
    assert record["started"] < record["ended"]
    assert 0 < record["cpu_seconds"] < record["wall_seconds"] * 4
    assert 20 < record["peak_memory_mb"] < 1000  # an empty kernel
    assert record["versions"]["numpy"] == version("numpy")
    assert set(record["files"]) == {file.name for file in run.output_dir.iterdir()}


def test_a_failing_cell_is_named_and_the_notebook_kept(tiny, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "mine.txt").touch()
    with pytest.raises(NotebookError) as caught:
        run_notebook(tiny, {"n_domains": 11}, output_dir=results, progress=False)
    message, kept = str(caught.value), results / "01_tiny.ipynb"
    # The first two cells are the parameters: those of the notebook, and those given.
    assert "Cell [4] of 01_tiny.ipynb failed with ValueError: too many domains" in message
    assert str(kept) in message
    cells = nbformat.read(kept, as_version=4).cells
    assert any("too many domains" in str(cell.get("outputs")) for cell in cells)
    # Nothing of the reader's is gone.
    assert {file.name for file in results.iterdir()} == {"01_tiny.ipynb", "run.json", "mine.txt"}
    record = json.loads((results / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"] == "ValueError: too many domains"
    assert record["failed_cell"] == 4


def test_a_run_that_is_ended_looks_interrupted_and_one_that_is_killed_unfinished(tmp_path):
    """SIGTERM, as schedulers send it, leaves a record; SIGKILL leaves that of the beginning."""
    tiny = write_notebook(
        tmp_path / "01_tiny.ipynb", "wait = 60\noutput_dir = ''", "import time; time.sleep(wait)"
    )
    results = tmp_path / "results"
    start = [sys.executable, "-m", "genot_helpers", "run", str(tiny), "--output-dir", str(results)]
    for end, status in ((signal.SIGTERM, "interrupted"), (signal.SIGKILL, "running")):
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        unfinished = results / "01_tiny.unfinished.ipynb"
        limit = time.monotonic() + 120
        while not (unfinished.exists() and '"start_time"' in unfinished.read_text()):
            assert time.monotonic() < limit
            time.sleep(0.1)
        kernels = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        assert process.wait(60) in (128 + end, -end)
        assert json.loads((results / "run.json").read_text())["status"] == status
        assert read_record(results)["status"] == "interrupted"  # for whoever looks later
        assert (results / "01_tiny.ipynb").exists() == (status == "interrupted")
        assert not psutil.wait_procs(kernels, timeout=30)[1]  # none is left behind


def test_limits_stop_a_run(tmp_path):
    tiny = write_notebook(
        tmp_path / "01_tiny.ipynb",
        "seed = 0",
        "much = b'x' * 900_000_000; import time; time.sleep(60)",
    )
    with pytest.raises(NotebookError, match=r"stopped in cell \[2\]. It used .* limit of 300 MB"):
        run_notebook(tiny, output_dir=tmp_path / "results", progress=False, memory_mb=300)
    record = json.loads((tmp_path / "results" / "run.json").read_text())
    assert record["failed_cell"] == 2
    assert record["peak_memory_mb"] > 300


# --- without a kernel ---------------------------------------------------------------------------


def test_parameters_are_read_with_their_comments(tiny):
    known = notebook_parameters(tiny)
    assert list(known)[:3] == ["data_source", "data_dir", "n_domains"]
    assert known["n_domains"] == {"default": "7", "help": "domains to look for"}


def test_an_unknown_parameter_is_refused_with_the_near_one_and_the_list(tiny, tmp_path, no_kernel):
    with pytest.raises(NotebookError) as caught:
        run_notebook(tiny, {"n_domain": 5}, output_dir=tmp_path / "results")
    message = str(caught.value)
    assert "no parameter 'n_domain'. Did you mean 'n_domains'?" in message
    assert "  n_domains = 7  domains to look for" in message
    assert not no_kernel
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("n_domains", "seven", "a number"),
        ("n_domains", True, "a number"),
        ("rate", "0.1", "a number"),
        ("quick", 1, "a bool"),
        ("data_source", 151673, "a str"),
        ("names", "left", "a list"),
        ("n_domains", 7.5, "a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(tiny, no_kernel, name, value, wanted):
    with pytest.raises(NotebookError, match=f"Parameter '{name}' is .* should be {wanted}"):
        run_notebook(tiny, {name: value})
    assert not no_kernel


def test_none_and_whole_numbers_fit(tiny, tmp_path, no_kernel):
    given = {"n_domains": 5.0, "rate": 2, "data_dir": None}
    run_notebook(tiny, given, output_dir=tmp_path / "results")
    assert {name: no_kernel["parameters"][name] for name in given} == given


def test_paths_are_the_callers_and_words_stay_words(tiny, tmp_path, no_kernel, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # a folder of this name must not be taken for the data
    given = {"data_source": "demo", "data_dir": "to_be_made"}
    run = run_notebook(tiny, given, output_dir="results")
    assert no_kernel["parameters"] == {
        "data_source": "demo",
        "data_dir": str(tmp_path / "to_be_made"),
        "output_dir": str(tmp_path / "results"),
    }
    assert no_kernel["cwd"] == str(tiny.parent)
    assert run.metrics == {}  # this notebook wrote none


def test_output_dir_can_be_given_as_a_parameter(tiny, tmp_path, no_kernel):
    run = run_notebook(tiny, {"output_dir": str(tmp_path / "here")})
    assert run.output_dir == tmp_path / "here"
    assert no_kernel["parameters"]["output_dir"] == str(tmp_path / "here")


def test_the_notebook_itself_is_never_overwritten(tiny, no_kernel):
    with pytest.raises(NotebookError, match=r"would overwrite 01_tiny\.ipynb"):
        run_notebook(tiny, output_dir=tiny.parent)
    assert not no_kernel


def test_a_folder_that_cannot_be_written_stops_everything(tiny, tmp_path, no_kernel):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Cannot write to the folder"):
        run_notebook(tiny, output_dir=tmp_path / "file" / "results")
    assert not no_kernel


def test_a_kernel_that_dies_is_explained(tiny, tmp_path, monkeypatch):
    def die(*arguments, **options):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr(runs.papermill, "execute_notebook", die)
    with pytest.raises(NotebookError, match="memory ran out"):
        run_notebook(tiny, output_dir=tmp_path / "results")


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "broken.ipynb").write_text("not json")
    with pytest.raises(NotebookError, match="cannot be read as a notebook"):
        run_notebook(tmp_path / "broken.ipynb")


def test_notebooks_are_found_by_path_name_and_number(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(NotebookError, match="none in"):
        find_notebook("01")
    (tmp_path / "notebooks").mkdir()
    first = write_notebook(tmp_path / "notebooks" / "01_first.ipynb")
    second = write_notebook(tmp_path / "notebooks" / "02_second.ipynb")
    assert find_notebook("01") == find_notebook("1") == first
    assert find_notebook("02_second") == second
    assert find_notebook("notebooks/02_second.ipynb") == second  # from whichever folder
    assert find_notebook(second) == second
    for name in ("03", "0", "second", ""):
        with pytest.raises(NotebookError, match="There are: 01_first, 02_second"):
            find_notebook(name)


def test_the_commit_is_that_of_the_checkout_and_of_no_other_repository(tmp_path):
    def git(*words):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_state(tmp_path) == (None, None)
    git("init")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "file").write_text("one")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "package" / "file").write_text("two")
    assert git_state(tmp_path) == (commit, True)
    assert git_state(tmp_path / "package") == (None, None)  # installed somewhere below


def test_braces_in_a_path_are_no_placeholders(tmp_path):
    folder = tmp_path / "{seed}"
    folder.mkdir()
    tiny = write_notebook(folder / "01_tiny.ipynb", "seed = 0")
    run = run_notebook(tiny, {"seed": 1}, output_dir=folder / "results", progress=False)
    assert run.notebook == folder / "results" / "01_tiny.ipynb"
