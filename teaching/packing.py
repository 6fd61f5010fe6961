"""Archives of the course: which files of the checkout are needed, and zips that do not vary."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from genot_helpers import check_output_dir
from genot_helpers.files import atomic_path

from .exercises import CHECKOUT

# What has to lie beside the notebooks so that they can be installed for and run.
NEEDED = ("pyproject.toml", "setup.py", "constraints.txt", "environment.yml", "LICENSE")
NEEDED += ("data/README.md", "data/registry.tsv")
MADE_AT = (2026, 1, 1, 0, 0, 0)  # the same files make the same archive, byte for byte


def installable_files() -> dict[str, bytes]:
    """Return the packages and what is needed to install it: path → contents."""
    package = [
        path
        for name in ("genot_helpers", "genot_runner")
        for path in sorted((CHECKOUT / name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    paths = [*(CHECKOUT / name for name in NEEDED), *package]
    return {path.relative_to(CHECKOUT).as_posix(): path.read_bytes() for path in paths}


def write_zip(files: Mapping[str, bytes | Path], path: str | Path, *, top: str) -> Path:
    """Write files into an archive, below one folder; completely or not at all.

    Parameters
    ----------
    files
        Path in the archive → contents, or a file to read them from. Wheels are stored as they
        are: they are compressed already.
    path
        Archive; its folder is created.
    top
        Name of the folder that all files are in.

    Returns
    -------
    pathlib.Path
        The archive.
    """
    path = Path(path)
    check_output_dir(path.parent)
    with atomic_path(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name in sorted(files):
            contents = files[name]
            entry = zipfile.ZipInfo(f"{top}/{name}", MADE_AT)
            packed = name.endswith((".whl", ".zip"))
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            if isinstance(contents, Path):
                contents = contents.read_bytes()
            archive.writestr(entry, contents)
    return path
