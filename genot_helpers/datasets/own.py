"""The reader's own files: an ``.h5ad``, a Space Ranger folder, or a folder of several slices."""

from __future__ import annotations

import difflib
from pathlib import Path

from anndata import AnnData

from .folders import read_slice, slices_inside, space_ranger_folder

__all__ = ["own_slices", "read_own", "unknown"]


def own_slices(path: str | Path) -> list[str]:
    """List the slices in the reader's own file or folder, without reading them.

    Parameters
    ----------
    path
        As ``data_source`` of :func:`genot_helpers.datasets.load_slice`: an ``.h5ad`` file, a Space
        Ranger folder, or a folder with several of either.

    Returns
    -------
    list of str
        Names that ``load_slice(name, data_source=path)`` knows, sorted. Of a single file or Space
        Ranger folder: its own name (there any name will do).

    Raises
    ------
    FileNotFoundError
        If there is no such path, or nothing in it; with the near ones.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path.stem]
    if not path.is_dir():
        raise FileNotFoundError(_no_path(path))
    place = space_ranger_folder(path)
    if place is not None:
        return [path.resolve().name]
    found = slices_inside(path)
    if not found:
        raise FileNotFoundError(
            f"{path} is neither a Space Ranger folder nor holds slices. A Space Ranger folder has "
            "filtered_feature_bc_matrix.h5 and spatial/ in it; other slices are .h5ad files."
        )
    return list(found)


def read_own(path: str | Path, name: str) -> AnnData:
    """Read one slice from the reader's own file or folder; a folder of several needs the name."""
    path = Path(path).expanduser()
    names = own_slices(path)
    if path.is_file():
        return read_slice(path, name, path.parent)
    place = space_ranger_folder(path)
    if place is not None:
        return read_slice(place, name, path.resolve().parent)
    if name not in names:
        raise ValueError(unknown("slice", name, names, str(path)))
    return read_slice(slices_inside(path)[name], name, path)


def unknown(what: str, given: str, known: list[str], where: str) -> str:
    """Say that a name is not known, and which ones are near."""
    if not known:
        return (
            f"{where} holds no {what}. Give the folder that holds a folder for each data set, as "
            "data/README.md describes."
        )
    near = difflib.get_close_matches(given, known, n=4, cutoff=0.6)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    listed = ", ".join(known[:15]) + (", …" if len(known) > 15 else "")
    return f"No {what} is called {given!r} in {where}. {hint}There: {listed}. See list_slices()."


def _no_path(path: Path) -> str:
    """Say that a path does not exist, and what is near."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), ["demo", "local", "download"], n=1)
    near += difflib.get_close_matches(path.name, beside, n=3)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    return (
        f"data_source={str(path)!r} is no known source and no existing path. {hint}Give 'demo', "
        "'local', 'download', or the path of an .h5ad file or a Space Ranger folder."
    )
