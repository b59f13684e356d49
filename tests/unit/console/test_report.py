"""The report of a rollout: what is in it, its forms, and the schema that programs go by."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from console_kit import BAD, GOOD, SPEC, STABLE, Story, progressing, rolled_back

from examples_kit import EXAMPLES
from signalcanary.api import SignalCanarySpec
from signalcanary.cli import main
from signalcanary.console.access import AccessError
from signalcanary.console.report_command import draw_history, retell
from signalcanary.evaluate import MetricsSeen
from signalcanary.report import (
    Judged,
    NoReport,
    Outcome,
    Report,
    build_config_map,
    build_report,
    render_markdown,
)
from signalcanary.report_page import draw_interval, render_page
from signalcanary.resources import Owner
from signalcanary.revisions import build_revision, refer_to

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "report.schema.json"


def promoted() -> Story:
    spec = SPEC.to_wire() | {"stages": [{"name": "only", "duration": "5m"}]}
    story = Story(SignalCanarySpec.model_validate(spec))
    story.look(MetricsSeen())
    story.looks(9)
    assert story.status["phase"] == "Succeeded"
    return story


def test_the_published_schema_is_that_of_the_models() -> None:
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    text = json.dumps(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2
    )
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        SCHEMA.write_text(text + "\n")
    assert SCHEMA.read_text() == text + "\n", "run `make docs`"


def test_a_rollback_is_reported_with_what_it_rests_on() -> None:
    report = build_report(rolled_back().item())
    assert report.outcome is Outcome.ROLLED_BACK
    assert (report.canary.version, report.canary.attempt) == ("v2", 2)
    assert report.stable is not None
    assert report.stable.version == "v1"
    assert report.message.startswith("rolled back v2: platt_ece > 0.1")
    assert report.ended == datetime.fromisoformat("2026-05-01T12:24:00+00:00")
    assert [m.phase for m in report.timeline][:3] == ["Pending", "Warming", "Progressing"]
    assert {(c.symbol, c.verdict) for c in report.conditions} >= {("BTCUSDT", "Breached")}
    assert report.conditions[0].effective_samples == 430


def test_a_promotion_is_reported_and_one_that_goes_on_has_no_end() -> None:
    report = build_report(promoted().item())
    assert (report.outcome, report.reason) == (Outcome.PROMOTED, "Promoted")
    assert all(c.verdict == "Ok" for c in report.conditions)
    going = build_report(progressing().item())
    assert (going.outcome, going.ended, going.conditions) == (Outcome.GOING_ON, None, ())


def test_the_decision_of_the_rollout_before_is_not_this_one_s() -> None:
    story = rolled_back()
    story.generation = 3
    story.spec = SignalCanarySpec.model_validate(SPEC.to_wire() | {"version": "v3"})
    story.target = refer_to(build_revision(story.spec, "-"), 3)
    story.look(MetricsSeen())
    assert story.status["decision"]["version"] == "v2"
    report = build_report(story.item())
    assert (report.canary.version, report.ended, report.conditions) == ("v3", None, ())


def test_without_a_rollout_there_is_no_report() -> None:
    with pytest.raises(NoReport, match="demo has had no rollout"):
        build_report(Story().item())


def test_the_stable_configuration_set_again_does_not_hide_the_rollout_before() -> None:
    story = rolled_back()
    story.generation, story.target = 3, STABLE
    story.look(MetricsSeen())
    assert story.status["reason"] == "AlreadyStable"
    report = build_report(story.item())
    assert (report.outcome, report.canary.version) == (Outcome.ROLLED_BACK, "v2")
    assert report.conditions


def test_a_report_reads_back_and_takes_in_what_later_versions_add() -> None:
    report = build_report(rolled_back().item())
    wire = json.loads(report.model_dump_json(by_alias=True, exclude_none=True))
    assert Report.model_validate({**wire, "added": 1}) == report


def test_a_report_on_very_many_symbols_fits_into_a_config_map() -> None:
    symbols = [f"S{n:03d}USDT" for n in range(200)]
    spec = SPEC.to_wire() | {"symbols": {"canary": symbols, "full": symbols}}
    story = Story(SignalCanarySpec.model_validate(spec))
    story.look(MetricsSeen())
    story.looks(2)
    story.looks(4, ece=0.2, bound=BAD)
    story.tracks = {}
    story.look(MetricsSeen())
    manifest = build_config_map(Owner("trading", "demo", "u-1"), build_report(story.item()))
    assert manifest["metadata"]["name"] == f"demo-report-{story.target.name}-2"
    assert len(json.dumps(manifest)) < 120_000


# ------------------------------------------------------------------ its forms


def test_markdown_has_a_row_for_each_judgement_and_escapes_what_would_break_it() -> None:
    text = render_markdown(build_report(rolled_back().item()))
    assert text.startswith("# v2: rolled back\n")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "USDT" in line]
    assert len(rows) == 4
    assert len({row.count(" | ") for row in rows}) == 1
    assert "platt_ece{namespace=" in text


class Page(HTMLParser):
    """What a page refers to, and whether its tags close."""

    VOID = ("meta", "rect", "circle", "line", "use", "path", "image", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_page(text: str) -> None:
    page = Page()
    page.feed(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.links), page.links


def test_the_page_needs_nothing_else_and_says_what_is_left_out() -> None:
    for story in (rolled_back(), promoted(), progressing()):
        text = render_page(build_report(story.item()), None, ["left <out>"])
        check_page(text)
        assert "left &lt;out&gt;" in text
        assert "v2" in text


def judged(**changes: Any) -> Judged:
    row = build_report(rolled_back().item()).conditions[0]
    return row.model_copy(update=changes)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({}, id="evidence"),
        pytest.param({"evidence": None}, id="literal"),
        pytest.param({"value": None, "evidence": None}, id="no value"),
        pytest.param({"value": 0.0, "threshold": 0.0, "evidence": None}, id="all the same"),
        pytest.param({"value": 1e12}, id="far away"),
    ],
)
def test_an_interval_is_drawn_inside_its_box(row: dict[str, Any]) -> None:
    drawn = draw_interval(judged(**row))
    places = [float(n) for n in re.findall(r' (?:x|cx|x1|x2)="([^"]+)"', drawn)]
    assert places
    assert all(0 <= place <= 260 for place in places)


# ------------------------------------------------------------------ the metrics' history


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a source would have recorded of `rolled_back`, once a minute."""
    file = tmp_path_factory.mktemp("data") / "rows.csv"
    story = Story()
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        names = "time metric symbol value samples level lower upper whole_lower whole_upper"
        rows.writerow(names.split())
        for minute in range(2, 26):
            at = (story.now + timedelta(minutes=minute, seconds=-1)).isoformat()
            value, b = (0.2, BAD) if minute > 21 else (0.05, GOOD)
            ends = (b.level, b.lower, b.upper, b.whole_lower, b.whole_upper)
            for symbol in SPEC.symbols.canary:
                rows.writerow((at, "platt_ece", symbol, value, 1800, *ends))
                rows.writerow((at, "merge_time_diff_ms_p99", symbol, 120, 5000, *[""] * 5))
    return file


