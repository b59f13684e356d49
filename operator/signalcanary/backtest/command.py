"""`signalcanary backtest`: options in, files and text out. The edges of a backtest meet here."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest import (
    Outcome,
    RecordingError,
    export,
    recorded_looks,
    replay_recording,
    tables,
    target_of,
)
from signalcanary.backtest.recording import Recording
from signalcanary.backtest.report import render_json, render_text
from signalcanary.backtest.simulation import Decay, Market
from signalcanary.contract import format_duration, parse_duration
from signalcanary.lint import check
from signalcanary.metrics_source import Target
from signalcanary.output import show
from signalcanary.sources import SourcesError, UnknownSource, choose_source

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

TABLES: Final = (".parquet", ".csv")
BLOCK_OF_TEST_WINDOWS: Final = 4
"""Length of a bootstrap's blocks: values closer than one test window share rows."""
MOST_CALIBRATION_ERROR: Final = 0.4
"""A p near one half can hardly be further off."""


class InputError(Exception):
    """The command line, the manifest or the data is wrong; the message says what to do."""


@dataclass(frozen=True)
class Policy:
    """The SignalCanary of a manifest."""

    target: Target
    spec: SignalCanarySpec


def run_backtest(args: argparse.Namespace) -> int:
    """The verb; gives its exit code."""
    try:
        policy = read_policy(args.file, args.name)
        return _estimate(args, policy) if args.null else _replay(args, policy)
    except (InputError, RecordingError) as error:
        print(f"signalcanary backtest: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"signalcanary backtest: {where}{error.strerror or error}", file=sys.stderr)
    return USAGE


def read_policy(file: Path, name: str | None) -> Policy:
    """The SignalCanary of a manifest; with several, the one of that name.

    Raises:
        InputError: there is none, or it has problems.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: this is no text: {error}") from error
    report = check(text)
    if report.problems:
        raise InputError("\n".join(p.describe(str(file)) for p in report.problems))
    found = [one for one in report.found if name in (None, one.name)]
    if len(found) != 1 or found[0].spec is None:
        names = ", ".join(one.name for one in report.found) or "none"
        raise InputError(f"{file}: one SignalCanary is needed; it holds {names}: choose by --name")
    (one,) = found
    spec = one.spec
    assert spec is not None
    return Policy(target_of(spec, one.namespace, one.name), spec)


def _replay(args: argparse.Namespace, policy: Policy) -> int:
    if args.plot is not None:
        from signalcanary.backtest.picture import check_name, draw

        # A replay may take a minute: a name that will not do is told before it.
        check_name(args.plot)
    recording = _record(args, policy.target)
    if recording is None:
        return OK
    replay = replay_recording(policy.spec, recording, policy.target, args.revision)
    show(render_json(replay), render_text(replay), args.output)
    if args.plot is not None:
        draw(replay, args.plot)
    is_bad = args.fail_on_rollback and replay.outcome is Outcome.ROLLED_BACK
    return FAILED if is_bad else OK


def _estimate(args: argparse.Namespace, policy: Policy) -> int:
    """Error rates, from a simulated signal or from recorded looks."""
    from signalcanary.backtest import bootstrap, error_report, null

    spec, decays = policy.spec, {}
    if args.plot is not None or args.fail_on_rollback:
        raise InputError("--plot and --fail-on-rollback are about one replay: leave --null out")
    if args.data is not None or args.prometheus is not None or args.sources is not None:
        if args.decay:
            raise InputError("what a decay looks like is not recorded: leave the data out")
        recording = _record(args, policy.target)
        if recording is None:
            return OK
        looks = recorded_looks(spec, recording, policy.target, args.revision)
        test = spec.signal.calibration.test
        block = args.block or BLOCK_OF_TEST_WINDOWS * test
        paths = bootstrap.path_of_looks(spec, list(looks.seen))
        draw = bootstrap.resampler(paths, looks.interval, args.hours, block)
        policies = {"": null.stretched_spec(spec, args.hours, looks.interval)}
        healthy = null.count(policies, draw, args.runs, args.seed)[""]
        about = {"drawn from": "recorded looks", "block": format_duration(block)}
    else:
        market = read_market(args, spec)
        try:
            healthy = null.estimate({"": spec}, market, args.runs, args.seed)[""]
            for decay in args.decay:
                worse = replace(market, decay=read_decay(decay, market.auc))
                decays[decay] = null.estimate({"": spec}, worse, args.runs, args.seed)[""]
        except ValueError as error:
            raise InputError(str(error)) from error
        about = {
            "AUC": f"{market.auc:g}",
            "AR": f"{market.ar:g}",
            "horizon": f"{market.horizon_seconds}s",
            "p": "fitted" if market.is_fitted else "true",
            "look every": f"{market.look_seconds}s",
        }
    about |= {"symbols": str(len(spec.symbols.canary)), "seed": str(args.seed)}
    document = error_report.render_json(about, healthy, decays)
    show(document, error_report.render_text(about, healthy, decays), args.output)
    most = args.max_false_rollbacks
    if most is None or healthy.upper_limit <= most:
        return OK
    print(
        f"signalcanary backtest: the false rollbacks may be {healthy.upper_limit:.2%}, more than "
        f"{most:.2%} (upper {null.CONFIDENCE:.0%} limit; more --runs bring it closer to the rate)",
        file=sys.stderr,
    )
    return FAILED


def read_market(args: argparse.Namespace, spec: SignalCanarySpec) -> Market:
    """The signal to simulate.

    Raises:
        InputError: an option cannot be simulated.
    """
    horizon = args.horizon or spec.signal.label.horizon
    for name, value in (("--horizon", horizon), ("--look", args.look)):
        if value < timedelta(seconds=1) or value % timedelta(seconds=1):
            raise InputError(f"{name} must be whole seconds: rows come once a second")
    if not 0.5 <= args.auc < 1.0 or not 0.0 <= args.ar < 1.0:
        raise InputError("--auc must be from 0.5 to 1, and --ar from 0 to 1, without the 1")
    return Market(
        auc=args.auc,
        ar=args.ar,
        horizon_seconds=horizon // timedelta(seconds=1),
        hours=args.hours,
        look_seconds=args.look // timedelta(seconds=1),
        is_fitted=args.fitted,
    )


def read_decay(text: str, auc: float) -> Decay:
    """``auc=0.50``, ``ece=0.15`` or ``flip``.

    Raises:
        InputError: it is none of these.
    """
    if text == "flip":
        return Decay(text, auc=1.0 - auc)
    match = re.fullmatch(r"(auc|ece)=(0?\.[0-9]+)", text)
    if match is None:
        raise InputError(f"--decay {text}: write auc=0.50, ece=0.15 or flip")
    value = float(match[2])
    if match[1] == "auc":
        return Decay(text, auc=value)
    if value > MOST_CALIBRATION_ERROR:
        raise InputError(f"--decay {text}: an error of p of at most {MOST_CALIBRATION_ERROR}")
    return Decay(text, calibration_error=value)


def _record(args: argparse.Namespace, target: Target) -> Recording | None:
    """The recorded data; None if it was to be written to a file and no more.

    Raises:
        InputError: there is none, or the source that is named cannot be used.
    """
    try:
        source = choose_source(target, args.prometheus, args.sources, args.source)
    except (SourcesError, UnknownSource) as error:
        raise InputError(str(error)) from None
    if args.data is not None:
        if args.export is not None:
            raise InputError(
                "--export writes what a server says: give it with --prometheus or --sources"
            )
        if args.data.suffix in TABLES:
            return tables.build_recording(tables.read_table(args.data), target)
        return export.read_export(args.data)
    if source is None:
        raise InputError(
            "no data: give --data FILE, or --prometheus URL --start TIME, or --sources FILE "
            "--start TIME, or --null"
        )
    if args.start is None:
        raise InputError("a server needs --start TIME, for example --start now-48h")
    from signalcanary.backtest.fetch import fetch_answers

    now = datetime.now(UTC)
    first, last = read_time(args.start, now), read_time(args.end, now)
    if first >= last:
        raise InputError(f"--start {args.start} is not before --end {args.end}")
    step = args.step
    answers = list(fetch_answers(source, target, first, last, step))
    if args.export is not None:
        export.write_export(args.export, answers)
        print(f"{args.export}: {len(answers)} answers written", file=sys.stderr)
        return None
    return export.build_recording(answers)


def read_time(text: str, now: datetime) -> datetime:
    """``now``, ``now-48h``, ISO 8601 (UTC if it names no zone) or Unix seconds.

    Raises:
        InputError: it is none of these.
    """
    try:
        if match := re.fullmatch(r"now(?:-(.+))?", text):
            return now - parse_duration(match[1]) if match[1] else now
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"{text!r} is no time: write 2026-05-01T08:00:00Z, Unix seconds, now or now-48h"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
