"""How long a breach must be seen before it counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from signalcanary.contract import format_duration


@dataclass(frozen=True)
class Debounce:
    """For how long, and at how many evaluations in a row, a breach must be seen."""

    for_: timedelta = timedelta(0)
    consecutive: int = 1

    def describe(self) -> str:
        """In words that follow a bound, for example ``for 2m``; empty if one look is enough."""
        words = [f"for {format_duration(self.for_)}"] if self.for_ else []
        if self.consecutive > 1:
            words.append(f"at {self.consecutive} evaluations in a row")
        return " and ".join(words)


AT_ONCE: Final = Debounce()

WITHOUT_EVIDENCE: Final = Debounce(timedelta(minutes=2), 3)
"""What is asked of a value that nothing says how sure it is of, where the spec asks for nothing:
three checks of 60 s in a row, as seed 001 does. The number alone would not do: a query of one's
own is evaluated at every look, and three looks may well read one scrape."""
