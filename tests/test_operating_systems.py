"""Linux, macOS and Windows: nothing of ours needs what only some of them have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import nbformat
import pytest

from genot_runner.notebooks import CHECKOUT

UNIX_ONLY = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "posix", "crypt"}
UNIX_SIGNALS = {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGQUIT"}
# Unix-only modules are not there for our code, as on Windows; the libraries below keep theirs.
BLOCK = f"""
import builtins, signal, sys
real = builtins.__import__
def no_unix(name, globals=None, locals=None, fromlist=(), level=0):
    caller = (globals or {{}}).get("__name__", "")
    if name in {UNIX_ONLY!r} and (caller.startswith("genot_") or caller == "__main__"):
        raise ImportError(f"{{name}} is not on this system")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = no_unix
class Windows:
    def __getattr__(self, name):
        if name in {UNIX_SIGNALS!r}:
            raise AttributeError(name)
        return getattr(signal, name)
"""
RUN = """
import importlib, pkgutil, pathlib
import genot_helpers as gh, genot_runner
for package in (gh, genot_runner):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from genot_runner import run_folder, sweeps
run_folder.signal = sweeps.signal = Windows()
from genot_runner.command_line import main, start
here = pathlib.Path(sys.argv[1])
sys.argv = ["genot", "run", str(here / "01_tiny.ipynb"), "--output-dir", str(here / "results")]
code = start()
sys.exit(code or main(["status", str(here / "results")]) or main(["list"]))
"""
FINISH = """\
import genot_helpers as gh
gh.finish_run(output_dir, {"ari": 0.5})
"""


def test_our_code_runs_without_what_windows_lacks(tmp_path):
    notebook = nbformat.v4.new_notebook()
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    notebook.metadata.kernelspec = kernel
    cells = ('output_dir = ""', BLOCK, FINISH)
    notebook.cells = [nbformat.v4.new_code_cell(one) for one in cells]
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", BLOCK + RUN, str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "finished" in run.stdout
    assert "ari" in run.stdout


def unix_only(source: str) -> list[str]:
    """Return the Unix-only modules and signals that code asks for outside a try or an if."""
    tree = ast.parse(source)
    guarded = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.Try | ast.If)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.split(".")[0] in UNIX_ONLY]
        elif isinstance(node, ast.ImportFrom) and node.module in UNIX_ONLY:
            found.append(node.module)
        elif isinstance(node, ast.Attribute) and node.attr in UNIX_SIGNALS:
            found.append(node.attr)
    return found


def test_the_search_finds_what_it_should():
    assert unix_only("import resource\nfrom pwd import x\nsignal.SIGKILL") == [
        *("resource", "pwd", "SIGKILL")
    ]
    assert not unix_only("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None")


@pytest.mark.parametrize("package", ["genot_helpers", "genot_runner", "teaching", "docs"])
def test_no_file_asks_for_what_only_unix_has(package):
    found = [
        f"{file.relative_to(CHECKOUT)}: {name}"
        for file in sorted((CHECKOUT / package).rglob("*.py"))
        for name in unix_only(file.read_text(encoding="utf-8"))
    ]
    assert not found
