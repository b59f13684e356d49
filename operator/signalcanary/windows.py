"""Allowed windows and blackouts on the calendar: whether one is open, and when it opens.

Pure, but that the rules of a time zone are read from tzdata, once a process, where one is named.

A weekly window is written by the clock on the wall. It begins at the first moment at which that
shows `from`, and ends at the last at which it shows `to`. Where the clock is set forward over
either, it is the moment at which it is set: a window that lies in the hour that there is not
does not open that day. Where an hour comes twice, a window within it is open from the first to the
second: too long rather than too short, so that a blackout loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from signalcanary.api import Day, Window, Windows, minutes_of

_WEEK = timedelta(days=7)
_FORESEEN = 2 * _WEEK
"""What has not opened so long after the last instant that is written down does not open: the weeks
are alike, but for the nights on which the clock is set."""
_MAX_STEPS = 100
_DAYS = list(Day)


class Shut(StrEnum):
    """Why it is not open."""

    BLACKOUT = "Blackout"
    OUTSIDE = "OutsideAllowedHours"


@dataclass(frozen=True)
class Closed:
    """Closed at a time, for one reason of perhaps several.

    Attributes:
        until: when that reason ends; another may follow. None if it does not.
    """

    why: Shut
    until: datetime | None


def closed(windows: Sequence[Windows], at: datetime) -> Closed | None:
    """Why not all of them are open; None if they are. A blackout is told first."""
    found = [shut for one in windows if (shut := _closed(one, at)) is not None]
    return min(found, key=lambda shut: list(Shut).index(shut.why), default=None)


def opening(windows: Sequence[Windows], at: datetime) -> datetime | None:
    """The first time, from `at` on, at which all of them are open; None if there is none."""
    written = [
        edge
        for one in windows
        for window in (*one.allowed, *one.blackouts)
        for edge in (window.start, window.end)
        if edge is not None
    ]
    latest = max([at, *written]) + _FORESEEN
    for _ in range(_MAX_STEPS):
        shut = closed(windows, at)
        if shut is None:
            return at
        if shut.until is None or shut.until > latest:
            return None
        at = shut.until
    return None


def _closed(windows: Windows, at: datetime) -> Closed | None:
    zone = ZoneInfo(windows.time_zone)
    if (end := _end_within(windows.blackouts, zone, at)) is not None:
        return Closed(Shut.BLACKOUT, end)
    if not windows.allowed or _end_within(windows.allowed, zone, at) is not None:
        return None
    begins = (_next_begin(window, zone, at) for window in windows.allowed)
    return Closed(Shut.OUTSIDE, min((b for b in begins if b is not None), default=None))


def _end_within(windows: Iterable[Window], zone: ZoneInfo, at: datetime) -> datetime | None:
    """The latest end of those that it is within; None if it is within none."""
    today = at.astimezone(zone).date()
    around = [today + timedelta(days=n) for n in (-1, 0, 1)]
    spans = (span for window in windows for span in _spans(window, zone, around))
    return max((end for begin, end in spans if begin <= at < end), default=None)


def _next_begin(window: Window, zone: ZoneInfo, at: datetime) -> datetime | None:
    """When it begins next; None if it does not."""
    today = at.astimezone(zone).date()
    ahead = (today + timedelta(days=n) for n in range(-1, _FORESEEN.days + 1))
    return next((begin for begin, _ in _spans(window, zone, ahead) if begin > at), None)


def _spans(
    window: Window, zone: ZoneInfo, days: Iterable[date]
) -> Iterator[tuple[datetime, datetime]]:
    """Begin and end of a window, in UTC: of one that is weekly where it begins on those days."""
    if window.start is not None and window.end is not None:
        yield window.start.astimezone(UTC), window.end.astimezone(UTC)
        return
    assert window.from_ is not None  # by Window._check
    assert window.length is not None
    for day in days:
        if window.days is not None and _DAYS[day.weekday()] not in window.days:
            continue
        midnight = datetime(day.year, day.month, day.day)
        on_the_wall = midnight + timedelta(minutes=minutes_of(window.from_))
        begin = _moment(on_the_wall, zone, fold=0)
        end = _moment(on_the_wall + window.length, zone, fold=1)
        if begin < end:
            yield begin, end


def _moment(on_the_wall: datetime, zone: ZoneInfo, fold: int) -> datetime:
    """When the clock on the wall shows a time, in UTC.

    Args:
        fold: of a time that comes twice, 0 for the first and 1 for the second.
    """
    first, second = (on_the_wall.replace(tzinfo=zone, fold=side).astimezone(UTC) for side in (0, 1))
    if first <= second:
        return second if fold else first
    # The clock is set forward over it (PEP 495), after `second` and by `first` at the latest.
    before, after = second, first
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


# --------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Wait:
    """Something that is waited for.

    Attributes:
        reason: in one CamelCase word.
        what: in words.
        windows: that must be open; when they are is reckoned only where it is asked.
        after: when they may open at the earliest; None where it is no window that is waited for.
    """

    reason: str
    what: str
    windows: tuple[Windows, ...] = ()
    after: datetime | None = None

    @property
    def until(self) -> datetime | None:
        """When it is over; None if nobody knows."""
        return opening(self.windows, self.after) if self.after else None

    @property
    def message(self) -> str:
        """What is waited for, and until when."""
        if self.after is None:
            return self.what
        until = self.until
        when = f"until {shown(until)}" if until else "and no window opens in the weeks to come"
        return f"{self.what}, {when}"


def shown(at: datetime) -> str:
    """An instant with its day, as people write it."""
    at = at.astimezone(UTC)
    return f"{at:%a %Y-%m-%d %H:%M}" + (f":{at:%S}" if at.second else "") + " UTC"
