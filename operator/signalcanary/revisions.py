"""Revisions: what exactly runs, frozen under a name.

A revision holds everything needed to run a configuration again, whatever the spec says later;
it is kept as a ControllerRevision. Its name is a hash of what the user declared. Its
fingerprint is a hash of everything that changes the signal's values, the image included, so
that two pods with one fingerprint must compute the same numbers. Pure.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import DataSource, Model, PositiveDuration, SignalConfig


class Revision(Model):
    """A configuration and how to run it; immutable once made."""

    version: str
    symbols: tuple[str, ...] = Field(description="The full symbol set.")
    signal: SignalConfig
    source: DataSource
    symbols_per_shard: int
    commit_interval: PositiveDuration
    image: str = Field(description="The workloads' image at the time the revision was made.")


@dataclass(frozen=True)
class RevisionRef:
    """A revision by name, as status refers to it.

    Attributes:
        name: hash of what the user declared, 8 hex digits; the metric label `revision`.
        version: the user's name for it.
        fingerprint: hash of everything that changes the signal, 16 hex digits.
        attempt: generation of the spec that brought it here; a second try of the same
            revision collects its evidence anew, in a folder of its own.
    """

    name: str
    version: str
    fingerprint: str
    attempt: int


def canonical_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def build_revision(spec: SignalCanarySpec, image: str) -> Revision:
    """The revision that a spec declares."""
    return Revision(
        version=spec.version,
        symbols=spec.symbols.full,
        signal=spec.signal,
        source=spec.source,
        symbols_per_shard=spec.workloads.symbols_per_shard,
        commit_interval=spec.storage.commit_interval,
        image=image,
    )


def refer_to(revision: Revision, generation: int) -> RevisionRef:
    """Name a revision.

    The image is left out of the name: an operator upgrade brings a new default image, and must
    not by itself start a rollout of every SignalCanary in the cluster. So is the order of the
    symbols, which changes nothing that matters.
    """
    declared = revision.to_wire()
    declared["symbols"] = sorted(declared["symbols"])
    image = declared.pop("image")
    changes_signal = {"signal": declared["signal"], "source": declared["source"], "image": image}
    return RevisionRef(
        name=canonical_hash(declared)[:8],
        version=revision.version,
        fingerprint=canonical_hash(changes_signal)[:16],
        attempt=generation,
    )