def slow(item: dict[str, Any]) -> dict[str, Any]:
    """A look a minute, as the recorded data has it."""
    item["spec"]["evaluation"] |= {"interval": "60s", "staleAfter": "5m"}
    return item


def test_the_history_is_judged_again_but_the_decision_is_the_one_that_was_taken(
    table: Path,
) -> None:
    item = slow(rolled_back().item())
    told = retell(build_report(item), item, None, table)
    assert told.decided.time == datetime.fromisoformat("2026-05-01T12:24:00+00:00")
    points = told.curves["platt_ece>0.1", "BTCUSDT"]
    assert {p.verdict.value for p in points} == {"Ok", "Breached"}
    assert max(p.time for p in points) <= told.decided.time


def test_a_breach_that_need_not_last_is_not_timed_on_the_page() -> None:
    report = build_report(rolled_back().item())
    first, *others = report.conditions
    assert f"<td>{first.breached_for} of 2m</td>" in render_page(report, None, [])
    at_once = first.model_copy(update={"breached_for": "0s", "allowed_for": "0s"})
    text = render_page(report.model_copy(update={"conditions": (at_once, *others)}), None, [])
    assert "<td>at this look</td>" in text
    assert "0s of 0s" not in text


def test_the_page_holds_the_drawn_history(table: Path) -> None:
    item = slow(rolled_back().item())
    report = build_report(item)
    picture = draw_history(report, item, None, table)
    text = render_page(report, picture, [])
    check_page(text)
    assert "rolled back 12:24:00" in text
    assert len(text) < 1_000_000


def test_data_of_another_time_is_told_with_both_times_and_what_to_type(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = slow(rolled_back().item())
    report = build_report(item)
    later = {name: getattr(report, name) + timedelta(days=1) for name in ("started", "ended")}
    with pytest.raises(AccessError) as refusal:
        draw_history(report.model_copy(update=later), item, None, table)
    told = str(refusal.value)
    assert "it goes from 2026-05-01 12:01:59 UTC to 2026-05-01 12:24:59 UTC" in told
    assert "this rollout went from 2026-05-02 12:01:00 UTC to 2026-05-02 12:24:00 UTC" in told
    found = re.search("`signalcanary (.*)`", told)
    assert found is not None
    typed = found[1].replace("MANIFEST", str(EXAMPLES / "quickstart.yaml"))
    # What is to be typed is a command line: for want of a server alone it comes to nothing.
    assert main(typed.replace("URL", "http://127.0.0.1:1").split()) == 2
    assert "--start 2026-05-02T12:01:00.000Z --end 2026-05-02T12:24:00.000Z --step 1m" in typed
    assert "Unreachable" in capsys.readouterr().err


def test_data_of_another_canary_is_refused_in_a_sentence(table: Path, tmp_path: Path) -> None:
    item = slow(rolled_back().item())
    report = build_report(item)
    empty = tmp_path / "empty.csv"
    empty.write_text("time,metric,symbol,value\n")
    with pytest.raises(AccessError, match="the table lacks the column"):
        draw_history(report, item, None, empty)
