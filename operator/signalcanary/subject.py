"""A SignalCanary as it was found, read into what a look needs. Pure.

Whatever a live object holds, reading it gives a `Subject` or `InvalidObject`: one that was
stored under another version of the CRD, or tampered with, must not stop the operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from signalcanary import status as statuses
from signalcanary.api import SignalCanarySpec
from signalcanary.commands import Asked, read_annotations
from signalcanary.metrics_source import Target, build_target
from signalcanary.resources import Owner, WorkloadSettings
from signalcanary.revisions import Revision, RevisionRef, build_revision, refer_to
from signalcanary.rollout import RolloutState, judged_revision
from signalcanary.store import Key, Live


class InvalidObject(Exception):
    """The object's spec or status cannot be read; the message is for its user."""


@dataclass(frozen=True)
class Settings:
    """What the administrator sets.

    Attributes:
        workloads_image: image of new revisions.
        status_interval: pace at which live values are written to status when nothing changes.
    """

    workloads_image: str
    workloads: WorkloadSettings = field(default_factory=WorkloadSettings)
    status_interval: timedelta = timedelta(seconds=30)


@dataclass(frozen=True)
class Subject:
    """A SignalCanary, read."""

    key: Key
    item: Live
    spec: SignalCanarySpec
    state: RolloutState
    target: RevisionRef
    target_revision: Revision
    asked: Asked

    @property
    def owner(self) -> Owner:
        return Owner(self.key.namespace, self.key.name, self.item["metadata"]["uid"])

    @property
    def evaluated_at(self) -> datetime | None:
        return statuses.last_evaluation(self.item.get("status") or {})

    def metrics_target(self) -> Target | None:
        """What to ask the metrics source; None if nothing is being judged."""
        judged = judged_revision(self.state)
        if judged is None:
            return None
        track, revision = judged
        return build_target(self.spec, self.key.namespace, self.key.name, revision.name, track)


def read(item: Live, settings: Settings) -> Subject:
    """Read a live object.

    Raises:
        InvalidObject: it was stored under another version of the CRD, or tampered with.
    """
    metadata = item["metadata"]
    try:
        spec = SignalCanarySpec.model_validate(item["spec"])
        state = statuses.parse(item.get("status") or {})
        statuses.last_evaluation(item.get("status") or {})
    except (ValidationError, LookupError, ValueError, *_FOREIGN) as error:
        raise InvalidObject(f"the object cannot be read: {describe(error)}") from error
    revision = build_revision(spec, settings.workloads_image)
    return Subject(
        key=Key(metadata["namespace"], metadata["name"]),
        item=item,
        spec=spec,
        state=state,
        target=refer_to(revision, metadata["generation"]),
        target_revision=revision,
        asked=read_annotations(metadata.get("annotations")),
    )


_FOREIGN = (TypeError, AttributeError, ArithmeticError)
"""What reading data raises that has another shape, or numbers too large for a time."""


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
