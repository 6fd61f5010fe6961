"""Arguments of public functions, checked before any work: right kind, finite, in a sensible range.

``@checked`` reads the kind of an argument from its annotation, so that the signature is enforced,
and its range from ``LIMITS`` or from ``@checked(n_steps=(1, 100))``. Slices are looked at by the
checks in ``SOUND``, that ``slices/slices.py`` adds. Upper limits are far beyond what is useful: a
slip of the keyboard, 10⁹ starts for 10, is an error at once.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import numpy as np
from scipy.sparse import issparse

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
R = TypeVar("R")

# Smallest and largest value allowed, by the name of the argument.
_RANGES: dict[tuple[float, float], tuple[str, ...]] = {
    (0, 2**32 - 1): ("seed",),
    (0, 1): (
        *("t", "alpha", "overlap", "min_overlap", "min_share", "matched_share", "noise"),
        *("held_out_fraction", "opacity", "tolerance"),
    ),
    (-1, 1): ("min_similarity",),
    (0, math.inf): ("unmatched_cost", "max_distance", "max_residual", "stiffness"),
    (0, 20): ("digits",),
    (1, 100): ("n_columns",),
    (0, 1_000): ("n_hops", "learning_rate"),
    (1, 1_000): ("n_length_scales", "n_sections"),
    (0, 10_000): ("n_steps", "n_smooth", "neighbour_weight", "resolution"),
    (1, 10_000): (
        *("n_domains", "n_starts", "n_kept", "n_repeats", "n_groups", "n_components"),
        "n_dimensions",
    ),
    (0, 100_000): ("n_neighbors",),
    (1, 100_000): ("n_hidden", "patience"),
    (0, 1_000_000): ("n_arrows", "n_lines", "max_epochs"),
    (1, 10**9): ("batch_size",),
    (1, 10**8): ("max_iterations",),
    (0, 10**9): ("side",),
    (1e-6, 10**9): ("spots_per_independent",),
    (0.01, 3_600): ("seconds_per_slice", "marker_size"),
    (0.01, 10_000): ("max_megabytes",),
}
LIMITS = {name: limits for limits, names in _RANGES.items() for name in names}
_COUNT = (0, 10**10)  # any other whole number
_MAY_BE_EMPTY = ("data_dir", "description", "output_dir", "sections", "slices", "title", "titles")

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
    function: Callable[P, R] | None = None, *, sound: bool = True, **limits: tuple[float, float]
) -> Any:
    """Check the arguments of a function by its annotations and by ``LIMITS`` before it runs."""
    # ``sound=False`` is for functions that say what is wrong with a slice.
    if function is None:
        return functools.partial(checked, sound=sound, **limits)
    signature = inspect.signature(function)
    name = function.__qualname__
    pairs = {key: one.default for key, one in signature.parameters.items()}
    defaults = {key: value for key, value in pairs.items() if value is not inspect.Parameter.empty}

    @functools.wraps(function)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        # Missing and unknown arguments are Python's own errors, which name them.
        given = signature.bind(*args, **kwargs).arguments
        _check_arguments(name, given, signature, limits)
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


def _check_arguments(
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
        limit = limits.get(name, LIMITS.get(name))
        problem = _problem(value, _kinds(parameter.annotation), limit)
        if isinstance(value, str | Sequence) and not len(value) and name not in _MAY_BE_EMPTY:
            problem = problem or "is empty; give one at least."
        if problem:
            error = TypeError if _WRONG_KIND in problem else ValueError
            raise error(f"{function}: argument {name} {problem}")


def _kinds(annotation: Any) -> list[str]:
    """Split ``"int | None"`` into its alternatives, outside of square brackets."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kinds: list[str] = []
    for part in text.split("|") if text else ():
        if kinds and kinds[-1].count("[") != kinds[-1].count("]"):
            kinds[-1] += f"|{part}"
        else:
            kinds.append(part.strip())
    return kinds


