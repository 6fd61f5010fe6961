"""A prepared interpolation in one file: kept for later, or for another machine.

Preparing two slices takes most of the time of a film, and does not depend on the position. The file
is HDF5 with a JSON header (kind, version, single numbers and names), both slices as AnnData, and
arrays under ``points``, ``warp``, ``coupling``, ``labels`` and ``decoder``: plain numbers and text,
which any program can read and which runs nothing when it is opened, as a pickle would.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from anndata.io import read_elem, write_elem
from scipy import sparse

from ..alignment.alignment import Alignment
from ..alignment.transforms import SimilarityTransform
from ..arguments import checked
from ..decoder.decoder import Decoder
from ..decoder.model import DecoderNetwork
from ..files import atomic_path
from ..slices.slices import SliceError
from ..transport.transport import Coupling
from .interpolation import Interpolation
from .placement import Filling
from .places import CarriedLabels
from .warp import SmoothWarp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KIND, _VERSION = "genot interpolation", 1
_ARRAYS = ("left_points", "right_points", "left_embedding", "right_embedding")
_NUMBERS = ("spacing", "bandwidth", "mean_bandwidth")


@checked
def save_interpolation(
    prepared: Interpolation, path: str | Path, *, alignment: Alignment | None = None
) -> None:
    """Write a prepared interpolation to one file.

    Of the slices, ``X``, ``obs``, ``var`` and ``uns["genot"]`` are kept, which is what generating
    needs. Images, layers and graphs are not.

    Parameters
    ----------
    prepared
        From :func:`genot_helpers.interpolation.prepare_interpolation`.
    path
        The file, ending in ``.h5``; its folder must exist. It is written completely or not at all.
    alignment
        How the right slice came into the frame of the left one
        (:func:`genot_helpers.alignment.align`), to be kept with it.

    Raises
    ------
    TypeError, ValueError
        If ``prepared`` is something else, or the path does not end in ``.h5``.

    Examples
    --------
    >>> save_interpolation(prepare_interpolation(left, right), "film.h5")
    >>> frame = load_interpolation("film.h5").at(0.3)
    """
    path = Path(path)
    if path.suffix != ".h5":
        raise ValueError(f"path is {str(path)!r}: give a file name that ends in .h5.")
    header: dict[str, Any] = {"kind": _KIND, "version": _VERSION}
    header |= {name: float(getattr(prepared, name)) for name in _NUMBERS}
    header["filling"] = {k: _plain(v) for k, v in prepared.filling._asdict().items()}
    header |= {"mean": prepared.mean, "seed": prepared.seed, "seconds": prepared.seconds}
    parts: dict[str, Any] = {f"points/{name}": getattr(prepared, name) for name in _ARRAYS}
    parts |= {name: _bare(getattr(prepared, name)) for name in ("left", "right")}
    for name, write in (
        ("warp", _warp_parts), ("coupling", _coupling_parts),
        ("labels", _label_parts), ("decoder", _decoder_parts),
    ):  # fmt: skip
        value = getattr(prepared, name)
        if value is not None:
            header[name], arrays = write(value)
            parts |= {f"{name}/{key}": array for key, array in arrays.items()}
    if alignment is not None:
        header["alignment"] = {k: _plain(v) for k, v in vars(alignment).items() if k != "transform"}
        header["transform"] = {k: _plain(v) for k, v in alignment.transform.to_dict().items()}
    with atomic_path(path) as unfinished, h5py.File(unfinished, "w") as file:
        write_elem(file, "header", json.dumps(header))
        for name, value in parts.items():
            write_elem(file, name, value)


@checked
def load_interpolation(path: str | Path) -> Interpolation:
    """Read the file of :func:`save_interpolation`, ready to generate the same bits as before.

    Raises
    ------
    FileNotFoundError, SliceError
        If there is no such file; if it is damaged, or something else.
    """
    header, parts = _read(path)
    try:
        arrays = {name: parts[f"points/{name}"] for name in _ARRAYS}
        labels, decoder = (
            make(header[name], _under(parts, name)) if name in header else None
            for name, make in (("labels", _make_labels), ("decoder", _make_decoder))
        )
        filling = header["filling"]
        return Interpolation(
            left=parts["left"], right=parts["right"], **arrays,
            warp=_make_warp(header["warp"], _under(parts, "warp")),
            coupling=_make_coupling(header["coupling"], _under(parts, "coupling")),
            **{name: header[name] for name in (*_NUMBERS, "mean", "seed", "seconds")},
            filling=Filling(**filling | {"signal": tuple(filling["signal"])}),
            labels=labels, decoder=decoder,
        )  # fmt: skip
    except (KeyError, TypeError, RuntimeError) as error:
        raise SliceError(f"{path} lacks a part of an interpolation: {error}.") from error


@checked
def load_alignment(path: str | Path) -> Alignment | None:
    """Read the alignment that was saved with an interpolation; None if there was none.

    Raises
    ------
    FileNotFoundError, SliceError
        As :func:`load_interpolation`.
    """
    header, _ = _read(path, names=())
    if "alignment" not in header:
        return None
    facts = header["alignment"]
    facts |= {"overlap": tuple(facts["overlap"]), "problems": tuple(facts["problems"])}
    return Alignment(SimilarityTransform.from_dict(header["transform"]), **facts)


def _read(path: str | Path, names: tuple | None = None) -> tuple[dict, dict[str, Any]]:
    """Read the header and the parts of a file; only what is named, if names are given."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give a file of save_interpolation.")
    try:
        with h5py.File(path, "r") as file:
            header = json.loads(read_elem(file["header"]))
            if header.get("kind") != _KIND or header.get("version") != _VERSION:
                raise KeyError(f"kind {header.get('kind')!r}, version {header.get('version')!r}")
            parts: dict[str, Any] = {}
            for name in file if names is None else names:
                here = file[name]
                if name in ("header", "left", "right"):
                    parts[name] = read_elem(here)
                else:
                    parts |= {f"{name}/{key}": read_elem(here[key]) for key in here}
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise SliceError(
            f"{path} is no file of save_interpolation, or damaged: {error}."
        ) from error
    return header, parts


