"""The verbs `status`, `history` and `explain`: options in, text and an exit code out."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from signalcanary.apiserver import path_of
from signalcanary.console import text
from signalcanary.console.access import Access, AccessError, open_access
from signalcanary.console.explained import explain
from signalcanary.console.health import explain_unreadable, stand, worst
from signalcanary.console.history import history
from signalcanary.output import show
from signalcanary.resources import LABEL_NAME
from signalcanary.store import Kind

FAILED: Final = 1

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a verb says: for programs, for people, and as an exit code."""

    document: Any
    text: str
    exit_code: int = 0


Verb = Callable[[Access, argparse.Namespace, datetime], Awaitable[Answer]]


def run(verb: Verb, args: argparse.Namespace) -> int:
    """Ask the cluster that the options name, and print; gives the exit code."""

    async def ask() -> Answer:
        async with open_access(args) as access:
            return await verb(access, args, datetime.now(UTC))

    try:
        answer = asyncio.run(ask())
    except AccessError as error:
        print(f"signalcanary {args.verb}: {error}", file=sys.stderr)
        return FAILED
    show(answer.document, answer.text, args.output)
    return answer.exit_code


async def status_of(access: Access, args: argparse.Namespace, now: datetime) -> Answer:
    """How one or all SignalCanaries stand."""
    if args.name is not None:
        document = _standing(await access.get(args.name), now)
        return Answer(document, text.render_status(document, now), document["exitCode"])
    everywhere: bool = args.all_namespaces
    items = await access.list_all(everywhere=everywhere)
    documents = [_standing(item, now) for item in items]
    code = worst([stand(item, now) for item in items]).exit_code
    where = "" if everywhere else f" in namespace {access.namespace}: choose another by -n, or -A"
    told = f"there is no SignalCanary{where}\n"
    if documents:
        told = text.render_list(documents, now, named=everywhere)
    return Answer({"items": documents, "exitCode": code}, told, code)


def _standing(item: Item, now: datetime) -> dict[str, Any]:
    metadata, status = item["metadata"], item.get("status") or {}
    try:
        standing = stand(item, now)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(item, error) from error
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "created": metadata.get("creationTimestamp", ""),
        "health": standing.health.value,
        "exitCode": standing.exit_code,
        "why": standing.why or status.get("message", ""),
        "status": status,
    }


async def explain_one(access: Access, args: argparse.Namespace, now: datetime) -> Answer:
    """Why a SignalCanary stands where it does."""
    item = await access.get(args.name)
    try:
        document = explain(item, now)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(item, error) from error
    code = stand(item, now).exit_code
    return Answer(document, text.render_explanation(document, now), code)


async def history_of(access: Access, args: argparse.Namespace, now: datetime) -> Answer:
    """What has happened to a SignalCanary."""
    item = await access.get(args.name)
    document = history(item, await list_events(access, item), await list_records(access, item))
    return Answer(document, text.render_history(document, now))


async def list_events(access: Access, item: Item) -> list[dict[str, Any]]:
    """The Events of an object."""
    return await access.list_path(
        f"/api/v1/namespaces/{quote(access.namespace, safe='')}/events?"
        + urlencode({"fieldSelector": f"involvedObject.uid={item['metadata']['uid']}"}),
        "Events",
    )


async def list_records(access: Access, item: Item) -> list[dict[str, Any]]:
    """The ControllerRevisions that carry an object's label."""
    return await access.list_path(
        path_of(Kind.CONTROLLER_REVISION, quote(access.namespace, safe=""))
        + "?"
        + urlencode({"labelSelector": f"{LABEL_NAME}={item['metadata']['name']}"}),
        "ControllerRevisions",
    )


def _unreadable(item: Item, error: Exception) -> AccessError:
    return AccessError(explain_unreadable(item, error))


VERBS: Final[dict[str, Verb]] = {
    "status": status_of,
    "explain": explain_one,
    "history": history_of,
}
