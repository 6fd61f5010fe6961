"""Where the repository is public, if it is: Binder, Colab and source links are made from it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def public_address() -> str:
    """Return `https://github.com/<owner>/<name>`, or nothing where no such address is known.

    The variable GENOT_REPOSITORY decides; else what GitHub Actions and Read the Docs say; else
    the git remote `origin`. Without an address pages have no Binder, Colab and source links.
    """
    environ = os.environ
    candidates = [environ.get("GENOT_REPOSITORY", ""), environ.get("READTHEDOCS_GIT_CLONE_URL", "")]
    if "GITHUB_REPOSITORY" in environ:
        candidates.insert(1, f"https://github.com/{environ['GITHUB_REPOSITORY']}")
    return next((one for one in map(_https, candidates) if one), "") or _https(_origin())


def branch() -> str:
    """Return the branch that Binder and Colab open: GENOT_BRANCH, else `main`."""
    return os.environ.get("GENOT_BRANCH", "main")


def _https(address: str) -> str:
    """Rewrite any form of a GitHub address, `git@…` too; nothing for addresses elsewhere."""
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", address.strip())
    return f"https://github.com/{found[1]}" if found else ""


def _origin() -> str:
    command = ["git", "remote", "get-url", "origin"]
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True).stdout
    except OSError:  # no git here
        return ""
