"""One horizon of one configuration: its labels, its calibration, and when that is fitted anew.

A configuration is judged at one horizon and reported at others. What differs between them is
here; the joined and fused rows are theirs in common, and lie in the engine's `RowWindow`, in
which a lane has a column of predictions and one of outcomes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

from .calibrate import FitFailure, Platt
from .labels import PendingLabels

FIT_RETRY_MS: Final = 60_000
"""Event time after which a fit that failed is tried again (or `refit`, if shorter)."""


@dataclass(frozen=True)
class Fit:
    """A calibration in use: fitted at an event time on so many labelled rows."""

    platt: Platt
    fitted_ms: int
    rows: int


class Lane:
    """The state of one horizon.

    Args:
        column: its place in the window's tables.
        train_ms, refit_ms: of the calibration.
    """

    def __init__(self, column: int, horizon_ms: int, train_ms: int, refit_ms: int) -> None:
        self.column = column
        self.horizon_ms = horizon_ms
        self.labels = PendingLabels(horizon_ms)
        self.fit: Fit | None = None
        self.next_fit_ms: int | None = None
        self.refits = 0
        self.failures: Counter[FitFailure] = Counter()
        self._train_ms = train_ms
        self._refit_ms = refit_ms

    def start(self, first_usable_ms: int) -> None:
        """The train window begins with the first row that can be scored."""
        self.next_fit_ms = first_usable_ms + self._train_ms + self.horizon_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether a fit is due at an event time."""
        return self.next_fit_ms is not None and self.next_fit_ms <= now_ms

    def hasten(self, now_ms: int) -> None:
        """Fit anew at once: the scores have another meaning."""
        if self.fit is not None:
            self.next_fit_ms = now_ms

    def take_fit(self, platt: Platt | FitFailure, now_ms: int, rows: int) -> None:
        """Use a calibration from the next row on, or try again later."""
        if isinstance(platt, FitFailure):
            self.failures[platt] += 1
            self.next_fit_ms = now_ms + min(self._refit_ms, FIT_RETRY_MS)
            return
        self.refits += 1
        self.fit = Fit(platt, now_ms, rows)
        self.next_fit_ms = now_ms + self._refit_ms

    def export_state(self) -> dict[str, Any]:
        """All that the next row's prediction, label and fit depend on."""
        return {
            "labels": self.labels.export_state(),
            "fit": asdict(self.fit) if self.fit else None,
            "next_fit_ms": self.next_fit_ms,
            "refits": self.refits,
            "failures": {failure.value: count for failure, count in self.failures.items()},
        }

    def import_state(self, state: dict[str, Any]) -> None:
        """Go on from an exported state."""
        self.labels.import_state(state["labels"])
        fit = state["fit"]
        self.fit = Fit(Platt(**fit["platt"]), fit["fitted_ms"], fit["rows"]) if fit else None
        self.next_fit_ms = state["next_fit_ms"]
        self.refits = state["refits"]
        self.failures = Counter({FitFailure(k): count for k, count in state["failures"].items()})
