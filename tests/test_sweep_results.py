"""The results table and the summary of a sweep, from folders written here."""

from __future__ import annotations

import csv
import json

import matplotlib.pyplot as plt
import pandas as pd
import pyarrow.parquet as pq
import pytest

from genot_runner import sweep_results
from genot_runner.sweep_results import collect_results, summarise_states
from genot_runner.sweep_summary import (
    plot_score_by_parameter,
    plot_seed_spread,
    sweep_scores,
    varied_parameters,
)


def write_run(folder, name, metrics, **record):
    run = folder / "runs" / name
    run.mkdir(parents=True)
    base = {"status": "finished", "error": None, "seed": 0, "parameters": {"seed": 0}}
    (run / "run.json").write_text(json.dumps(base | record))
    (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def collected(tmp_path):
    write_run(tmp_path, "a", {"ari": 1, "kind": "x", "list": [1, 2]})
    write_run(tmp_path, "b", {"ari": 0.5, "kind": 3, "only_b": True})
    write_run(tmp_path, "c", {"ari": 9.0}, status="failed", error="ValueError: no", failed_cell=3)
    write_run(tmp_path, "d", {"ari": 9.0}, status="running")
    write_run(tmp_path, "extra", {"ari": 9.0})  # of an earlier table
    plan = {name: {"notebook": "x/01_tiny.ipynb", "parameters": {"seed": 4}} for name in "abcde"}
    (tmp_path / "plan.json").write_text(json.dumps({"runs": plan}))
    return tmp_path


def test_one_row_for_each_run_of_the_plan(collected, monkeypatch):
    monkeypatch.setattr(sweep_results, "_CHUNK", 2)
    parquet, table = collect_results(collected)
    frame = pd.read_parquet(parquet).set_index("run")
    assert list(frame.index) == list("abcde")
    assert list(frame["status"]) == ["finished", "finished", "failed", "interrupted", "missing"]
    assert frame["metric.ari"].tolist()[:2] == [1.0, 0.5]
    assert frame["metric.ari"].isna().tolist() == [False, False, True, True, True]
    assert frame["metric.kind"].tolist()[:2] == ["x", "3"]  # text and numbers: text
    assert frame.loc["a", "metric.list"] == "[1, 2]"
    assert frame.loc["c", "failed_cell"] == 3
    assert "killed" in frame.loc["d", "error"]
    assert "logs/" in frame.loc["e", "error"]
    assert frame.loc["e", "parameter.seed"] == 4
    assert pq.ParquetFile(parquet).num_row_groups == 3  # written two rows at a time
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["run", *frame.columns]
    assert [row["metric.ari"] for row in rows] == ["1.0", "0.5", "", "", ""]
    counts, unfinished = summarise_states(collected)
    assert counts == {"finished": 2, "failed": 1, "interrupted": 1, "missing": 1}
    assert unfinished[0] == ("c", "cell [3]: ValueError: no")


def frame(**columns):
    base = {"status": "finished", "seed": [0, 1, 0, 1], "parameter.seed": [0, 1, 0, 1]}
    return pd.DataFrame(base | columns)


def test_scores_stand_beside_the_best_trivial_answer():
    domains = frame(
        **{
            "parameter.k": [5, 5, 7, 7],
            "metric.ari": [0.5, 0.6, 0.7, None],
            "metric.baseline_ari": [0.4, 0.4, 0.5, 0.5],
        }
    )
    scores = sweep_scores(domains)
    assert scores["score"].tolist() == [0.5, 0.6, 0.7]
    assert scores["baseline"].tolist() == [0.4, 0.4, 0.5]
    assert scores["setting"].tolist() == ["k=5", "k=5", "k=7"]
    assert scores.attrs == {"score": "adjusted Rand index", "parameters": ["k"]}
    generated = frame(
        **{
            "metric.genot.map": [0.5] * 4,
            "metric.copy_left.map": [0.3] * 4,
            "metric.union.map": [0.4] * 4,
        }
    )
    assert sweep_scores(generated)["baseline"].tolist() == [0.4] * 4
    own = sweep_scores(frame(**{"metric.mine": [1.0, 2.0, 3.0, 4.0]}), "mine")
    assert own["baseline"].isna().all()
    assert set(own["setting"]) == {"defaults"}
    with pytest.raises(KeyError, match="There are: ari, baseline_ari"):
        sweep_scores(domains, "nmi")


def test_failed_runs_have_no_score():
    table = frame(**{"metric.ari": [0.5, 0.6, 0.7, 0.8]})
    table["status"] = ["finished", "failed", "finished", "interrupted"]
    assert sweep_scores(table)["score"].tolist() == [0.5, 0.7]


def test_parameters_that_vary():
    table = frame(**{"parameter.k": [5, 5, 7, 7], "parameter.rate": 1.0, "parameter.t": [None] * 4})
    assert varied_parameters(table) == ["k"]


def test_figures_show_every_run_and_the_baseline():
    table = frame(
        **{
            "parameter.k": [5, 5, 7, 7],
            "parameter.section": ["151673", "151674", "151673", "151674"],
            "parameter.quick": [True, False, False, True],
            "metric.ari": [0.5, 0.6, 0.7, 0.8],
            "metric.baseline_ari": [0.4, 0.4, 0.5, 0.5],
        }
    )
    scores = sweep_scores(table)
    figure = plot_score_by_parameter(scores)
    numbers, names, switch = figure.axes
    assert numbers.get_xlabel() == "k"
    assert numbers.get_ylabel() == "adjusted Rand index"
    assert [text.get_text() for text in numbers.get_xticklabels()] == ["5", "7"]
    assert numbers.get_xticks().tolist() == [5, 7]
    assert names.get_xticks().tolist() == [0, 1]  # names of digits are names
    assert [text.get_text() for text in switch.get_xticklabels()] == ["False", "True"]
    drawn = [line.get_ydata().tolist() for line in numbers.lines]
    assert [0.5, 0.6, 0.7, 0.8] in drawn
    assert [0.4, 0.4, 0.5, 0.5] in drawn
    spread = plot_seed_spread(scores, max_settings=3).axes[0]
    labels = [text.get_text() for text in spread.get_yticklabels()]
    assert len(labels) == 3
    assert labels[-1] == "k=7, section=151674, quick=True"  # the best mean on top
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_score_by_parameter(scores, [])
    plt.close("all")


def test_a_spreadsheet_runs_nothing(tmp_path):
    folder = tmp_path / "runs" / "01"
    folder.mkdir(parents=True)
    evil = ["=HYPERLINK(1)", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "good", "a=b"]
    metrics = {str(number): text for number, text in enumerate(evil)} | {"loss": -1.5}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    record = {"status": "finished", "parameters": {"gene": "=1+1", "t": -1}}
    (folder / "run.json").write_text(json.dumps(record))
    plan = {"runs": {"01": {"notebook": "01.ipynb", "parameters": {}}}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    parquet, table = collect_results(tmp_path)
    with table.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row[f"metric.{number}"] for number in range(7)] == [
        *("'=HYPERLINK(1)", "'+1", "'-1+cmd", "'@SUM(A1)", "'\t=1", "good", "a=b")
    ]
    assert row["parameter.gene"] == "'=1+1"
    assert row["metric.loss"] == "-1.5"  # a number
    assert pq.read_table(parquet).to_pylist()[0]["metric.0"] == "=HYPERLINK(1)"


@pytest.mark.parametrize("record", [[], {"status": "finished", "parameters": 3, "seed": "x"}, 5])
def test_records_written_by_hand_stop_nothing(tmp_path, record):
    folder = tmp_path / "runs" / "01"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    plan = {"runs": {"01": {"notebook": "01.ipynb", "parameters": {"seed": 1}}}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    collect_results(tmp_path)
    assert sum(summarise_states(tmp_path)[0].values()) == 1
