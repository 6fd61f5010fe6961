"""Arguments of public functions, checked before any work: right kind, finite, in a sensible range.

``@checked`` stands on every public function. The kind of an argument is read from its annotation
(``int``, ``float | None``, ``AnnData`` …), so the signature that a reader sees is also what is
enforced. Ranges are looked up by the argument's name in ``LIMITS``; a function whose range differs
gives its own: ``@checked(n_steps=(1, 100))``. Slices are looked at by the checks in ``SOUND``, that
``slices/structure.py`` adds. What neither can say (a length that must fit another) the functions
check themselves.

The upper limits are far beyond what is useful. They are there so that a slip of the keyboard, 10⁹
starts for 10, is an error at once and not a program that never ends.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

import numpy as np
from scipy.sparse import issparse

__all__ = ["ANY", "LIMITS", "SOUND", "check_arguments", "checked"]

P = ParamSpec("P")
R = TypeVar("R")

# Smallest and largest value allowed, by the name of the argument.
LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "t": (0, 1),
    "unmatched_cost": (0, math.inf),
    "max_distance": (0, math.inf),
    "max_residual": (0, math.inf),
    "alpha": (0, 1),
    "overlap": (0, 1),
    "min_overlap": (0, 1),
    "min_share": (0, 1),
    "min_similarity": (-1, 1),
    "matched_share": (0, 1),
    "held_out_fraction": (0, 1),
    "noise": (0, 1),
    "opacity": (0, 1),
    "n_domains": (1, 10_000),
    "n_neighbors": (0, 100_000),
    "n_steps": (0, 10_000),
    "n_hops": (0, 1_000),
    "n_starts": (1, 10_000),
    "n_kept": (1, 10_000),
    "n_repeats": (1, 10_000),
    "n_length_scales": (1, 1_000),
    "n_sections": (1, 1_000),
    "n_hidden": (1, 100_000),
    "n_columns": (1, 100),
    "n_groups": (1, 10_000),
    "n_arrows": (0, 1_000_000),
    "n_lines": (0, 1_000_000),
    "n_smooth": (0, 10_000),
    "n_components": (1, 10_000),
    "n_dimensions": (1, 10_000),
    "patience": (1, 100_000),
    "max_epochs": (0, 1_000_000),
    "batch_size": (1, 10**9),
    "max_iterations": (1, 10**8),
    "neighbour_weight": (0, 10_000),
    "spots_per_independent": (1e-6, 10**9),
    "digits": (0, 20),
    "seconds_per_slice": (0.01, 3_600),
    "max_megabytes": (0.01, 10_000),
    "side": (0, 10**9),
    "learning_rate": (0, 1_000),
    "resolution": (0, 10_000),
    "stiffness": (0, math.inf),  # infinite: no warp
}
_COUNT = (0, 10**10)  # any other whole number

# For ``@checked(t=ANY)``: the function looks at the range itself, because its own error says more.
ANY = (-math.inf, math.inf)

# Checks of slices, called with the name of the function, what was given, and the defaults.
SOUND: list[Callable[[str, Mapping[str, Any], Mapping[str, Any]], None]] = []
# True while a public function runs: what it calls gets slices that were looked at already.
_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)


@overload
def checked(function: Callable[P, R]) -> Callable[P, R]: ...


@overload
def checked(
    *, sound: bool = True, **limits: tuple[float, float]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def checked(
    function: Callable[P, R] | None = None,
    *,
    sound: bool = True,
    **limits: tuple[float, float],
) -> Any:
    """Check the arguments of a function by its annotations and by ``LIMITS`` before it runs.

    Parameters
    ----------
    function
        The function to check; left out where limits are given.
    sound
        Whether slices have to be sound. Not for functions that say what is wrong with a slice.
    **limits
        Smallest and largest value of an argument, instead of those in ``LIMITS``.
    """
    if function is None:
        return functools.partial(checked, sound=sound, **limits)
    signature = inspect.signature(function)
    name = function.__qualname__
    defaults = {
        one.name: one.default
        for one in signature.parameters.values()
        if one.default is not one.empty
    }

    @functools.wraps(function)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        # Missing and unknown arguments are Python's own errors, which name them.
        given = signature.bind(*args, **kwargs).arguments
        check_arguments(name, given, signature, limits)
        if _INSIDE.get():
            return function(*args, **kwargs)
        for check in SOUND if sound else ():
            check(name, given, defaults)
        inside = _INSIDE.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _INSIDE.reset(inside)

    return with_checks


def check_arguments(
    function: str,
    given: Mapping[str, Any],
    signature: inspect.Signature,
    limits: Mapping[str, tuple[float, float]],
) -> None:
    """Raise TypeError for a wrong kind, ValueError for a value out of range."""
    for name, value in given.items():
        parameter = signature.parameters[name]
        default = parameter.default
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if variable or value is default:
            continue
        kinds = _kinds(parameter.annotation)
        problem = _problem(value, kinds, limits.get(name, LIMITS.get(name)))
        if problem:
            error = TypeError if _WRONG_KIND in problem else ValueError
            raise error(f"{function}: argument {name} {problem}")


def _kinds(annotation: Any) -> list[str]:
    """Split ``"int | None"`` into its alternatives, outside of square brackets."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kinds, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            kinds.append(text[start:place].strip())
            start = place + 1
    return [*kinds, text[start:].strip()] if text else []


