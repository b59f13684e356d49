"""Symbols that two SignalCanaries of one namespace both roll out. Pure.

They share nothing: pods, data, gates and streams carry the name of their SignalCanary, and neither
is judged on what the other does. So both go on. But whoever consumes the signals of a symbol gets
two that are called stable, which is seldom meant, and is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from signalcanary import explain
from signalcanary.store import Key, Live


def find_overlaps(
    key: Key, symbols: Iterable[str], canaries: Mapping[Key, Live]
) -> dict[str, list[str]]:
    """By the names of the others, the symbols that they roll out as well."""
    own = set(symbols)
    found = {
        other.name: sorted(own & _symbols_of(item))
        for other, item in canaries.items()
        if other.namespace == key.namespace and other != key
    }
    return {name: shared for name, shared in sorted(found.items()) if shared}


def describe_overlap(other: str, shared: list[str]) -> str:
    """What to tell of it."""
    return (
        f"{explain.names(shared)} of this SignalCanary: {other} rolls out as well; both go on, "
        "each with pods, data and signals of its own, and whoever reads signals gets two that are "
        "called stable"
    )


def _symbols_of(item: Live) -> set[str]:
    """The full set; of an object of another shape, nothing."""
    try:
        return {str(symbol) for symbol in item["spec"]["symbols"]["full"]}
    except (LookupError, TypeError):
        return set()
