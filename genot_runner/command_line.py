"""Command line: `genot run 01 section=151674 n_domains=7`, or `python -m genot_helpers run …`.

Exit codes: 0, all went well; 1, a run failed or could not start; 2, wrong usage, or a table of runs
with mistakes; 130, interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import genot_helpers

from .notebooks import (
    NotebookError,
    copy_notebook,
    list_notebooks,
    results_folder,
    text_problem,
)
from .parameters import SweepTableError, notebook_parameters, read_value
from .run_folder import end_on_sigterm, read_record

if TYPE_CHECKING:
    from .runs import NotebookRun
    from .sweeps import SweepResult

_SHOWN_FAILURES = 20
_OF_OTHERS = ("-p", "--parameters", "--param", "--set")  # before NAME=VALUE in other programs


def run_notebook(*arguments, **options) -> NotebookRun:
    """Load what runs notebooks only when one is run: it takes seconds."""
    return importlib.import_module("genot_runner.runs").run_notebook(*arguments, **options)


def run_sweep(*arguments, **options) -> SweepResult:
    """Load what runs sweeps only when one is run."""
    return importlib.import_module("genot_runner.sweeps").run_sweep(*arguments, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="genot", description=__doc__)
    version = f"genot-helpers {genot_helpers.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the notebooks")
    run = commands.add_parser("run", help="execute one notebook headless")
    run.add_argument("notebook", help="number, name or path of a notebook")
    pairs = {"nargs": "*", "metavar": "NAME=VALUE", "default": []}
    run.add_argument("parameters", help="parameters of it", **pairs)
    run.add_argument("--output-dir", help="folder for the results (default: results/<notebook>)")
    copy = commands.add_parser("copy", help="copy a notebook to work on")
    copy.add_argument("notebooks", nargs="+", metavar="notebook", help="number or name, or: all")
    copy.add_argument("--to", default=".", metavar="FOLDER", help="where the copy goes (here)")
    show = commands.add_parser("parameters", help="list the parameters of a notebook")
    show.add_argument("notebook")
    status = commands.add_parser("status", help="say how runs ended")
    status.add_argument("folder", nargs="?", help="folder with results (default: results)")
    _add_sweep(commands)
    return parser


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="execute a table of runs with Snakemake",
        epilog="Options after -- go to Snakemake, such as: -- --retries 0",
    )
    sweep.add_argument("table", help="CSV or YAML with one run per row")
    sweep.add_argument("--output-dir", help="folder of the sweep (results/sweeps/<table>)")
    sweep.add_argument("--profile", default="local", help="local, slurm, or a profile's folder")
    sweep.add_argument("--cores", type=int, help="processor cores to use on this machine")
    sweep.add_argument("--threads", type=int, default=1, help="threads of one run (1)")
    sweep.add_argument("--memory-mb", type=float, default=4000, help="limit of one run (4000)")
    sweep.add_argument("--timeout-minutes", type=float, default=60, help="limit of one run (60)")
    sweep.add_argument("--dry-run", action="store_true", help="check the table, plan, run nothing")


def _parameters(notebook: str, pairs: list[str]) -> dict[str, object]:
    known = notebook_parameters(notebook)
    parameters = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise NotebookError(f"{pair!r} is not of the form NAME=VALUE.")
        if name in parameters:
            raise NotebookError(f"{name} is given twice.")
        parameters[name] = read_value(name, text, known)
    return parameters


def _as_pairs(options: list[str]) -> str:
    """Write what was given as options, `--seed 1` or `-p seed 1`, as parameters, `seed=1`."""
    pairs: list[str] = []
    for word in options:
        if word in _OF_OTHERS:
            pairs.append("")  # the name comes next
        elif word.startswith("-"):
            name, _, value = word.lstrip("-").partition("=")
            pairs.append(f"{name.replace('-', '_')}={value}")
        elif pairs and not pairs[-1]:
            pairs[-1] = word if "=" in word else f"{word}="
        elif pairs and pairs[-1].endswith("="):
            pairs[-1] += word
        else:
            pairs.append(word)
    return " ".join(filter(None, pairs))


def _report(run: NotebookRun) -> None:
    for name, value in run.metrics.items():
        print(f"  {name:<24}{value:.3f}" if isinstance(value, float) else f"  {name:<24}{value}")
    print(f"\nDone in {run.seconds:.0f} s.")
    print(f"Executed notebook:  {run.notebook}")
    print(f"The same as a page: {run.html}")


def _run(chosen: argparse.Namespace, rest: list[str]) -> int:
    # Parameters that follow an option, as in `run 01 --output-dir here seed=1`, are left over.
    parameters = _parameters(chosen.notebook, chosen.parameters + rest)
    _report(run_notebook(chosen.notebook, parameters, output_dir=chosen.output_dir))
    return 0


def _show(chosen: argparse.Namespace) -> int:
    for name, facts in notebook_parameters(chosen.notebook).items():
        print(f"{name} = {facts['default']}  # {facts['help']}")
    return 0


def _list() -> int:
    for name, title in list_notebooks():
        print(f"{name:<36}{title}")
    return 0


def _copy(chosen: argparse.Namespace) -> int:
    every = chosen.notebooks == ["all"]
    for name in [one for one, _ in list_notebooks()] if every else chosen.notebooks:
        print(copy_notebook(name, chosen.to))
    return 0


def _status(chosen: argparse.Namespace) -> int:
    folder = Path(chosen.folder) if chosen.folder else results_folder()
    found = sorted(folder.rglob("run.json")) if folder.is_dir() else []
    for path in found:
        record = read_record(path.parent) or {"status": "damaged"}
        cell = f"cell [{record['failed_cell']}]: " if record.get("failed_cell") else ""
        reason = (str(record.get("error") or "").splitlines() or [""])[0]
        print(f"{record['status']:<12}{path.parent}  {cell}{reason}".rstrip())
    if not found:
        print(f"There are no runs in {folder}.")
    return 0


def _sweep(chosen: argparse.Namespace, for_snakemake: list[str]) -> int:
    options = vars(chosen) | {"snakemake_arguments": for_snakemake}
    del options["command"]
    if options["output_dir"] is None:
        options["output_dir"] = results_folder() / "sweeps" / Path(chosen.table).stem
    sweep = run_sweep(options.pop("table"), **options)
    if chosen.dry_run:
        return sweep.exit_code
    print("\nRuns: " + ", ".join(f"{count} {name}" for name, count in sweep.counts.items()))
    for name, reason in sweep.unfinished[:_SHOWN_FAILURES]:
        lines = reason.splitlines() or [""]
        print(f"  {name}: {lines[0]}")
    if len(sweep.unfinished) > _SHOWN_FAILURES:
        print(f"  … and {len(sweep.unfinished) - _SHOWN_FAILURES} more")
    print(f"Results table: {sweep.output_dir / 'results.csv'} (and .parquet)")
    page = sweep.output_dir / "summary" / "summary.html"
    if page.exists():
        print(f"Summary:       {page}")
    if sweep.unfinished:
        print("The same command again does only what is not finished.")
    return sweep.exit_code


def _refuse(
    parser: argparse.ArgumentParser, chosen: argparse.Namespace, rest: list[str], given: list[str]
) -> NoReturn:
    """End with 2: what is left over is no option; a parameter is written another way."""
    hint = ""
    if chosen.command == "run":
        # From all that was given: newer Pythons take the value of an option for a parameter.
        words = given[given.index(chosen.notebook) + 1 :]
        if "--output-dir" in words:
            at = words.index("--output-dir")
            del words[at : at + 2]
        hint = f". Parameters are written without dashes: {_as_pairs(words)}"
    parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")


def _do(chosen: argparse.Namespace, rest: list[str], for_snakemake: list[str]) -> int:
    if chosen.command == "sweep":
        return _sweep(chosen, for_snakemake)
    if chosen.command == "run":
        return _run(chosen, rest)
    if chosen.command == "list":
        return _list()
    does = {"parameters": _show, "copy": _copy, "status": _status}
    return does[chosen.command](chosen)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = _parser()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for_snakemake: list[str] = []
    if arguments[:1] == ["sweep"] and "--" in arguments:
        cut = arguments.index("--")
        arguments, for_snakemake = arguments[:cut], arguments[cut + 1 :]
    chosen, rest = parser.parse_known_args(arguments)
    if rest and (chosen.command != "run" or any(one.startswith("-") for one in rest)):
        _refuse(parser, chosen, rest, arguments)
    try:
        for word in arguments:
            if problem := text_problem("The argument", word):
                raise NotebookError(problem)
        return _do(chosen, rest, for_snakemake)
    except SweepTableError as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 2
    except (NotebookError, OSError) as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def start() -> int:
    """Run the command line as a program, which ends in an orderly way when it is asked to end."""
    end_on_sigterm()
    return main()
