"""What Python gets of a backtest: objects that a notebook shows, with their figures and numbers.

A notebook asks an object for `_repr_html_`. The picture is in it as an image of its own (a data
URI), so that several in one page do not share the names that SVG gives its parts.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

from signalcanary.backtest.recording import RecordingError
from signalcanary.backtest.replay import Replay
from signalcanary.backtest.report import render_json, render_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from signalcanary.backtest.null import Estimate


class Backtest(Replay):
    """A replay that shows itself: `print` tells its story, a notebook draws it."""

    @classmethod
    def of(cls, replay: Replay) -> Backtest:
        return cls(**{f.name: getattr(replay, f.name) for f in fields(replay)})

    def __str__(self) -> str:
        return render_text(self)

    def __repr__(self) -> str:
        decided = f", {self.decided.reason} at {self.decided.time}" if self.decided else ""
        return f"<Backtest of {self.target.version}: {self.outcome}{decided}>"

    def to_dict(self) -> dict[str, Any]:
        """What `signalcanary backtest -o json` writes (docs/backtest.md)."""
        return render_json(self)

    def columns(self) -> dict[str, list[Any]]:
        """Every judgement, a row a look, condition and symbol: for `polars.DataFrame(…)` and
        `pandas.DataFrame(…)`.

        The columns: time (UTC), condition, symbol, value (the metric's unit, or None), verdict,
        tier, and the bounds of the evidence: lower and upper (a rollback's), whole_lower and
        whole_upper (a promotion's).
        """
        points = [
            (condition, symbol, point)
            for (condition, symbol), curve in self.curves.items()
            for point in curve
        ]
        return {
            "time": [p.time for _, _, p in points],
            "condition": [condition for condition, _, _ in points],
            "symbol": [symbol for _, symbol, _ in points],
            "value": [p.value for _, _, p in points],
            "verdict": [p.verdict.value for _, _, p in points],
            "tier": [p.tier.value for _, _, p in points],
            "lower": [p.lower for _, _, p in points],
            "upper": [p.upper for _, _, p in points],
            "whole_lower": [p.whole_lower for _, _, p in points],
            "whole_upper": [p.whole_upper for _, _, p in points],
        }

    def figure(self) -> Figure:
        """Each condition against its threshold and evidence, and the decision.

        Raises:
            RecordingError: nothing was judged.
        """
        from signalcanary.backtest.picture import build_figure

        return build_figure(self)

    def _repr_html_(self) -> str:
        from signalcanary.backtest.picture import render

        story = f"<pre>{escape(str(self))}</pre>"
        try:
            picture = b64encode(render(self, ".svg")).decode()
        except RecordingError as error:
            return f"<p>{escape(str(error))}</p>{story}"
        image = f'<img src="data:image/svg+xml;base64,{picture}" style="max-width: 100%" alt="'
        return f'{image}{escape(repr(self))}"/><details><summary>story</summary>{story}</details>'


@dataclass(frozen=True, repr=False)
class ErrorRates:
    """How often policies take back a canary that is fine, and how soon one that is not.

    Attributes:
        healthy: by the policy's name.
        decays: by the decay's name, then the policy's.
    """

    healthy: Mapping[str, Estimate]
    decays: Mapping[str, Mapping[str, Estimate]]

    def rows(self) -> list[dict[str, Any]]:
        """A row a policy and world, for `polars.DataFrame(…)` and `pandas.DataFrame(…)`.

        `upper_limit` is of `rate`, one-sided, 95 %; `median_delay_hours` is None where fewer than
        half were rolled back.
        """
        return [
            {
                "world": world,
                "policy": policy,
                "runs": found.runs,
                "rolled_back": found.rolled_back,
                "rate": found.rate,
                "upper_limit": found.upper_limit,
                "promoted": found.promoted,
                "median_delay_hours": delay if isfinite(delay := found.delay_hours(0.5)) else None,
            }
            for world, policies in {"healthy": self.healthy, **self.decays}.items()
            for policy, found in policies.items()
        ]

    def __repr__(self) -> str:
        return "\n".join(
            f"{row['world']}, {row['policy']}: {row['rolled_back']} of {row['runs']} rolled back "
            f"(surely below {row['upper_limit']:.0%}), {row['promoted']} promoted"
            for row in self.rows()
        )

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))
