"""What stays in a folder of results when runs fail, are killed, meet, or the disk is full."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
from sweep_runs import wait_for

from genot_helpers import files
from genot_runner import NotebookError, read_record, run_notebook, runs
from genot_runner.command_line import main
from genot_runner.run_folder import RECORD, locked, write_record

PARAMETERS = 'n = 1  # "die": lose the process\nwait = 0\noutput_dir = ""'
WORK = """\
import json, os, pathlib, time
folder = pathlib.Path(output_dir)
time.sleep(wait)
(folder / f"figure_{n}.png").write_text(str(n))
(folder / "metrics.json").write_text(json.dumps({"n": n, "coupling_seconds": 2.5}))
if n == 13:
    raise ValueError("thirteen")
print("in", folder)
"""


@pytest.fixture
def tiny(tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python",
        "language": "python",
    }
    notebook.cells = [nbformat.v4.new_code_cell(one) for one in (PARAMETERS, WORK)]
    notebook.cells[0].metadata.tags = ["parameters"]
    path = tmp_path / "notebooks" / "01_tiny.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def fake(monkeypatch):
    """Do in this process what the notebook does in a kernel."""

    def execute_notebook(source, executed, *, parameters, **options):
        notebook = nbformat.read(source, as_version=4)
        place = executed.removeprefix(runs.WHOLE)
        notebook.cells[0].source = f"output_dir = {parameters['output_dir']!r}"
        nbformat.write(notebook, place)
        exec(WORK, {"n": 1, "wait": 0, **parameters})

    monkeypatch.setattr(runs.papermill, "execute_notebook", execute_notebook)


def run(tiny, folder, **given):
    return run_notebook(tiny, given, output_dir=folder, progress=False)


def visible(folder):
    return {one.name for one in folder.iterdir()}


ONE = {"01_tiny.ipynb", "01_tiny.html", "metrics.json", "run.json", "figure_1.png"}
TWO = (ONE - {"figure_1.png"}) | {"figure_2.png"}


def test_old_results_go_when_the_new_ones_are_complete(tiny, tmp_path, fake):
    folder = tmp_path / "results"
    run(tiny, folder)
    assert visible(folder) == ONE
    again = run(tiny, folder, n=2)
    assert visible(folder) == TWO
    assert again.metrics["n"] == 2
    assert again.output_dir == folder
    record = read_record(folder)
    assert record["status"] == "finished"
    assert record["parameters"]["output_dir"] == str(folder)
    assert record["seconds"] == {"coupling_seconds": 2.5}
    assert ".running" not in again.notebook.read_text()  # it names the folder that it ended in


def test_a_run_that_fails_takes_no_results_away(tiny, tmp_path):
    folder = tmp_path / "results"
    run(tiny, folder)
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    for _ in range(2):
        with pytest.raises(NotebookError) as caught:
            run(tiny, folder, n=13)
        assert "Cell [3] of 01_tiny.ipynb failed with ValueError: thirteen" in str(caught.value)
        assert str(folder / "failed" / "01_tiny.ipynb") in str(caught.value)
        assert "results of the earlier run in this folder are as they were" in str(caught.value)
        assert {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()} == before
        assert read_record(folder / "failed")["status"] == "failed"
        assert visible(folder) == {*before, "failed"}


def test_files_of_the_reader_stay(tiny, tmp_path, fake):
    folder = tmp_path / "results"
    run(tiny, folder)
    (folder / "notes.md").write_text("mine")
    (folder / "figure_1.png").write_text("drawn over")
    edited = folder / "01_tiny.ipynb"
    edited.write_text(edited.read_text() + " ")
    run(tiny, folder, n=2)
    assert (folder / "notes.md").read_text() == "mine"
    assert (folder / "figure_1.png").read_text() == "drawn over"
    assert (folder / "01_tiny.yours.ipynb").read_text().endswith(" ")
    assert visible(folder) == TWO | {"notes.md", "figure_1.png", "01_tiny.yours.ipynb"}
    run(tiny, folder, n=3)
    assert {"notes.md", "figure_1.png", "01_tiny.yours.ipynb"} < visible(folder)


def test_a_folder_with_results_made_by_hand_and_no_record(tiny, tmp_path, fake):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "metrics.json").write_text('{"by": "hand"}')
    with pytest.raises(ValueError, match="thirteen"):
        run(tiny, folder, n=13)
    assert json.loads((folder / "metrics.yours.json").read_text()) == {"by": "hand"}


@pytest.mark.parametrize(
    "record",
    [
        '{"status": "finished", "files": ["../outside.txt", "/etc/passwd", "..", "", 5, null]}',
        '{"status": "finished", "files": 5}',
        '{"status": "failed", "files": {"a": 1}, "sha256": [1]}',
        '{"status": "running", "process": "me", "files": ["../outside.txt"]}',
        '{"status": 5}',
        "[1, 2]",
        '{"status": "fini',
        "[" * 100_000,
    ],
)
def test_a_damaged_record_touches_nothing_outside_and_stops_nothing(tiny, tmp_path, fake, record):
    folder = tmp_path / "results"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("stays")
    (folder / "run.json").write_text(record)
    run(tiny, folder)
    assert (tmp_path / "outside.txt").read_text() == "stays"
    assert read_record(folder)["status"] == "finished"


def test_a_killed_run_is_called_interrupted_and_old_results_stay(tiny, tmp_path, capsys):
    folder = tmp_path / "results"
    run(tiny, folder)
    start = [sys.executable, "-m", "genot_helpers", "run", str(tiny), "n=2", "wait=60"]
    process = subprocess.Popen(
        [*start, "--output-dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: list(folder.glob(".running-*/run.json")))
    (staged,) = folder.glob(".running-*")
    assert read_record(staged)["status"] == "running"
    with pytest.raises(NotebookError, match="Another run is writing into"):
        run(tiny, folder, n=3)
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(kernels, timeout=30)
    assert read_record(staged)["status"] == "interrupted"
    assert visible(folder) - {staged.name} == ONE
    assert main(["status", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"finished    {folder}\n" in said
    assert "interrupted" in said
    assert "The process ended without a word" in said
    run(tiny, folder, n=2)
    assert visible(folder) == TWO | {"failed"}
    assert read_record(folder / "failed")["status"] == "interrupted"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_ends_a_run_in_an_orderly_way(tiny, tmp_path):
    folder = tmp_path / "results"
    start = [sys.executable, "-m", "genot_helpers", "run", str(tiny), "wait=60"]
    process = subprocess.Popen(
        [*start, "--output-dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: (folder / "run.json").exists())
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert json.loads((folder / RECORD).read_text())["status"] == "interrupted"


def test_a_process_with_the_same_number_is_another_one(tmp_path):
    record = {"status": "running", "process": {"host": platform.node(), "id": os.getpid()}}
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert read_record(tmp_path)["status"] == "interrupted"


def test_a_full_disk_is_told_with_the_cell_and_recorded(tiny, tmp_path, monkeypatch):
    """A disk that is full after three writes of the notebook; the record goes where the old was."""
    folder, written = tmp_path / "results", []

    def write(self, content, path):
        written.append(path)
        if len(written) > 3:
            monkeypatch.setattr(files.os, "fsync", no_room)
            raise OSError(28, "No space left on device")
        with open(path.removeprefix(runs.WHOLE), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(content)

    def no_room(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs._WholeFiles, "write", write)
    with pytest.raises(NotebookError, match=r"stopped in cell \[\d\].*No space left") as caught:
        run(tiny, folder)
    assert "Nothing was computed" not in str(caught.value)
    record = json.loads((folder / RECORD).read_text())
    assert record["status"] == "failed"
    assert record["failed_cell"]
    assert "No space left" in record["error"]


def test_the_notebook_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    writer = runs._WholeFiles()
    writer.write("{}", f"{runs.WHOLE}{path}")

    def no_room(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        writer.write('{"longer": 1}', f"{runs.WHOLE}{path}")
    assert path.read_text() == "{}"
    assert visible(tmp_path) == {"a.ipynb"}


def test_a_record_is_written_on_a_full_disk_where_one_is(tmp_path, monkeypatch):
    write_record({"status": "running", "versions": {"a": "1" * 500}}, tmp_path)

    def no_room(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    write_record({"status": "failed", "error": "x" * 9000, "versions": {}}, tmp_path)
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert len(record["error"]) == 500


def test_damaged_metrics_are_no_success(tiny, tmp_path, monkeypatch):
    def execute_notebook(source, executed, *, parameters, **options):
        nbformat.write(nbformat.read(source, as_version=4), executed.removeprefix(runs.WHOLE))
        with open(f"{parameters['output_dir']}/metrics.json", "w") as file:  # noqa: PTH123
            file.write('{"ari": 0.')

    monkeypatch.setattr(runs.papermill, "execute_notebook", execute_notebook)
    with pytest.raises(NotebookError, match=r"metrics\.json that .* cannot be read"):
        run(tiny, tmp_path / "results")
    assert read_record(tmp_path / "results")["status"] == "failed"


def test_a_folder_deleted_during_a_run_is_told(tiny, tmp_path, monkeypatch):
    def execute_notebook(source, executed, **options):
        for one in (tmp_path / "results").iterdir():
            one.unlink()
        (tmp_path / "results").rmdir()

    monkeypatch.setattr(runs.papermill, "execute_notebook", execute_notebook)
    with pytest.raises(NotebookError):
        run(tiny, tmp_path / "results")


@pytest.mark.parametrize("limit", [float("nan"), -1, 0, "a", float("inf"), True])
def test_limits_are_checked_before_anything_starts(tiny, tmp_path, limit):
    for name in ("timeout_minutes", "memory_mb"):
        with pytest.raises(NotebookError, match=f"'{name}' is .* a number above 0"):
            run_notebook(tiny, output_dir=tmp_path / "results", **{name: limit})
    assert not (tmp_path / "results").exists()


def test_one_run_at_a_time_in_a_folder(tiny, tmp_path, fake):
    folder = tmp_path / "results"
    folder.mkdir()
    with locked(folder), pytest.raises(NotebookError, match="Another run is writing into"):
        run(tiny, folder)
    run(tiny, folder)


def test_names_that_are_no_text(tiny, capsys, tmp_path):
    for arguments in (
        ["run", "caf\udce9"],
        ["run", str(tiny), "n=\udce9"],
        ["run", str(tiny), "--output-dir", str(tmp_path / "caf\udce9")],
        ["sweep", "caf\udce9.csv"],
        ["copy", "\udce9"],
        ["parameters", "\udce9.ipynb"],
    ):
        assert main(arguments) == 1
        assert "no UTF-8 text" in capsys.readouterr().err
    with pytest.raises(NotebookError, match="no UTF-8 text"):
        run_notebook(tiny, output_dir=tmp_path / "caf\udce9")
    for name in ("a" * 5000, "\0.ipynb", "a" * 5000 + ".ipynb"):
        with pytest.raises(NotebookError):
            run_notebook(name)


def test_a_limit_that_ends_a_kernel_before_its_first_cell_is_told(tiny, tmp_path, monkeypatch):
    def execute_notebook(source, executed, *, kernel_manager_class, **options):
        watches[-1].stopped = "It took longer than its limit of 0.1 minutes."
        raise RuntimeError("Kernel died before replying to kernel_info")

    watches, watch = [], runs.KernelWatch

    def noted(*arguments):
        watches.append(watch(*arguments))
        return watches[-1]

    monkeypatch.setattr(runs, "KernelWatch", noted)
    monkeypatch.setattr(runs.papermill, "execute_notebook", execute_notebook)
    with pytest.raises(NotebookError, match=r"before its first cell\. It took longer"):
        run(tiny, tmp_path / "results")
    assert "longer than its limit" in read_record(tmp_path / "results")["error"]
