"""Files written completely or not at all, whether the disk is full or the power goes.

A result is first written to a temporary file in the same folder and then renamed over the old one,
which file systems do in one step (POSIX ``rename``,
https://pubs.opengroup.org/onlinepubs/9799919799/functions/rename.html).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import checked

if TYPE_CHECKING:
    from anndata import AnnData

# A killed process leaves its temporary file behind. One that was not written to for an hour
# belongs to no running process: transfers and writers touch theirs every few seconds.
_STALE_SECONDS = 3600.0


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it over ``path`` when all went well."""
    # After any exception, Ctrl-C included, the temporary file is removed and ``path`` is unchanged.
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file.")
    _remove_leftovers(path)
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            # A full disk shows here at the latest, before the old file is replaced.
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` that killed processes left behind."""
    ours = re.compile(rf"\.{re.escape(path.stem)}\..{{8}}\.part{re.escape(path.suffix)}")
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        # Another process may be faster, or the folder read-only.
        with contextlib.suppress(OSError):
            old = ours.fullmatch(other.name) and time.time() - other.stat().st_mtime
            if old and old > _STALE_SECONDS:
                other.unlink()


@checked
def check_output_dir(path: str | Path) -> Path:
    """Create a folder for results and make sure that files can be written there.

    Parameters
    ----------
    path
        Folder; parents are created too. ``~`` stands for the home folder.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    OSError
        If it cannot be created or written to; the message says why and what to do.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{secrets.token_hex(4)}"
        try:
            probe.write_bytes(b"test")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        message = f"Cannot write to the folder {folder} ({_reason(error)}). Choose another folder, "
        raise _os_error(error, f"{message}make room, or change its permissions.") from error
    return folder


@checked
def write_slice(adata: AnnData, path: str | Path) -> Path:
    """Write a slice as ``.h5ad``, completely or not at all.

    Parameters
    ----------
    adata
        The slice. It is not changed.
    path
        File to write; its folder is created. An existing file is replaced only by a complete one.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If ``path`` does not end in ``.h5ad``.
    OSError
        If the file cannot be written (disk full, no permission). The old file stays.
    """
    # The compressed file is put together in memory: HDF5 cannot recover when a disk fills up under
    # it, and takes the whole program down (seen with HDF5 2.0, h5py 3.16).
    import h5py
    from anndata.io import write_elem

    path = Path(path).expanduser()
    if path.suffix != ".h5ad":
        raise ValueError(f"{path.name} should end in .h5ad, the format of AnnData on disk.")
    check_output_dir(path.parent)
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip"})
        if adata.raw is None:
            file.pop("raw", None)  # anndata 0.12 writes a placeholder that its backed mode trips on
    return _write(path, image.getbuffer())


@checked
def write_json(data: Mapping[str, Any], path: str | Path) -> Path:
    """Write a dictionary as JSON, completely or not at all.

    Parameters
    ----------
    data
        Strings, numbers, lists, arrays and dictionaries; NumPy numbers become plain ones. NaN and
        infinity, which JSON does not know, become ``null``.
    path
        File to write; its folder is created.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    TypeError
        If a value has no counterpart in JSON. Nothing is written.
    OSError
        If the file cannot be written. The old file stays.
    """
    path = Path(path).expanduser()
    text = json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    check_output_dir(path.parent)
    return _write(path, text.encode("utf-8"))


def _plain(value: Any) -> Any:
    """Turn NumPy values into those that JSON knows."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _write(path: Path, content: bytes | memoryview) -> Path:
    """Write a file; an error names the reason, the state of the old file, and what to do."""
    try:
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        old = (
            "The file that was there before is unchanged." if path.exists() else "No file was left."
        )
        free = shutil.disk_usage(path.parent).free / 1e6
        raise _os_error(
            error,
            f"Could not write {path} ({_reason(error)}). {old} The disk has {free:,.0f} MB free: "
            "make room or choose another folder, then write again.",
        ) from error
    return path


def _os_error(error: OSError, message: str) -> OSError:
    """Make an OSError of the same kind (PermissionError, ...) with a message that helps."""
    return OSError(error.errno, message) if error.errno else OSError(message)


def _reason(error: OSError) -> str:
    """Return the reason of the operating system where there is one, else the first line."""
    if error.errno:
        return os.strerror(error.errno)
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
