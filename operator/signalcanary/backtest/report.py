"""A replay in words, and as JSON whose shape is kept (docs/backtest.md). Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from signalcanary.api import Tier
from signalcanary.backtest.replay import Entry, Kind, Outcome, Point, Replay, debounce_of
from signalcanary.contract import METRICS_BY_NAME, format_duration
from signalcanary.evaluate import Verdict
from signalcanary.rollout import Phase

FORMAT: Final = "signalcanary.dev/backtest/v1"
MOST_TOLD: Final = 30
"""Breaches, recoveries and holds told in words; a policy that flaps has thousands."""

_SAID: Final = {
    Outcome.PROMOTED: "PROMOTED",
    Outcome.ROLLED_BACK: "ROLLED BACK",
    Outcome.GOING_ON: "STILL GOING when the data ends",
}


def render_text(replay: Replay) -> str:
    """The story for a person."""
    spec = replay.spec
    lines = [
        f"{replay.target.version} (revision {replay.target.name}) on "
        f"{', '.join(spec.symbols.canary)}",
        f"{_shown(replay.started)} to {_shown(replay.ended)} UTC: {replay.looks} looks in "
        f"{format_duration(replay.ended - replay.started)}",
        *(f"note: {note}" for note in replay.notes),
        "",
        *_story(replay),
        "",
        *_verdict(replay),
        "",
        "conditions, at the last look:",
        *(f"  {line}" for line in replay.summary),
        "",
        "and over the whole time:",
        *(f"  {_course(replay, key, points)}" for key, points in replay.curves.items()),
    ]
    return "\n".join(lines) + "\n"


def _story(replay: Replay) -> list[str]:
    told, lines = 0, []
    skipped = 0
    for entry in replay.story:
        if entry.kind is not Kind.PHASE:
            told += 1
            if told > MOST_TOLD and entry.time != replay.ended:
                skipped += 1
                continue
        if skipped:
            lines.append(_skipped(skipped))
            skipped = 0
        lines += _entry(replay, entry)
    return lines + ([_skipped(skipped)] if skipped else [])


def _skipped(count: int) -> str:
    return f"{'':21}… {count} more breaches, recoveries and holds (all of them: -o json)"


_WORDS: Final = {
    Kind.BREACH: "breached",
    Kind.RECOVERY: "recovered",
    Kind.HOLD: "holding",
    Kind.NOTICE: "told",
}


def _entry(replay: Replay, entry: Entry) -> list[str]:
    after = format_duration(_whole(entry.time - replay.started))
    what = _WORDS.get(entry.kind, entry.phase.value)
    lines = [f"{_shown(entry.time)}  +{after:<9} {what:<12} {_told(replay, entry)}"]
    if entry.next and entry.kind is Kind.BREACH:
        lines.append(f"{'':45}→ {entry.next}")
    return lines


def _told(replay: Replay, entry: Entry) -> str:
    """Its message; of the decision only the beginning, as the verdict has the whole of it."""
    is_begun = entry.phase is Phase.PROMOTING and replay.outcome is Outcome.PROMOTED
    if not is_begun and entry is not replay.decided:
        return entry.message
    first, more, _ = entry.message.partition("; ")
    return first + (" …" if more else "")


def _verdict(replay: Replay) -> list[str]:
    decided = replay.decided
    if decided is None:
        return [
            f"{_SAID[replay.outcome]}, in phase {replay.state.phase}: {replay.message}",
            f"next: {replay.next}",
        ]
    after = format_duration(_whole(decided.time - replay.started))
    return [
        f"{_SAID[replay.outcome]} after {after}, at {_shown(decided.time)} UTC ({decided.reason}):",
        f"  {decided.message}",
    ]


def _course(replay: Replay, key: tuple[str, str], points: list[Point]) -> str:
    condition, symbol = key
    values = [p.value for p in points if p.value is not None]
    span = f"{min(values):.4g} to {max(values):.4g}" if values else "no value"
    breached = replay.breached.get(key, timedelta(0))
    times = sum(e.kind is Kind.BREACH and (e.condition, e.symbol) == key for e in replay.story)
    text = f"{symbol}: {condition}: {span}"
    if times:
        text += (
            f"; breached {times} time{'s' * (times > 1)}, for {format_duration(breached)} in all"
        )
    counts = {v: sum(p.verdict is v for p in points) for v in Verdict}
    shares = ", ".join(f"{v} {n / len(points):.0%}" for v, n in counts.items() if n)
    text += f"; looks: {shares}"
    tiers = {t: sum(p.tier is t for p in points) for t in (Tier.WARNING, Tier.CRITICAL)}
    beyond = [f"{tier} {looks / len(points):.0%}" for tier, looks in tiers.items() if looks]
    return text + (f"; beyond {', '.join(beyond)}" if beyond else "")


def _shown(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _whole(value: timedelta) -> timedelta:
    return timedelta(seconds=round(value.total_seconds()))


# --------------------------------------------------------------------------- JSON


def render_json(replay: Replay) -> dict[str, Any]:
    """The same for programs; fields are added in later versions, but none is changed."""
    decided = replay.decided
    return {
        "format": FORMAT,
        "outcome": replay.outcome.value,
        "decision": None
        if decided is None
        else {
            "time": _iso(decided.time),
            "afterSeconds": (decided.time - replay.started).total_seconds(),
            "reason": decided.reason,
            "message": decided.message,
        },
        "canary": {
            "version": replay.target.version,
            "revision": replay.target.name,
            "symbols": list(replay.spec.symbols.canary),
        },
        "from": _iso(replay.started),
        "to": _iso(replay.ended),
        "looks": replay.looks,
        "status": {
            "phase": replay.state.phase.value,
            "reason": replay.state.reason,
            "message": replay.message,
            "next": replay.next,
            "summary": list(replay.summary),
        },
        "story": [_entry_json(entry) for entry in replay.story],
        "conditions": [
            _condition_json(replay, key, points) for key, points in replay.curves.items()
        ],
        "notes": list(replay.notes),
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    fields = {
        "time": _iso(entry.time),
        "kind": entry.kind.value,
        "phase": entry.phase.value,
        "reason": entry.reason,
        "message": entry.message,
        "next": entry.next or None,
        "symbol": entry.symbol,
        "condition": entry.condition,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _condition_json(replay: Replay, key: tuple[str, str], points: list[Point]) -> dict[str, Any]:
    name, symbol = key
    condition = next(c for c in replay.spec.rollback.conditions if c.key == name)
    values = [p.value for p in points if p.value is not None]
    debounce = debounce_of(condition, points)
    return {
        "condition": name,
        "symbol": symbol,
        "metric": condition.metric,
        "of": condition.of.value,
        "unit": METRICS_BY_NAME[condition.metric].unit.value,
        "threshold": condition.threshold,
        "forSeconds": debounce.for_.total_seconds(),
        "consecutive": debounce.consecutive,
        "warning": condition.warning,
        "critical": condition.critical,
        "mode": condition.mode.value,
        "breachedSeconds": replay.breached.get(key, timedelta(0)).total_seconds(),
        "looks": {v.value: sum(p.verdict is v for p in points) for v in Verdict},
        "looksByTier": {t.value: sum(p.tier is t for p in points) for t in Tier},
        "least": min(values, default=None),
        "greatest": max(values, default=None),
        "last": points[-1].value,
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