def _problem(value: Any, kinds: list[str], limits: tuple[float, float] | None) -> str | None:
    """Say what is wrong with a value, or None if it is one of the kinds and in range."""
    known = [kind for kind in kinds if _base(kind) in _KINDS]
    if not kinds or len(known) < len(kinds):
        return None  # an annotation that is not checked here, such as a matplotlib Figure
    if not any(_is(kind, value) for kind in known):
        wanted = " or ".join(dict.fromkeys(_KINDS[_base(kind)][1] for kind in known))
        return f"is {_described(value)}{_WRONG_KIND}{wanted}."
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return _out_of_range(value, kinds, limits)
    if any(_base(kind) in ("ArrayLike", "NDArray", "ndarray") for kind in kinds):
        return _unusable_numbers(value)
    if isinstance(value, str) and value.encode("utf-8", "ignore").decode() != value:
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
    if not _KINDS[_base(kind)][0](value):
        return False
    if kind in ("Sequence[str]", "Iterable[str]") and isinstance(value, Sequence | np.ndarray):
        return not isinstance(value, str) and all(isinstance(one, str) for one in value)
    return True


def _shown(value: Any) -> str:
    """Show a value on one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _described(value: Any) -> str:
    """Say what a value is: `3 (an int)`, `a DataFrame of 5 × 2`."""
    name = type(value).__name__
    kind = f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and not isinstance(value, np.generic):
        return f"{kind} of {' × '.join(map(str, shape))}"
    return "None" if value is None else f"{_shown(value)} ({kind})"


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


def _listed(value: Any) -> bool:
    plain = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
    return plain or _named("Index", "Series")(value)


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
_NUMBERS = (_array, "an array of numbers")
_SPARSE = (lambda v: issparse(v) or _array(v), "a sparse matrix")
# Kind → the test for it, and what it is called.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (
        lambda v: isinstance(v, Integral) and not isinstance(v, bool | np.bool_),
        "a whole number",
    ),
    "float": (_number_kind, "a number"),
    "bool": (lambda v: isinstance(v, bool | np.bool_), "True or False"),
    "str": (lambda v: isinstance(v, str), "text"),
    "Path": (lambda v: isinstance(v, Path), "a path"),
    "None": (lambda v: v is None, "None"),
    "AnnData": (_named("AnnData"), "an AnnData (load_slice reads files)"),
    "Slices": (_slices, "an AnnData, or a list or dictionary of them"),
    "DataFrame": (_named("DataFrame"), "a pandas DataFrame"),
    "Mapping": (lambda v: isinstance(v, Mapping), "a dictionary"),
    "dict": (lambda v: isinstance(v, dict), "a dictionary"),
    "Sequence": (_listed, "a list"),
    "Iterable": (lambda v: isinstance(v, Iterable) and not isinstance(v, str | bytes), "a list"),
    "tuple": (lambda v: isinstance(v, tuple | list), "a tuple"),
    **dict.fromkeys(("ArrayLike", "NDArray", "ndarray"), _NUMBERS),
    **dict.fromkeys(("spmatrix", "sparray"), _SPARSE),
    "Figure": (_named("Figure", "BaseFigure"), "a figure"),
    **{name: (_named(name), f"a {name}") for name in ("GenOTEncoder", "Coupling", "SmoothWarp")},
    "EncoderConfiguration": (_named("EncoderConfiguration"), "an EncoderConfiguration"),
    "SimilarityTransform": (_named("SimilarityTransform"), "a SimilarityTransform"),
    "Alignment": (_named("Alignment"), "an Alignment"),
    "Interpolation": (_named("Interpolation"), "an Interpolation (of prepare_interpolation)"),
}


def choose_device(name: str) -> torch.device:
    """Return the device of a name that torch knows; "auto" is a GPU if there is one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        message = f"device {name!r} cannot be used here ({error}); give 'auto' or 'cpu'"
        raise ValueError(message) from error


def progress_off(progress: bool | None) -> bool | None:
    """Translate ``progress`` into tqdm's ``disable``; None: a bar in terminals and notebooks."""
    return None if progress is None else not progress
