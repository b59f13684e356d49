"""examples/policy.ipynb, run cell by cell, and what Python gets of a backtest.

The cells are run here as Jupyter runs them, in one namespace, the last expression of each shown by
its `_repr_html_`. A Jupyter kernel would bring some thirty packages for no more than that.
`make docs` writes the outputs into the notebook; the test holds the texts against them.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import re
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas
import polars
import pytest

from signalcanary import Condition, Rollback, SignalCanary, SignalCanarySpec, Stage, Symbols
from signalcanary import backtest as backtests
from signalcanary.backtest.simulation import Decay, Market

NOTEBOOK = Path(__file__).parents[3] / "examples/policy.ipynb"
SVG = re.compile(r'src="data:image/svg\+xml;base64,([^"]+)"')


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell; gives its outputs as the notebook format has them."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, shown = StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines(text)})
    if shown is not None:
        data = {"text/plain": lines(repr(shown))}
        if hasattr(shown, "_repr_html_"):
            data = {"text/html": lines(shown._repr_html_())} | data
        outputs.append({"data": data, "metadata": {}, "output_type": "execute_result"})
    return outputs


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    return ["".join(o.get("text") or o["data"]["text/plain"]) for o in outputs]


def test_the_notebook_runs_and_shows_what_is_written_in_it() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        outputs = run_cell("".join(cell["source"]), names)
        for output in outputs:
            if output["output_type"] == "execute_result":
                output["execution_count"] = number
        if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
            cell["outputs"], cell["execution_count"] = outputs, number
        assert texts(cell["outputs"]) == texts(outputs), "run make docs"
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
        NOTEBOOK.write_text(text + "\n")
    told = "".join("".join(texts(cell["outputs"])) for cell in cells)
    assert "did you mean below?" in told
    assert "v2.1: Promoted" in told
    assert "v2.1: RolledBack" in told
    pictures = [
        p for cell in cells for p in SVG.findall(json.dumps(cell["outputs"]).replace('\\"', '"'))
    ]
    assert len(pictures) == 2
    for picture in pictures:
        root = ElementTree.fromstring(base64.b64decode(picture))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_the_page_s_first_examples_run() -> None:
    page = (NOTEBOOK.parents[1] / "docs/python.md").read_text()
    build, replay = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2]
    names: dict[str, Any] = {"frame": columns(0.2), "polars": polars}
    for block in (build, replay):
        run_cell(block, names)
    assert names["same"] == names["canary"]
    assert names["story"].outcome is backtests.Outcome.ROLLED_BACK


ECE = "platt_ece"
SPEC = SignalCanarySpec(
    version="v2",
    symbols=Symbols(canary=("BTCUSDT",), full=("BTCUSDT",)),
    stages=(Stage(name="canary", duration=timedelta(minutes=5)),),
    rollback=Rollback(conditions=(Condition(metric=ECE, above=0.1, mode="literal"),)),
)


def columns(value: float) -> dict[str, list[Any]]:
    start = datetime(2026, 5, 1, 8, tzinfo=UTC)
    return {
        "time": [start + timedelta(seconds=10 * n) for n in range(60)],
        "metric": [ECE] * 60,
        "symbol": ["BTCUSDT"] * 60,
        "value": [0.05] * 20 + [value] * 40,
    }


@pytest.mark.parametrize("frame", [polars.DataFrame, pandas.DataFrame, dict])
@pytest.mark.parametrize(
    "policy",
    [
        SPEC,
        SPEC.to_wire(),
        SignalCanary("demo", SPEC),
        SignalCanary("demo", SPEC, namespace="trading").to_dict(),
    ],
    ids=["spec", "wire", "object", "manifest"],
)
def test_any_frame_and_any_form_of_a_policy_give_the_same(frame: Any, policy: Any) -> None:
    story = backtests.run(policy, frame(columns(0.2)))
    assert story.outcome is backtests.Outcome.ROLLED_BACK
    assert repr(story) == (
        "<Backtest of v2: RolledBack, ConditionBreached at 2026-05-01 08:03:20+00:00>"
    )
    judged = polars.DataFrame(story.columns())
    assert judged.filter(verdict="Breached").select("time", "value", "symbol").rows() == [
        (datetime(2026, 5, 1, 8, 3, 20, tzinfo=UTC), 0.2, "BTCUSDT")
    ]
    assert len(pandas.DataFrame(story.columns())) == len(judged)
    assert story.to_dict()["outcome"] == "RolledBack"
    phases, condition = story.figure().axes
    assert condition.get_title("left").startswith("BTCUSDT   platt_ece")
    assert phases.get_ylabel() == "stage"


def test_a_story_shows_its_picture_and_no_text_of_it_is_taken_for_html() -> None:
    story = backtests.run(SPEC, columns(0.2))
    story.message = "<b>&"
    html = ElementTree.fromstring(f"<div>{story._repr_html_()}</div>")
    (image,) = html.iter("img")
    assert image.get("alt", "").startswith("<Backtest of v2: RolledBack")
    story.curves.clear()
    assert "no condition was ever judged" in story._repr_html_()


def test_error_rates_are_rows_and_a_table() -> None:
    guarded = SPEC.model_copy(update={"rollback": Rollback()})
    rates = backtests.error_rates(
        {"<mine>": guarded}, Market(hours=2), [Decay("flip", auc=0.3)], runs=2
    )
    healthy, flipped = rates.rows()
    assert (healthy["world"], healthy["rolled_back"]) == ("healthy", 0)
    assert healthy["median_delay_hours"] is None
    assert healthy["upper_limit"] > 0.7
    assert (flipped["world"], flipped["rate"]) == ("flip", 1.0)
    assert 0.1 < flipped["median_delay_hours"] < 1.0
    table = ElementTree.fromstring(rates._repr_html_())
    assert [cell.text for cell in table.iter("td")][:2] == ["healthy", "<mine>"]


def test_a_simulated_table_is_the_same_for_the_same_seed_and_has_a_history_a_symbol() -> None:
    two = SPEC.model_copy(update={"symbols": Symbols(canary=("AB", "CD"), full=("AB", "CD"))})
    market = Market(hours=1)
    table = backtests.simulate(two, market, seed=5)
    assert table == backtests.simulate(two, market, seed=5)
    frame = polars.DataFrame(table)
    assert (
        frame.filter(symbol="AB")["value"].to_list() != frame.filter(symbol="CD")["value"].to_list()
    )
    assert backtests.run(two, frame).outcome is not backtests.Outcome.GOING_ON