def _problem(value: Any, kinds: list[str], limits: tuple[float, float] | None) -> str | None:
    """Say what is wrong with a value, or None if it is one of the kinds and in range."""
    known = [kind for kind in kinds if _base(kind) in _IS]
    if not kinds or len(known) < len(kinds):
        return None  # an annotation that is not checked here, such as a matplotlib Figure
    if not any(_is(kind, value) for kind in known):
        wanted = " or ".join(dict.fromkeys(_SAY[_base(kind)] for kind in known))
        shown = "None" if value is None else f"{_shown(value)} (a {type(value).__name__})"
        return f"is {shown}{_WRONG_KIND}{wanted}."
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return _out_of_range(value, kinds, limits)
    if any(_base(kind) in ("ArrayLike", "NDArray", "ndarray") for kind in kinds):
        return _unusable_numbers(value)
    if isinstance(value, str) and not _encodable(value):
        return f"is {value!r}, which cannot be written as text; give it without surrogates."
    return None


def _out_of_range(value: Any, kinds: list[str], limits: tuple[float, float] | None) -> str | None:
    """Say what range a number has to lie in, or None."""
    low, high = limits or (_COUNT if "int" in kinds and "float" not in kinds else (-1e100, 1e100))
    value = value.item() if isinstance(value, np.generic) else value  # 1e100 is no float32
    if (low, high) == ANY or low <= value <= high:
        return None
    if not math.isfinite(value):
        return f"is {value}; give a finite number."
    return f"is {value}; give a number from {_number(low)} to {_number(high)}."


def _unusable_numbers(value: Any) -> str | None:
    """Say what is wrong with the numbers of an array, or None."""
    array = np.asarray(value) if value is not None else np.empty(0)
    if array.dtype.kind != "f" or not array.size:
        return None
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(np.atleast_1d(array)), -1).all(axis=1))
    if len(rows):
        return (
            f"has {len(rows):,} of {len(np.atleast_1d(array)):,} rows with NaN or infinite values "
            f"(first: row {rows[0]:,}); leave them out."
        )
    if float(np.abs(array).max()) > 1e50:
        return f"has values up to {np.abs(array).max():.0e}; give numbers below 1e50."
    return None


