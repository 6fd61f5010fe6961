r"""Install the GenOT notebooks from this folder, without network.

    python install.py              # into ~/genot-notebooks
    python install.py D:\course    # or wherever you like

Needs the Python version and the platform that manifest.json names, and nothing else. Nothing
outside the folder you name is written, and no package index is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


class InstallError(Exception):
    """Something is missing; the message says what to do."""


def check_machine(manifest: dict) -> None:
    """Refuse another Python or platform than the wheels were made for."""
    wanted = [manifest[key] for key in ("python", "system", "machine")]
    python = ".".join(platform.python_version_tuple()[:2])
    here = [python, platform.system(), platform.machine()]
    if here != wanted:
        raise InstallError(
            f"This bundle is for Python {wanted[0]} on {wanted[1]} ({wanted[2]}); you started "
            f"Python {here[0]} on {here[1]} ({here[2]}). Start it with that Python, or ask for a "
            "bundle made on a machine like yours."
        )


def check_files(manifest: dict) -> None:
    """Refuse a folder that was not copied completely."""
    for name, checksum in manifest["files"].items():
        path = HERE / name
        if not path.is_file():
            raise InstallError(f"{name} is missing: copy the whole folder again.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise InstallError(f"{name} is damaged: copy the whole folder again.")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive without its top folder. What is there already may be someone's work."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InstallError(
            f"{folder} exists and is not empty, and may hold your answers. Name another folder: "
            "python install.py FOLDER"
        )
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            if entry.is_dir():
                continue
            path = folder / entry.filename.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.read(entry))


def install(folder: Path) -> Path:
    """Make a virtual environment in the folder and install from the wheels; return its Python."""
    venv.create(folder / ".venv", with_pip=True)
    windows = platform.system() == "Windows"
    python = folder / ".venv" / ("Scripts/python.exe" if windows else "bin/python")
    # pip's own settings could name an index: they are left out.
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    settings |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-index"]
    command += ["--find-links", str(HERE / "wheels")]
    command += ["--constraint", str(folder / "constraints.txt"), "--editable", str(folder)]
    if subprocess.run(command, env=settings).returncode:
        raise InstallError("pip could not install from the wheels; its message stands above.")
    return python


def main(arguments: list[str]) -> int:
    """Install into the folder named, or into the home folder; return the exit code."""
    folder = Path(arguments[0] if arguments else "~/genot-notebooks").expanduser().resolve()
    try:
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
        check_machine(manifest)
        print("Checking the files of the bundle ...", flush=True)
        check_files(manifest)
        print(f"Installing into {folder} (some minutes) ...", flush=True)
        unpack(HERE / manifest["edition"], folder)
        python = install(folder)
    except (InstallError, OSError) as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    print(f"Done. Start with:  {python} -m jupyter lab {folder / 'notebooks'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