def _under(parts: dict[str, Any], name: str) -> dict[str, Any]:
    """Parts that belong to one thing."""
    return {k.partition("/")[2]: v for k, v in parts.items() if k.startswith(f"{name}/")}


def _bare(adata: AnnData) -> AnnData:
    """Keep of a slice what generating needs."""
    facts = {"genot": adata.uns["genot"]} if "genot" in adata.uns else {}
    return AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), uns=facts)


def _plain(value: Any) -> Any:
    """Make a value fit for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _warp_parts(warp: SmoothWarp) -> tuple[dict, dict[str, NDArray]]:
    trials = [[float(k), float(v)] for k, v in warp.trials.items()]
    arrays = {"corner": warp.corner, "size": warp.size, "coefficients": warp.coefficients}
    return {"stiffness": float(warp.stiffness), "trials": trials}, arrays


def _make_warp(facts: dict, arrays: dict[str, NDArray]) -> SmoothWarp:
    trials = dict(map(tuple, facts["trials"]))
    return SmoothWarp(**arrays, stiffness=facts["stiffness"], trials=trials)


_MASSES = ("plan", "left_unmatched", "right_unmatched")


def _coupling_parts(coupling: Coupling) -> tuple[dict, dict[str, Any]]:
    others = [f.name for f in fields(coupling) if f.name not in _MASSES]
    facts = {name: _plain(getattr(coupling, name)) for name in others}
    return facts, {name: getattr(coupling, name) for name in _MASSES}


def _make_coupling(facts: dict, arrays: dict[str, Any]) -> Coupling:
    arrays["plan"] = sparse.csr_matrix(arrays["plan"])
    return Coupling(**arrays, **facts)


def _label_parts(labels: CarriedLabels) -> tuple[dict, dict[str, NDArray]]:
    facts = {k: _plain(v) for k, v in labels._asdict().items() if k != "votes"}
    return facts, dict(zip(("left", "right"), labels.votes, strict=True))


def _make_labels(facts: dict, arrays: dict[str, NDArray]) -> CarriedLabels:
    return CarriedLabels(**facts, votes=(arrays["left"], arrays["right"]))


_OF_TRAINING = ("likelihood", "use_rep", "library_size", "seed", "best_epoch", "stopped_early")
_OF_TRAINING += ("interrupted", "seconds")


def _decoder_parts(decoder: Decoder) -> tuple[dict, dict[str, NDArray]]:
    facts = {name: _plain(getattr(decoder, name)) for name in _OF_TRAINING}
    facts |= {"sizes": list(decoder.network.sizes), "slices": list(decoder.slices)}
    facts["genes"] = decoder.genes.astype(str).tolist()
    facts["history"] = {k: _plain(np.asarray(v)) for k, v in decoder.history.items()}
    weights = {k: v.detach().cpu().numpy() for k, v in decoder.network.state_dict().items()}
    return facts, weights | {"held_out_losses": decoder.held_out_losses}


def _make_decoder(facts: dict, arrays: dict[str, NDArray]) -> Decoder:
    losses = arrays.pop("held_out_losses")
    network = DecoderNetwork(*facts["sizes"])
    network.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    return Decoder(
        network=network.eval(),
        genes=pd.Index(facts["genes"]),
        slices=tuple(facts["slices"]),
        history={name: np.array(values) for name, values in facts["history"].items()},
        held_out_losses=losses,
        **{name: facts[name] for name in _OF_TRAINING},
    )
