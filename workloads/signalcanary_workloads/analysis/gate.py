"""May this process publish its signals? Asked of a small file before anything is sent.

The operator writes the file (docs/designs/003); in a pod it is a mounted ConfigMap, which the
kubelet replaces as a whole, at once if the operator hastens it, else within a minute. Whatever is
wrong with it means no: signals that went out wrongly cannot be taken back, those held back are
still on record.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from signalcanary.contract import Track, WorkloadConfig
from signalcanary.stream import Gate, Holder


class Closed(StrEnum):
    """Why nothing may be published."""

    MISSING = "gate_missing"
    UNREADABLE = "gate_unreadable"
    NOBODY = "gate_closed"
    """Nobody may publish on this track."""
    OTHER_REVISION = "gate_other_revision"
    HELD_BACK = "gate_symbol_held_back"
    """This revision may publish, but not on this symbol."""


@dataclass(frozen=True)
class GateReader:
    """Reads the gate for one process."""

    path: Path | None
    track: Track
    holder: Holder

    @classmethod
    def of(cls, config: WorkloadConfig, path: Path | None) -> GateReader:
        return cls(path, config.track, Holder(revision=config.revision, attempt=config.attempt))

    def read(self, symbol: str) -> Closed | None:
        """None if this process may publish a symbol now, else why not."""
        if self.path is None:
            return Closed.MISSING
        try:
            text = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return Closed.MISSING
        except OSError:
            return Closed.UNREADABLE
        try:
            named = Gate.model_validate_json(text).holders(self.track)
        except ValidationError:
            return Closed.UNREADABLE
        if not named:
            return Closed.NOBODY
        own = [holder for holder in named if self._is_of_this_process(holder)]
        if not own:
            return Closed.OTHER_REVISION
        return None if any(one.may_publish(symbol) for one in own) else Closed.HELD_BACK

    def _is_of_this_process(self, holder: Holder) -> bool:
        return (holder.revision, holder.attempt) == (self.holder.revision, self.holder.attempt)
