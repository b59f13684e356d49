"""`signalcanary report NAME`: the report of a rollout, from a cluster and the metrics' history."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from signalcanary.api import SignalCanarySpec
from signalcanary.apiserver import path_of
from signalcanary.console.access import Access, AccessError, open_access
from signalcanary.console.text import table
from signalcanary.contract import format_duration
from signalcanary.metrics_source import MetricsSourceError, Target, build_target
from signalcanary.report import (
    ENDED,
    JSON_FILE,
    LABEL_REPORT,
    REPORT_URL,
    NoReport,
    Outcome,
    Report,
    build_report,
    render_markdown,
    shown_time,
)
from signalcanary.report_curves import curve_query, with_curves, without_curves
from signalcanary.report_page import render_page
from signalcanary.store import Kind
from signalcanary.wire import format_instant

if TYPE_CHECKING:
    from signalcanary.backtest.recording import Recorded
    from signalcanary.sources import SourceConfig

FAILED: Final = 1

NO_CURVES: Final = (
    "Calibration and ROC curves are not shown, as the operator has not read them: give "
    "--prometheus URL, or --sources FILE (docs/cli.md)."
)
NO_DATA: Final = (
    "The metrics over time are not drawn: give --prometheus URL, --sources FILE, or --data FILE "
    "with an export (docs/cli.md)."
)


def run_report(args: argparse.Namespace) -> int:
    """The verb; gives its exit code."""

    async def ask() -> tuple[Report, Mapping[str, Any]]:
        async with open_access(args) as access:
            item = await access.get(args.name)
            return await _report(access, item, args.kept), item

    async def list_kept() -> str:
        async with open_access(args) as access:
            return _render_list(await _list(access, await access.get(args.name)))

    try:
        if args.is_list:
            print(asyncio.run(list_kept()), end="")
            return 0
        report, item = asyncio.run(ask())
        text = _render(report, item, args)
        if args.file is None:
            print(text, end="")
        else:
            args.file.write_text(text, encoding="utf-8")
    except AccessError as error:
        print(f"signalcanary report: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"signalcanary report: {where}{error.strerror or error}", file=sys.stderr)
        return FAILED
    return 0


async def _report(access: Access, item: Mapping[str, Any], kept: str | None) -> Report:
    """The report of the last rollout, or one that was kept.

    Raises:
        AccessError: there is none.
    """
    if kept is not None:
        return await _kept(access, item, kept)
    try:
        return build_report(item)
    except NoReport as error:
        raise AccessError(f"{error}: {await _others(access, item)}") from error
    except (LookupError, ValueError, TypeError) as error:
        raise AccessError(
            f"the status was written by another version of the operator ({error}): take this "
            "command of the operator's own version"
        ) from error


async def _kept(access: Access, item: Mapping[str, Any], kept: str) -> Report:
    wanted = f"{item['metadata']['name']}-report-{kept}"
    for one in await _list(access, item):
        if one["metadata"]["name"] == wanted:
            try:
                return Report.model_validate_json(one["data"][JSON_FILE])
            except (LookupError, TypeError, ValidationError) as error:
                raise AccessError(f"the ConfigMap {wanted} holds no report: {error}") from error
    raise AccessError(f"no report {kept} is kept: {await _others(access, item)}")


async def _list(access: Access, item: Mapping[str, Any]) -> list[dict[str, Any]]:
    path = path_of(Kind.CONFIG_MAP, quote(access.namespace, safe=""))
    query = urlencode({"labelSelector": f"{LABEL_REPORT}={item['metadata']['name']}"})
    return await access.list_path(f"{path}?{query}", "ConfigMaps")


def _render_list(items: Sequence[Mapping[str, Any]]) -> str:
    """The reports that are kept, newest first."""
    rows = []
    for item in items:
        metadata = item["metadata"]
        notes = metadata.get("annotations") or {}
        try:
            report = Report.model_validate_json(item["data"][JSON_FILE])
        except (LookupError, TypeError, ValidationError):
            continue  # anyone may give a ConfigMap the label
        kept = f"{report.canary.name}-{report.canary.attempt}"
        told = (kept, report.canary.version, report.outcome.value)
        rows.append((notes.get(ENDED, ""), *told, metadata["name"], notes.get(REPORT_URL)))
    if not rows:
        return "no report is kept\n"
    titles = ("DECIDED", "KEPT", "VERSION", "OUTCOME", "CONFIGMAP", "FILES")
    return "\n".join(table(titles, sorted(rows, key=itemgetter(0), reverse=True))) + "\n"


async def _others(access: Access, item: Mapping[str, Any]) -> str:
    prefix = f"{item['metadata']['name']}-report-"
    names = [one["metadata"]["name"] for one in await _list(access, item)]
    found = ", ".join(sorted(name.removeprefix(prefix) for name in names))
    return f"choose one by --kept: {found}" if found else "none is kept"


def _render(report: Report, item: Mapping[str, Any], args: argparse.Namespace) -> str:
    source = _choose_source(report, item, args)
    if source is not None:
        report = read_curves(report, item, source)
    match args.output:
        case "json":
            return report.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
        case "md":
            return render_markdown(_said(report))
    if source is None and args.data is None:
        return render_page(_said(report), None, [NO_DATA])
    return render_page(_said(report), draw_history(report, item, source, args.data), [])


def _said(report: Report) -> Report:
    """A report that says why it has no curves, if nobody has said it yet."""
    return report if report.curves_missing else without_curves(report, NO_CURVES)


# --------------------------------------------------------------------------- the metrics source


def _target(report: Report, item: Mapping[str, Any]) -> Target:
    spec = SignalCanarySpec.model_validate(item["spec"])
    return build_target(spec, report.namespace, report.name, report.canary.name)


def _choose_source(
    report: Report, item: Mapping[str, Any], args: argparse.Namespace
) -> SourceConfig | None:
    """The source that the options name.

    Raises:
        AccessError: it cannot be used.
    """
    from signalcanary.sources import SourcesError, UnknownSource, choose_source

    try:
        return choose_source(_target(report, item), args.prometheus, args.sources, args.source)
    except (SourcesError, UnknownSource) as error:
        raise AccessError(str(error)) from None


def read_curves(report: Report, item: Mapping[str, Any], source: SourceConfig) -> Report:
    """A report with its curves as of its end, or as of now.

    Raises:
        AccessError: the source cannot be read.
    """
    from signalcanary.prometheus import Prometheus

    at = report.ended or datetime.now(UTC)
    query = curve_query(report.namespace, report.name)
    try:
        with closing(Prometheus(source)) as client:
            series = asyncio.run(client.fetch_series(_target(report, item), query, at))
    except MetricsSourceError as error:
        raise AccessError(f"{type(error).__name__}: {error}") from error
    return with_curves(report, series, at)


# --------------------------------------------------------------------------- the metrics' history


def draw_history(
    report: Report, item: Mapping[str, Any], source: SourceConfig | None, data: Path | None
) -> str:
    """The metrics of a rollout over time, as SVG.

    Raises:
        AccessError: the data cannot be had, or is not of this rollout.
    """
    from signalcanary.backtest.picture import draw
    from signalcanary.backtest.recording import RecordingError

    try:
        replay = retell(report, item, source, data)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.svg"
            draw(replay, file)
            text = file.read_text(encoding="utf-8")
    except RecordingError as error:
        raise AccessError(str(error)) from error
    return text[text.index("<svg") :]


def retell(
    report: Report, item: Mapping[str, Any], source: SourceConfig | None, data: Path | None
) -> Any:
    """The rollout as it was, for what draws a replay: nothing is decided anew.

    Raises:
        RecordingError: the data cannot be had, or is not of this rollout.
    """
    from signalcanary.backtest import export, recorded_looks, tables
    from signalcanary.backtest.fetch import fetch_answers
    from signalcanary.backtest.recording import RecordingError
    from signalcanary.backtest.replay import Entry, Replay, measure
    from signalcanary.backtest.replay import Kind as Told
    from signalcanary.evaluate import evaluate
    from signalcanary.revisions import RevisionRef
    from signalcanary.rollout import Decision, Phase, RolloutState

    declared = SignalCanarySpec.model_validate(item["spec"])
    # What a query of one's own said is not recorded.
    conditions = [c for c in declared.rollback.conditions if c.query is None]
    if not conditions:
        raise RecordingError("every condition asks a query of its own, which is not recorded")
    rollback = declared.rollback.model_copy(update={"conditions": tuple(conditions)})
    spec = declared.model_copy(update={"rollback": rollback})
    canary = report.canary
    target = build_target(spec, report.namespace, report.name, canary.name)
    ended = report.ended or datetime.now(UTC)
    if data is not None:
        is_table = data.suffix in (".parquet", ".csv")
        recording = (
            tables.build_recording(tables.read_table(data), target)
            if is_table
            else export.read_export(data)
        )
    else:
        assert source is not None  # by the caller
        step = _step(spec, ended - report.started)
        answers = list(fetch_answers(source, target, report.started, ended, step))
        if not any(answer["data"]["result"] for answer in answers):
            raise RecordingError(_nothing_stored(report, ended))
        recording = export.build_recording(answers)
    looks = recorded_looks(spec, recording, target, canary.name)
    phase = {Outcome.PROMOTED: Phase.SUCCEEDED, Outcome.ROLLED_BACK: Phase.ROLLED_BACK}
    state = RolloutState(phase=phase.get(report.outcome, Phase.PROGRESSING))
    ref = RevisionRef(canary.name, canary.version, "", canary.attempt)
    story = Replay(spec, ref, report.started, ended, state=state)
    story.story += [
        Entry(m.time, Told.PHASE, Phase(m.phase), m.reason, m.message)
        for m in report.timeline
        if m.time <= ended
    ]
    for at, seen in looks.seen:
        if report.started <= at <= ended:
            has_stable = bool(seen.stable_heartbeats)
            judgements = tuple(evaluate(spec, seen, at, has_stable=has_stable))
            measure(story, Decision(state, judgements, ()), at, looks.interval)
            story.looks += 1
    if not story.looks:
        raise RecordingError(_other_time(report, ended, looks.recorded, looks.interval))
    return story


def _other_time(report: Report, ended: datetime, data: Recorded, interval: timedelta) -> str:
    """That the data does not reach into the rollout, and what to type for data that does."""
    step = format_duration(interval)
    return (
        f"the data is of another time: it goes from {shown_time(data.first)} to "
        f"{shown_time(data.last)}, and this rollout went from {shown_time(report.started)} to "
        f"{shown_time(ended)}. Write data of that time by `signalcanary backtest MANIFEST "
        f"--prometheus URL --start {format_instant(report.started)} --end {format_instant(ended)} "
        f"--step {step} --export run.json.gz`, and give --data run.json.gz; or choose the report "
        "of another rollout by --kept"
    )


def _nothing_stored(report: Report, ended: datetime) -> str:
    """That the source answers, but has nothing of the rollout, and what to type instead."""
    return (
        f"the metrics source has no series of {report.namespace}/{report.name} between "
        f"{shown_time(report.started)} and {shown_time(ended)}, when this rollout went: it keeps "
        "data for less long, or it is not the one that scraped the pods. Name another by "
        "--prometheus URL, or --sources FILE --source NAME; or give an export of that time by "
        "--data FILE"
    )


MOST_LOOKS: Final = 2_000
"""Of one report, if judging allows it: a picture shows no more."""


def _step(spec: SignalCanarySpec, whole: timedelta) -> timedelta:
    """The time between two samples: coarse, but no coarser than what counts as observed."""
    rules = spec.evaluation
    longest = max(rules.stale_after, 3 * rules.interval)
    seconds = max(rules.interval.total_seconds(), (whole / MOST_LOOKS).total_seconds())
    return min(timedelta(seconds=math.ceil(seconds)), longest)
