"""Command line: `python -m genot_helpers run 01 section=151674 n_domains=7`."""

from __future__ import annotations

import argparse
import sys

from .reruns.reruns import NotebookError, NotebookRun, literal, notebook_parameters, run_notebook


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genot_helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="execute one notebook headless")
    run.add_argument("notebook", help="number, name or path of a notebook")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="parameters of it")
    run.add_argument("--output-dir", help="folder for the results (default: results/<notebook>)")
    show = commands.add_parser("parameters", help="list the parameters of a notebook")
    show.add_argument("notebook")
    return parser


def _value(default: str, text: str) -> object:
    """Read a value from the command line; text stays text where the default is text."""
    if text == "None":
        return None
    if isinstance(literal(default), str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    value = literal(text)
    return text if value is None else value


def _parameters(notebook: str, pairs: list[str]) -> dict[str, object]:
    known = notebook_parameters(notebook)
    parameters = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise NotebookError(f"{pair!r} is not of the form NAME=VALUE.")
        parameters[name] = _value(known.get(name, {}).get("default", ""), text)
    return parameters


def _report(run: NotebookRun) -> None:
    for name, value in run.metrics.items():
        print(f"  {name:<24}{value:.3f}" if isinstance(value, float) else f"  {name:<24}{value}")
    print(f"\nDone in {run.seconds:.0f} s.")
    print(f"Executed notebook:  {run.notebook}")
    print(f"The same as a page: {run.html}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    if rest and (chosen.command != "run" or any(one.startswith("-") for one in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if chosen.command == "parameters":
            for name, facts in notebook_parameters(chosen.notebook).items():
                print(f"{name} = {facts['default']}  # {facts['help']}")
            return 0
        # Parameters that follow an option, as in `run 01 --output-dir here seed=1`, are left over.
        parameters = _parameters(chosen.notebook, chosen.parameters + rest)
        _report(run_notebook(chosen.notebook, parameters, output_dir=chosen.output_dir))
    except (NotebookError, OSError) as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
