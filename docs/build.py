"""Build the site: gather pages and executed notebooks in one folder, then run Sphinx on it.

`make site` first runs the notebooks that are out of date, then this script. It runs none.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from api_pages import write_api_pages
from executed import executed_copy, notebook_sources, share_libraries, shown_copy
from gallery import write_gallery
from launch import add_buttons
from texts import copy_texts, drop_missing_notebooks

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"


def gather(results: Path, work: Path) -> list[Path]:
    """Lay out everything Sphinx reads in `work/pages`, and what it only copies in `work/extra`.

    Returns the notebooks that are shown. Those that were never executed are left out, and named.
    """
    pages, extra = work / "pages", work / "extra"
    for folder in (pages, extra):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "notebooks").mkdir(parents=True)
    copy_texts(pages)
    write_api_pages(pages / "api")
    shown = []
    for source in notebook_sources():
        executed = executed_copy(source, results)
        if not executed.is_file():
            print(f"{source.stem} has not been executed and is left out", file=sys.stderr)
            continue
        notebook = add_buttons(shown_copy(executed), source)
        share_libraries(notebook, extra)
        nbformat.write(notebook, pages / "notebooks" / source.name)
        shutil.copy(source, extra / "notebooks" / source.name)  # without outputs, to work with
        shown.append(executed)
    write_gallery(shown, pages)
    drop_missing_notebooks(pages)
    return shown


def build(results: Path, work: Path, output: Path) -> int:
    """Gather and run Sphinx, for which every warning is an error; return its exit code.

    An older site stays as it is until the new one is complete.
    """
    if not gather(results, work):
        print(f"No executed notebook in {results}. First: make notebooks", file=sys.stderr)
        return 1
    fresh = work / "html"
    shutil.rmtree(fresh, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(work / "doctrees")]
    options += ["-c", str(DOCS), "-D", f"html_extra_path={work / 'extra'}"]
    command = [sys.executable, "-m", "sphinx", *options, str(work / "pages"), str(fresh)]
    code = subprocess.run(command).returncode
    if code == 0:
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh, output)
    return code


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=CHECKOUT / "results")
    parser.add_argument("--work", type=Path, default=CHECKOUT / "build" / "site")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "site")
    chosen = parser.parse_args()
    work, output = chosen.work.resolve(), chosen.output.resolve()
    code = build(chosen.results.resolve(), work, output)
    if code == 0:
        print(f"The site: {output / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
