"""What has happened to a SignalCanary: its status, its Events and its revisions put together. Pure.

Status remembers the last ten transitions, the API server an hour of Events, and the
ControllerRevisions every revision that is still of use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from signalcanary.resources import LABEL_COMPONENT, LABEL_REVISION, REVISION_RECORD

Live = Mapping[str, Any]
_SAME = timedelta(seconds=2)
"""Events have whole seconds, transitions milliseconds."""


def history(item: Live, events: Iterable[Live], revisions: Iterable[Live]) -> dict[str, Any]:
    """The object's history, oldest first.

    Args:
        events: of the object.
        revisions: the ControllerRevisions with its label.
    """
    status, metadata = item.get("status") or {}, item["metadata"]
    told = [
        {key: t.get(key, "") for key in ("time", "phase", "reason", "message", "version")}
        for t in reversed(status.get("history", ()))
    ]
    told += [
        entry for event in events if not _is_told(entry := _entry(event), told) and entry["time"]
    ]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "history": sorted(told, key=lambda entry: datetime.fromisoformat(entry["time"])),
        "revisions": list_revisions(item, revisions),
    }


def _entry(event: Live) -> dict[str, Any]:
    time = event.get("firstTimestamp") or event.get("eventTime") or ""
    return {
        "time": time,
        "phase": "",
        "reason": event.get("reason", ""),
        "message": event.get("message", ""),
        "version": "",
    }


def _is_told(entry: Mapping[str, Any], told: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an Event is of a transition that status tells."""
    if not entry["time"]:
        return False
    at = datetime.fromisoformat(entry["time"])
    return any(
        t["reason"] == entry["reason"] and abs(datetime.fromisoformat(t["time"]) - at) < _SAME
        for t in told
    )


def list_revisions(item: Live, revisions: Iterable[Live]) -> list[dict[str, Any]]:
    """The revisions of an object that are on record, oldest first."""
    status, uid = item.get("status") or {}, item["metadata"]["uid"]
    roles = {
        (status.get(role) or {}).get("name"): role for role in ("rejected", "canary", "stable")
    }
    found = [
        {
            "name": labels.get(LABEL_REVISION, ""),
            "version": (one.get("data") or {}).get("version", ""),
            "role": roles.get(labels.get(LABEL_REVISION), "former"),
            "created": one["metadata"].get("creationTimestamp", ""),
            "image": (one.get("data") or {}).get("image", ""),
        }
        for one in revisions
        for labels in [one["metadata"].get("labels") or {}]
        # Anyone may label a record with our names.
        if labels.get(LABEL_COMPONENT) == REVISION_RECORD
        and any(o.get("uid") == uid for o in one["metadata"].get("ownerReferences") or ())
    ]
    return sorted(found, key=lambda one: str(one["created"]))
