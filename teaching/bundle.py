"""A folder for a USB stick: everything to install and run the notebooks without network.

    python -m teaching.bundle                 # dist/genot-offline/, for this platform and Python

It holds a wheel house (every package in the pinned version), the student edition, the checkout as
an archive, an install script that needs nothing but Python, and a manifest of all files. There are
no data in it: the demo data of the notebooks are simulated while they run.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from genot_helpers import check_output_dir, write_json

from .editions import make_edition
from .exercises import CHECKOUT
from .packing import write_zip

HERE = CHECKOUT / "teaching"
FOLDER = CHECKOUT / "dist" / "genot-offline"


class BundleError(RuntimeError):
    """The bundle could not be made."""


def wheels_wanted(project: Path = CHECKOUT) -> list[str]:
    """Return what pip has to find offline: the dependencies, and what builds the package."""
    facts = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return [*facts["project"]["dependencies"], *facts["build-system"]["requires"]]


def fill_wheel_house(folder: Path, *, torch_index: str = "") -> None:
    """Download or build a wheel of every package, in the pinned versions, for this platform.

    Parameters
    ----------
    folder
        Where the wheels go. Those that are there already are not fetched again.
    torch_index
        Address of the package index for torch alone, such as that of its CPU builds; otherwise
        pip's own setting.

    Raises
    ------
    BundleError
        If pip fails; its own message stands above.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--constraint", str(CHECKOUT / "constraints.txt")]
    pip += ["--wheel-dir", str(folder), "--find-links", str(folder)]
    runs = [[*pip, "--index-url", torch_index, "torch"]] if torch_index else []
    for command in [*runs, [*pip, *wheels_wanted()]]:
        if subprocess.run(command, cwd=CHECKOUT).returncode:
            raise BundleError(
                "pip could not fetch or build every package (see above). Nothing is lost: start "
                "again, and what is there already is kept."
            )


def archive_checkout(path: Path) -> Path:
    """Write every file that git tracks or would track, as it is now, into one archive.

    Raises
    ------
    BundleError
        If this is no git checkout.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        raise BundleError(
            f"{CHECKOUT} is no git checkout, or git is not installed: the bundle holds an archive "
            "of the checkout. Clone the repository and start there."
        ) from problem
    names = [name for name in listed.decode().split("\0") if name and (CHECKOUT / name).is_file()]
    return write_zip({name: CHECKOUT / name for name in names}, path, top="genot-notebooks")


def write_manifest(folder: Path, edition: str) -> Path:
    """Write manifest.json: for which platform the folder is, and a checksum of every file."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    facts = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": platform.system(),
        "machine": platform.machine(),
        "edition": edition,
        "files": files,
    }
    return write_json(facts, folder / "manifest.json")


def assemble(folder: Path, wheels: Path, archives: Mapping[str, Path]) -> Path:
    """Put wheels, archives, script and README into a folder, with a manifest.

    Parameters
    ----------
    folder
        The bundle. What an earlier one left there goes, but for its wheels if they are `wheels`.
    wheels
        Folder with the wheels.
    archives
        Name → archive; the first one is what the script installs.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    check_output_dir(folder / "wheels")
    if not any(wheels.glob("*.whl")):
        raise BundleError(f"{wheels} holds no wheel (*.whl).")
    if wheels.resolve() != (folder / "wheels").resolve():
        shutil.rmtree(folder / "wheels")
        shutil.copytree(wheels, folder / "wheels")
    for name, path in archives.items():
        if path.resolve() != (folder / name).resolve():
            shutil.copyfile(path, folder / name)
    shutil.copyfile(HERE / "install.py", folder / "install.py")
    shutil.copyfile(HERE / "offline.md", folder / "README.md")
    write_manifest(folder, next(iter(archives)))
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Make the bundle; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m teaching.bundle", description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to use; pip is not asked")
    parser.add_argument("--torch-index", default="", help="package index for torch alone")
    chosen = parser.parse_args(arguments)
    try:
        check_output_dir(FOLDER / "wheels")
        student = make_edition("student", FOLDER)
        checkout = archive_checkout(FOLDER / "genot-notebooks-checkout.zip")
        if chosen.wheels is None:
            fill_wheel_house(FOLDER / "wheels", torch_index=chosen.torch_index)
        archives = {path.name: path for path in (student, checkout)}
        assemble(FOLDER, chosen.wheels or FOLDER / "wheels", archives)
    except (BundleError, OSError, ValueError) as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER} ({size / 1e9:.2f} GB). Copy the folder to a stick; on it: python install.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
