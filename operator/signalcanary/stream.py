"""The signal stream: what goes over it, and who may send. The contract with consumers.

A message is two frames: a topic, and a JSON object in UTF-8. Topics are
``<track>.<symbol>.signal`` and ``<track>.<symbol>.heartbeat``; ZeroMQ matches them by prefix, so
a consumer subscribes to ``stable.BTCUSDT.``, with the last dot, as one symbol may begin another.
docs/signals.md describes it for consumers. Pure; analysis and the operator both import it.

The schema's number changes when a field goes or changes its meaning; a field that is added does
not change it, so a reader must pass over fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from signalcanary.contract import Model, Track

SCHEMA: Final = 1
SIGNALS_PORT: Final = 9101
"""Where an analysis pod publishes."""
HEARTBEAT_SECONDS: Final = 1.0
"""Time between two heartbeats of a symbol. Unit: wall clock."""


# --------------------------------------------------------------------------- who may send


class Holder(Model):
    """A revision that may publish on a track.

    Attributes:
        only: on these symbols alone; None is all.
        without: on none of these.
    """

    revision: str
    attempt: int
    only: tuple[str, ...] | None = None
    without: tuple[str, ...] | None = None

    def may_publish(self, symbol: str) -> bool:
        return (self.only is None or symbol in self.only) and symbol not in (self.without or ())


class Gate(Model):
    """Who may publish now; nobody on a track that is not named.

    The operator writes it, analysis reads it before it sends anything. It fails closed: a
    process publishes only if it is named here, by its revision and attempt.
    """

    stable: Holder | None = None
    canary: Holder | None = None
    kept: tuple[Holder, ...] | None = None
    """On the stable track too: earlier revisions, each on the symbols that it was left with."""

    def holders(self, track: Track) -> tuple[Holder, ...]:
        """Who may publish on a track; no two of them on one symbol."""
        first = self.stable if track is Track.STABLE else self.canary
        kept = (self.kept or ()) if track is Track.STABLE else ()
        return (*((first,) if first else ()), *kept)


# --------------------------------------------------------------------------- what is sent


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema", description="Of this message.")
    track: Track
    symbol: str
    revision: str = Field(description="Of the sender.")
    attempt: int = Field(
        description="Of the revision; grows with each promotion, so a consumer that must not "
        "follow a sender of the past can fence with it."
    )

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()


class Signal(_Message):
    """One second of one symbol. Its fields are the columns of ``kind=signal``, where it is kept."""

    type: Literal["signal"] = "signal"
    seq: int = Field(description="Counts the signals sent of this symbol, revision and attempt.")
    ts: int = Field(description="The second that is scored. Unit: ms of event time.")
    f: float | None = Field(description="Fused score; null if the row cannot be scored.")
    p: float | None = Field(
        description="Calibrated probability that the mid rises within the horizon; null before "
        "the first calibration."
    )
    regime: str = Field(description="active, quiet or unknown.")
    direction: int = Field(description="Sign of the volume delta's score, +1 or -1.")
    reason: str | None = Field(description="Why the row cannot be scored; null if it can.")
    quality: int = Field(description="Bits of the feature row; 0 is clean.")
    mid: float | None = Field(description="Mid price at ts.")
    horizon_ms: int = Field(description="How far ahead p looks. Unit: ms of event time.")
    gap_epoch: int = Field(description="Grows with each gap of the book.")
    fitted_ms: int | None = Field(description="When p was calibrated. Unit: ms of event time.")
    fingerprint: str = Field(description="Hash of all that changes the signal's values.")
    version: str = Field(description="The user's name for the configuration.")
    emitted_ns: int = Field(description="When it was sent. Unit: ns, wall clock.")

    @property
    def topic(self) -> str:
        return f"{self.track}.{self.symbol}.{self.type}"


class Heartbeat(_Message):
    """Sent every second of wall time, so that silence differs from a sender that is gone."""

    type: Literal["heartbeat"] = "heartbeat"
    seq: int | None = Field(
        description="Of the last signal sent; null if none ever was, or if that is not known yet."
    )
    open: bool = Field(description="May this sender publish?")
    reason: str | None = Field(description="Why not; null if it may.")
    emitted_ns: int = Field(description="Unit: ns, wall clock.")

    @property
    def topic(self) -> str:
        return f"{self.track}.{self.symbol}.{self.type}"


Message = Signal | Heartbeat
_ANY: Final[TypeAdapter[Message]] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class UnknownMessage(Exception):
    """Not a message of this schema."""


def read_message(data: bytes) -> Message:
    """Read the second frame.

    Raises:
        UnknownMessage: it is of another schema, or no message at all.
    """
    try:
        return _ANY.validate_json(data)
    except ValidationError as error:
        raise UnknownMessage(str(error)) from error


def topic_prefixes(tracks: Iterable[Track], symbols: Iterable[str]) -> list[str]:
    """What to subscribe to for these tracks and symbols; no symbol means all of them."""
    wanted = list(symbols)
    return [f"{t}.{s}." for t in tracks for s in wanted] if wanted else [f"{t}." for t in tracks]


@dataclass
class Continuity:
    """Finds holes: signals that were sent and did not arrive.

    A sequence belongs to one symbol of one revision and attempt. What was sent before the
    subscriber came is no hole; what a heartbeat says was sent, and is not there, is one.
    """

    _last: dict[tuple[Track, str, str, int], int] = field(default_factory=dict)

    def missed(self, message: Message) -> int:
        """How many signals are missing just before this message."""
        key = (message.track, message.symbol, message.revision, message.attempt)
        if message.seq is None:
            return 0
        last = self._last.get(key)
        self._last[key] = max(message.seq, last or 0)
        if last is None:
            return 0
        due = message.seq - 1 if isinstance(message, Signal) else message.seq
        return max(0, due - last)
