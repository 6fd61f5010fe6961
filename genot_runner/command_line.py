"""Command line: `python -m genot_helpers run 01 section=151674 n_domains=7`.

Exit codes: 0, all went well; 1, a run failed or could not start; 2, wrong usage, or a table of runs
with mistakes; 130, interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from .parameters import (
    NotebookError,
    SweepTableError,
    notebook_parameters,
    read_value,
)
from .run_folder import end_on_sigterm

if TYPE_CHECKING:
    from .runs import NotebookRun
    from .sweeps import SweepResult

_SHOWN_FAILURES = 20


def run_notebook(*arguments, **options) -> NotebookRun:
    """Load what runs notebooks only when one is run: it takes seconds."""
    return importlib.import_module("genot_runner.runs").run_notebook(*arguments, **options)


def run_sweep(*arguments, **options) -> SweepResult:
    """Load what runs sweeps only when one is run."""
    return importlib.import_module("genot_runner.sweeps").run_sweep(*arguments, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genot_helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute one notebook headless")
    run.add_argument("notebook", help="number, name or path of a notebook")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="parameters of it")
    run.add_argument("--output-dir", help="folder for the results (default: results/<notebook>)")
    show = commands.add_parser("parameters", help="list the parameters of a notebook")
    show.add_argument("notebook")
    _add_sweep(commands)
    return parser


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="execute a table of runs with Snakemake",
        epilog="Options after -- go to Snakemake, such as: -- --retries 0",
    )
    sweep.add_argument("table", help="CSV or YAML with one run per row")
    sweep.add_argument("--output-dir", required=True, help="folder of the sweep")
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
        parameters[name] = read_value(known.get(name), text)
    return parameters


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


def _sweep(chosen: argparse.Namespace, for_snakemake: list[str]) -> int:
    options = vars(chosen) | {"snakemake_arguments": for_snakemake}
    del options["command"]
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
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if chosen.command == "parameters":
            return _show(chosen)
        if chosen.command == "sweep":
            return _sweep(chosen, for_snakemake)
        return _run(chosen, rest)
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
