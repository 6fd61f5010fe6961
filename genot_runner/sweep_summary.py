"""What a sweep found: scores beside the trivial baseline, by parameter and over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genot_helpers.plotting.plotting import PALETTE

__all__ = ["plot_score_by_parameter", "plot_seed_spread", "sweep_scores", "varied_parameters"]

# A notebook's main score, and the trivial answers it stands beside: the best of them counts.
_SCORES = {
    "ari": ("baseline_ari",),
    "genot.map": ("copy_left.map", "copy_right.map", "union.map"),
}
_WORDS = {"ari": "adjusted Rand index", "genot.map": "map correlation"}
_OURS, _BASELINE = PALETTE[0], "0.45"


def varied_parameters(results: pd.DataFrame) -> list[str]:
    """Return the parameters that differ between runs, without their prefix and without the seed.

    Parameters
    ----------
    results : DataFrame
        Rows of one notebook from `results.parquet`.
    """
    names = [name for name in results if name.startswith("parameter.")]
    varied = [name for name in names if results[name].nunique(dropna=False) > 1]
    return [name.removeprefix("parameter.") for name in varied if name != "parameter.seed"]


def sweep_scores(results: pd.DataFrame, score: str = "auto") -> pd.DataFrame:
    """Take the score and the baseline of every finished run of one notebook.

    Parameters
    ----------
    results : DataFrame
        Rows of one notebook from `results.parquet`.
    score : str
        A metric; "auto" takes the adjusted Rand index of domains ("ari") or the map correlation of
        a generated slice ("genot.map"), whichever the notebook writes.

    Returns
    -------
    DataFrame
        One row per finished run: `score`, `baseline` (the best trivial answer of that run; NaN if
        there is none), `seed`, the parameters that vary, and `setting`, these in words.
        `attrs["score"]` names the score, `attrs["parameters"]` the parameters.

    Raises
    ------
    KeyError
        If no run has such a metric.
    """
    measured = [one for one in results if one.startswith("metric.") and results[one].notna().any()]
    if score == "auto":
        score = next((one for one in _SCORES if f"metric.{one}" in measured), score)
    if f"metric.{score}" not in measured:
        raise KeyError(
            f"No run has the metric {score!r}. There are: "
            f"{', '.join(one.removeprefix('metric.') for one in measured) or 'none'}."
        )
    trivial = _SCORES.get(score, (f"baseline_{score}",))
    beside = [f"metric.{one}" for one in trivial if f"metric.{one}" in measured]
    finished = results[results["status"] == "finished"]
    numbers = finished[[f"metric.{score}", *beside]].apply(pd.to_numeric, errors="coerce")
    scores = pd.DataFrame({"score": numbers[f"metric.{score}"], "seed": finished["seed"]})
    scores["baseline"] = numbers[beside].max(axis=1) if beside else np.nan
    parameters = varied_parameters(finished)
    for name in parameters:
        scores[name] = finished[f"parameter.{name}"]
    scores = scores[scores["score"].notna()].reset_index(drop=True)
    columns = [scores[name].tolist() for name in parameters]
    rows = zip(*columns, strict=True) if columns else [()] * len(scores)
    scores["setting"] = [_setting(dict(zip(parameters, row, strict=True))) for row in rows]
    scores.attrs |= {"score": _WORDS.get(score, score), "parameters": parameters}
    return scores


def plot_score_by_parameter(
    scores: pd.DataFrame, parameters: Sequence[str] | None = None
) -> Figure:
    """Draw every run's score against each parameter, its mean, and the mean of the baseline.

    Parameters
    ----------
    scores : DataFrame
        From :func:`sweep_scores`.
    parameters : sequence of str, optional
        Its columns to draw, one panel each; default: all that vary.

    Raises
    ------
    ValueError
        If there are none.
    """
    parameters = scores.attrs["parameters"] if parameters is None else list(parameters)
    if not parameters:
        raise ValueError("No parameter but the seed varies: there is nothing to draw.")
    n_columns = min(len(parameters), 3)
    n_rows = -(-len(parameters) // n_columns)
    figure, axes = plt.subplots(
        *(n_rows, n_columns),
        figsize=(max(3.3 * n_columns, 7.0), 3.0 * n_rows + 0.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, name in zip(axes.flat, parameters, strict=False):
        _draw_parameter(scores, name, ax)
    for ax in axes.flat[len(parameters) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel(scores.attrs["score"])
    _legend(figure, axes.flat[0], "_")
    return figure


def _draw_parameter(scores: pd.DataFrame, name: str, ax: plt.Axes) -> None:
    filled = scores[name].astype(object).where(scores[name].notna(), "None")
    numeric = pd.to_numeric(filled, errors="coerce").notna().all() and _holds_numbers(scores[name])
    values = filled.astype(float) if numeric else filled.astype(str)
    levels = sorted(values.unique())
    places = dict(zip(levels, levels if numeric else range(len(levels)), strict=True))
    where = values.map(places).to_numpy(float)
    ax.plot(where, scores["baseline"], "s", color=_BASELINE, ms=4, alpha=0.5)
    ax.plot(where, scores["score"], "o", color=_OURS, ms=5, alpha=0.6, mew=0)
    means = scores.groupby(where)[["score", "baseline"]].mean()
    join = "-" if numeric else ""  # between names there is nothing
    ax.plot(means.index, means["baseline"], ls=join and "--", marker="_", ms=16, color=_BASELINE)
    ax.plot(means.index, means["score"], ls=join, marker="_", ms=16, mew=2, color=_OURS)
    ax.set(xlabel=name, xticks=list(places.values()))
    ax.set_xticklabels([f"{level:g}" if numeric else level for level in levels])
    margin = 0.15 * (np.ptp(list(places.values())) or 1.0) if numeric else 0.5
    ax.set_xlim(min(places.values()) - margin, max(places.values()) + margin)
    if max(len(str(level)) for level in levels) * len(levels) > 30:
        ax.tick_params(axis="x", rotation=30)
    ax.spines[["top", "right"]].set_visible(False)


def _holds_numbers(column: pd.Series) -> bool:
    """Tell numbers from names made of digits, such as those of sections."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def plot_seed_spread(scores: pd.DataFrame, *, max_settings: int = 30) -> Figure:
    """Draw the spread over seeds: one line per setting, one dot per run, the mean as a bar.

    Parameters
    ----------
    scores : DataFrame
        From :func:`sweep_scores`.
    max_settings : int
        Settings to draw, the best means first.
    """
    means = scores.groupby("setting")[["score", "baseline"]].mean().sort_values("score")
    means = means.tail(max_settings)
    width = 5.5 + 0.075 * max((len(name) for name in means.index), default=0)
    figure, ax = plt.subplots(figsize=(width, 0.26 * len(means) + 1.6), layout="constrained")
    for place, (name, mean) in enumerate(means.iterrows()):
        runs = scores[scores["setting"] == name]
        ax.plot(runs["baseline"], [place] * len(runs), "s", color=_BASELINE, ms=4, alpha=0.5)
        ax.plot(runs["score"], [place] * len(runs), "o", color=_OURS, ms=5, alpha=0.6, mew=0)
        ax.plot(mean["score"], place, "|", color=_OURS, ms=14, mew=2)
        ax.plot(mean["baseline"], place, "|", color=_BASELINE, ms=14, mew=1.5)
    ax.set(xlabel=scores.attrs["score"], yticks=range(len(means)), yticklabels=means.index)
    ax.set_ylim(-0.6, len(means) - 0.4)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, ax, "|")
    return figure


def _setting(row: dict[str, object]) -> str:
    words = (f"{name}={_short(value)}" for name, value in row.items() if not pd.isna(value))
    return ", ".join(words) or "defaults"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and value is not True else str(value)


def _legend(figure: Figure, ax: plt.Axes, bar: str) -> None:
    handles = [
        ax.plot([], [], "o", color=_OURS, ms=5, label="a run")[0],
        ax.plot([], [], bar, color=_OURS, ms=14, mew=2, label="mean of the runs")[0],
        ax.plot([], [], "s", color=_BASELINE, ms=4, label="trivial baseline")[0],
        ax.plot([], [], bar, color=_BASELINE, ms=14, mew=1.5, label="mean of the baseline")[0],
    ]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=4)