def _number(value: float) -> str:
    """Write a limit so that it can be read: 10,000 and not 10000.0."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def _base(kind: str) -> str:
    """Return the name of a kind without what stands in brackets, and without its module."""
    return kind.partition("[")[0].rpartition(".")[2]


def _is(kind: str, value: Any) -> bool:
    """Whether a value is of a kind; of containers of text, whether they hold text."""
    if not _IS[_base(kind)](value):
        return False
    if kind in ("Sequence[str]", "Iterable[str]") and isinstance(value, Sequence | np.ndarray):
        return not isinstance(value, str) and all(isinstance(one, str) for one in value)
    return True


def _shown(value: Any) -> str:
    """Show a value on one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _named(*names: str) -> Callable[[Any], bool]:
    """Return a test for a class of this name or derived from it; the class is not imported."""
    return lambda value: any(one.__name__ in names for one in type(value).__mro__)


def _number_kind(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _slices(value: Any) -> bool:
    """Whether a value is an AnnData, or a list or dictionary of them."""
    anndata = _named("AnnData")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(anndata(one) for one in value)
    return anndata(value)


def _array(value: Any) -> bool:
    """Whether a value is a numeric array or becomes one; an AnnData would be read row by row."""
    if _named("AnnData", "DataFrame")(value) or isinstance(value, str | bytes | Mapping):
        return _named("DataFrame")(value)
    if not (hasattr(value, "__array__") or isinstance(value, Sequence)):
        return False
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (TypeError, ValueError):
        return False


_WRONG_KIND = "; needed: "
_IS: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, Integral) and not isinstance(v, bool | np.bool_),
    "float": _number_kind,
    "bool": lambda v: isinstance(v, bool | np.bool_),
    "str": lambda v: isinstance(v, str),
    "Path": lambda v: isinstance(v, Path),
    "None": lambda v: v is None,
    "AnnData": _named("AnnData"),
    "Slices": _slices,
    "DataFrame": _named("DataFrame"),
    "Mapping": lambda v: isinstance(v, Mapping),
    "dict": lambda v: isinstance(v, dict),
    "Sequence": lambda v: (
        (isinstance(v, Sequence | np.ndarray) and not isinstance(v, str | bytes))
        or _named("Index", "Series")(v)
    ),
    "Iterable": lambda v: isinstance(v, Iterable) and not isinstance(v, str | bytes),
    "tuple": lambda v: isinstance(v, tuple | list),
    "ArrayLike": _array,
    "NDArray": _array,
    "ndarray": _array,
    "spmatrix": lambda v: issparse(v) or _array(v),
    "sparray": lambda v: issparse(v) or _array(v),
    "Figure": _named("Figure", "BaseFigure"),
    "GenOTEncoder": _named("GenOTEncoder"),
    "EncoderConfiguration": _named("EncoderConfiguration"),
    "Coupling": _named("Coupling"),
    "SmoothWarp": _named("SmoothWarp"),
    "SimilarityTransform": _named("SimilarityTransform"),
    "Alignment": _named("Alignment"),
    "Interpolation": _named("Interpolation"),
}
_SAY = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "text",
    "Path": "a path",
    "None": "None",
    "AnnData": "an AnnData (load_slice reads files)",
    "Slices": "an AnnData, or a list or dictionary of them",
    "DataFrame": "a pandas DataFrame",
    "Mapping": "a dictionary",
    "dict": "a dictionary",
    "Sequence": "a list",
    "Iterable": "a list",
    "tuple": "a tuple",
    "ArrayLike": "an array of numbers",
    "NDArray": "an array of numbers",
    "ndarray": "an array of numbers",
    "spmatrix": "a sparse matrix",
    "sparray": "a sparse matrix",
    "Figure": "a figure",
    "GenOTEncoder": "a GenOTEncoder",
    "EncoderConfiguration": "an EncoderConfiguration",
    "Coupling": "a Coupling",
    "SmoothWarp": "a SmoothWarp",
    "SimilarityTransform": "a SimilarityTransform",
    "Alignment": "an Alignment",
    "Interpolation": "an Interpolation (prepare_interpolation returns it)",
}
