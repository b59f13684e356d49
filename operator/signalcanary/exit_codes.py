"""What the exit codes of `signalcanary` mean, of all verbs or of one. Needs nothing, as help must
come at once."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

_STANDING: Final = ("status", "explain", "watch")
_LINT: Final = ("lint",)
_BACKTEST: Final = ("backtest",)
_NOTIFY: Final = ("notify-test",)
_HAND: Final = ("pause", "resume", "approve", "skip", "promote", "abort", "retry", "rollback")
_CLUSTER: Final = (*_STANDING, "history", "report", "dashboard", *_HAND)
_LABELS: Final = {
    _STANDING: "status, explain, watch",
    _HAND: "a verb on a rollout",
    _CLUSTER: "a verb that asks a cluster",
}

_MEANINGS: Final[dict[int, tuple[str, tuple[tuple[tuple[str, ...], str], ...]]]] = {
    0: ("it went as it should", ((_STANDING, "healthy, or progressing"),)),
    1: (
        "it did not",
        (
            (_HAND, "refused, or not answered"),
            (_CLUSTER, "the cluster cannot be asked, or does not have the object"),
            (_LINT, "a manifest has problems, or with --live a condition has"),
            (("run",), "rolled back, or it could not run"),
            (("demo",), "it did not end as it should"),
            (
                _BACKTEST,
                "rolled back, with --fail-on-rollback, or too many false rollbacks, with "
                "--max-false-rollbacks",
            ),
            (_NOTIFY, "a message was not delivered"),
        ),
    ),
    2: (
        "the command line is wrong, or an extra is not installed",
        ((_BACKTEST, "the manifest or the data is wrong"), (_NOTIFY, "the file is wrong")),
    ),
    3: ("", ((_STANDING, "rolled back, or a condition is breached"),)),
    4: (
        "",
        (
            (_STANDING, "held: it waits for a person, for the metrics source, or for the operator"),
            (_LINT, "with --live, the metrics source cannot be read"),
        ),
    ),
    130: ("interrupted (Ctrl-C); every process that was started has been ended", ()),
}
"""By code: what it means of every verb, and what besides of some."""

_WIDTH: Final = 87


def describe_exit_codes(verb: str | None = None) -> str:
    """The codes and what they mean, as the end of a help text.

    Args:
        verb: of this one alone; None for all of them.
    """
    lines = ["exit codes:"]
    for code, (always, more) in _MEANINGS.items():
        if verb is None:
            told = [f"{_LABELS.get(verbs, verbs[0])}: {text}" for verbs, text in more]
        else:
            told = [text for verbs, text in more if verb in verbs]
        # Whether it went as it should is, of one verb, said by what it is of that verb.
        between = ": " if verb is not None and code in (0, 1) else "; "
        first = f"  {code:<5}"
        lines += wrap(
            between.join(part for part in (always, "; ".join(told)) if part),
            _WIDTH,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"
