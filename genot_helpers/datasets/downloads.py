"""Public slices, downloaded once and checked, into the layout that local files have.

The addresses stand in ``data/registry.tsv``. Transport and hashes are pooch's (Uieda et al. 2020,
https://doi.org/10.21105/joss.01943). :mod:`squidpy.datasets` (1.8.2) knows some of them too, but
takes a file that is already there without checking it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import h5py
import pandas as pd
import pooch
import requests
from tqdm.auto import tqdm

from ..files import atomic_path, check_output_dir

_TIMEOUT_SECONDS = 30


class DownloadError(OSError):
    """A file could not be downloaded, or is not the one that was published."""


def fetch(
    dataset: str,
    name: str,
    data_dir: str | Path | None = None,
    *,
    registry: str | Path | None = None,
) -> Path:
    """Download all files of one slice that are not there yet, and check every one."""
    table = read_registry(registry)
    folder = download_dir(data_dir, registry=table)
    rows = slice_files(table, dataset, name)
    for row in rows.itertuples():
        path = folder / row.place
        fetch_file(row.url, path, sha256=row.sha256, size=row.bytes, shape=row.shape)
        if path.name == "spatial.tar.gz":
            _unpack(path)
    main = rows.place[rows.place.str.endswith((".h5", ".h5ad"))].iloc[0]
    path = folder / main
    return path if path.suffix == ".h5ad" else path.parent


def fetch_file(
    url: str, path: str | Path, *, sha256: str = "", size: str | int = "", shape: str = ""
) -> Path:
    """Download one file, unless it is there already, and check it."""
    path = Path(path)
    facts = {"sha256": sha256, "size": size, "shape": shape}
    if path.exists():
        problem = _problem(path, path, **facts)
        if problem:
            raise DownloadError(
                f"{path} is there, but it is not the published file: {problem}. Nothing was "
                "changed. Move it away (with its .sha256, if there is one) and run again to "
                "download it afresh, or read your own file with data_source='local'."
            )
    else:
        check_output_dir(path.parent)
        try:
            with atomic_path(path) as unfinished:
                _transfer(url, unfinished, path.name)
                problem = _problem(unfinished, path, **facts)
                if problem:
                    raise DownloadError(f"what arrived is not the published file: {problem}")
        except OSError as error:  # requests' errors are OSErrors too
            raise DownloadError(_by_hand(url, path, error)) from error
    if not sha256:
        _record(path)
    return path


def _transfer(url: str, path: Path, name: str) -> None:
    """Download with pooch, with a progress bar where somebody looks."""
    bar = tqdm(desc=name, total=1, unit="B", unit_scale=True, disable=None, leave=False)
    with contextlib.closing(bar):
        # pooch sets the total from the answer of the server.
        get = pooch.HTTPDownloader(bar, chunk_size=1 << 18, timeout=_TIMEOUT_SECONDS)
        get(url, str(path), None)


def _problem(file: Path, path: Path, *, sha256: str, size: str | int, shape: str) -> str:
    """Say what is wrong with a file that is to be kept as ``path``; empty if nothing is."""
    if size and file.stat().st_size != int(size):
        return f"{file.stat().st_size:,} bytes instead of {int(size):,}"
    expected = sha256 or _recorded(path)
    if expected:
        found = pooch.file_hash(str(file))
        whose = "published" if sha256 else "seen on first use"
        return "" if found == expected else f"SHA-256 {found} instead of {expected} ({whose})"
    try:
        found_shape = _read_shape(file, path.name)
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError) as error:
        return f"damaged, or no {''.join(path.suffixes[-2:])} file at all ({error})"
    if shape and found_shape and found_shape != shape:
        return f"{found_shape} (spots x genes) instead of {shape}"
    return ""


def _read_shape(file: Path, name: str) -> str:
    """Return ``"<spots>x<genes>"`` of an HDF5 file, and check that others are what they say."""
    if name.endswith((".h5", ".h5ad")):
        with h5py.File(file, "r") as stored:
            if "matrix" in stored:  # 10x keeps genes in rows
                genes, spots = stored["matrix/shape"][:]
            else:
                X = stored["X"]
                shape = X.attrs.get("shape", X.attrs.get("h5sparse_shape"))
                spots, genes = X.shape if shape is None else shape
        return f"{spots}x{genes}"
    with file.open("rb") as stored:
        start = stored.read(512)
    if name.endswith(".json"):
        json.loads(file.read_text(encoding="utf-8"))
    elif name.endswith(".tar.gz"):
        with tarfile.open(file) as archive:
            archive.getmembers()
    elif name.endswith(".png") and not start.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG image")
    elif name.endswith((".csv", ".tsv", ".txt")) and start.lstrip().startswith((b"<", b"{")):
        raise ValueError("a web page, not a table")
    return ""


def _recorded(path: Path) -> str:
    """Return the hash written down when the file was first used."""
    note = path.with_name(f"{path.name}.sha256")
    return note.read_text(encoding="utf-8").split()[0] if note.is_file() else ""


def _record(path: Path) -> None:
    """Write the hash down beside a file, once; not in a folder that cannot be written to."""
    note = path.with_name(f"{path.name}.sha256")
    if not note.is_file():
        with contextlib.suppress(OSError), atomic_path(note) as unfinished:
            unfinished.write_text(f"{pooch.file_hash(str(path))}  {path.name}\n", encoding="utf-8")


def _unpack(archive: Path) -> None:
    """Unpack the ``spatial/`` folder of a section beside the archive, all of it or nothing."""
    target = archive.parent / SPATIAL_FOLDER
    if target.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=archive.parent) as scratch:
        unfinished = Path(scratch) / SPATIAL_FOLDER
        unfinished.mkdir()
        with tarfile.open(archive) as files:
            for member in files:
                *folders, name = PurePosixPath(member.name).parts or ("",)
                if member.isfile() and folders[-1:] == [SPATIAL_FOLDER]:
                    with (unfinished / name).open("wb") as file:
                        shutil.copyfileobj(files.extractfile(member), file)
        unfinished.rename(target)


def _by_hand(url: str, path: Path, error: OSError) -> str:
    """Say what was tried, why it failed, and what the reader can do."""
    return (
        f"Could not download {path.name}.\n"
        f"  Tried: {url}\n"
        f"  What happened: {_what_happened(error)}.\n"
        "  Files that were complete stay; no incomplete one was left. Run again to go on.\n"
        f"  By hand: get the address above with a browser and save it as {path}\n"
        "  Without any download: data_source='demo' uses simulated tissue."
    )


def _what_happened(error: OSError) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    said = {
        requests.Timeout: f"the server did not answer within {_TIMEOUT_SECONDS} s",
        requests.exceptions.ChunkedEncodingError: "the transfer broke off",
        requests.ConnectionError: "no connection to the server (offline, or the server is down)",
    }
    full = "the disk is full" if error.errno == errno.ENOSPC else str(error)
    return next((text for kind, text in said.items() if isinstance(error, kind)), full)


# -------------------------------------------------------------------------------------------------
# The list of public files: what each slice consists of and where its files go.

INSTALLED_REGISTRY = Path(__file__).resolve().parents[1] / "data" / "registry.tsv"
SPATIAL_FOLDER = "spatial"  # Space Ranger keeps everything but the matrix there
MERFISH_STACK = "merfish.h5ad"  # all sections of the hypothalamus in one file, told by bregma
MERFISH_SECTIONS = tuple(f"merfish_{n}" for n in (29, 24, 19, 14, 9, 4, 1, 6, 11, 16, 21, 26))


def read_registry(path: str | Path | None = None) -> pd.DataFrame:
    """Read the list of public files."""
    if path is None:
        here = Path(__file__).resolve().parents[2]
        folders = (here, Path.cwd(), *Path.cwd().parents)
        places = [folder / "data" / "registry.tsv" for folder in folders]
        places.append(INSTALLED_REGISTRY)
        path = next((place for place in places if place.is_file()), places[0])
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no list of downloads at {path}. It comes with the checkout, as "
            "data/registry.tsv: work inside the checkout, or give its path as registry=... ."
        )
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table["place"] = table.dataset + "/" + table.file.map(_place)
    installed = path.resolve() == INSTALLED_REGISTRY.resolve()
    folder = pooch.os_cache("genot-helpers") if installed else path.resolve().parent
    table.attrs["folder"] = str(folder)
    return table


def _place(file: str) -> str:
    """Map the name of a published file to its place in a Space Ranger folder."""
    section, _, name = file.rpartition("/")
    if not section or name.endswith((".h5", ".tar.gz")):
        return file
    return f"{section}/{SPATIAL_FOLDER}/{name.replace('_list.txt', '_list.csv')}"


def short_name(file: str) -> str:
    """Return the name of a slice from that of its ``.h5ad`` file."""
    return re.sub(r"(_paste|_E\d+S\d+\.MOSTA)?\.h5ad$", "", file)


def download_dir(data_dir: str | Path | None = None, *, registry: pd.DataFrame) -> Path:
    """Return the folder that downloads go to."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    shared = os.environ.get("GENOT_DATA_DIR")
    if shared and os.access(shared, os.W_OK):
        return Path(shared)
    return Path(registry.attrs["folder"])


def public_slices(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (dataset, name) of every slice in the registry, each once, in order."""
    found = []
    for dataset, file in zip(table.dataset, table.file, strict=True):
        if file == MERFISH_STACK:
            found += [(dataset, name) for name in MERFISH_SECTIONS]
        elif "/" in file or file.endswith(".h5ad"):
            found.append((dataset, file.split("/")[0] if "/" in file else short_name(file)))
    return list(dict.fromkeys(found))


def slice_files(table: pd.DataFrame, dataset: str, name: str) -> pd.DataFrame:
    """Return the rows of the registry that make up one slice, shared label tables included."""
    rows = table[table.dataset == dataset]
    section = rows.file.str.startswith(f"{name}/")
    if section.any():
        return rows[section | rows.file.str.endswith(".tsv")]
    whole = rows[(rows.file.map(short_name) == name) | (rows.file == f"{name}.h5ad")]
    if whole.empty and name in MERFISH_SECTIONS:
        whole = rows[rows.file == MERFISH_STACK]
    if whole.empty:
        raise ValueError(f"The registry lists no files of {dataset!r} / {name!r}: list_slices().")
    return whole
