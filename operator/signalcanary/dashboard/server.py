"""The page, its stream of changes and the verbs, on loopback alone.

    GET  /TOKEN/                         the page
    GET  /TOKEN/stream?rollout=NS/NAME   server-sent events: fleet, rollout, ping
    POST /TOKEN/verbs                    {"namespace", "name", "verb", "reason", "stage", "to"}

aiohttp serves it: kopf brings it, and so does the Kubernetes client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from signalcanary.commands import Verb
from signalcanary.console.access import Access, AccessError
from signalcanary.console.command import list_records
from signalcanary.console.hand import Wish, ask
from signalcanary.console.history import list_revisions
from signalcanary.contract import Model
from signalcanary.dashboard import guard, view
from signalcanary.dashboard.curves import Curves, Point, join
from signalcanary.dashboard.curves import Key as CurveKey
from signalcanary.dashboard.live import Cluster
from signalcanary.dashboard.past import Past
from signalcanary.dashboard.verbs import Right, ask_right, offer
from signalcanary.store import Key, Live

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REFRESH_SECONDS: Final = 10.0
"""Without a change: how a rollout stands depends on the time too."""
COALESCE_SECONDS: Final = 0.2
"""Changes that come together are sent together."""
ANSWER_SECONDS: Final = 30.0
ASIDE_SECONDS: Final = 30.0
"""Rights and revisions are asked for anew after this."""


class Asked(Model):
    """The body of a verb."""

    namespace: str
    name: str
    verb: Verb
    reason: str = ""
    stage: str | None = None
    to: str | None = None


@dataclass
class _Aside:
    """What is known of a rollout beside what is watched, and as of when (event loop's time)."""

    right: Right = field(default_factory=lambda: Right(True))
    records: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    about: str = ""
    at_seconds: float = float("-inf")


class Dashboard:
    """The server of one page; `token` is what its address must begin with."""

    def __init__(self, cluster: Cluster, past: Past, token: str) -> None:
        self._cluster, self._past, self._token = cluster, past, token
        self._asides: dict[Key, _Aside] = {}
        folder = resources.files("signalcanary.dashboard") / "page"
        style, script = ((folder / name).read_text() for name in ("page.css", "page.js"))
        page = (folder / "page.html").read_text()
        self._page = page.replace("/*style*/", style).replace("/*script*/", script)
        self._policy = guard.policy(style, script)

    def build_app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=64 * 1024)
        app.router.add_get("/{token}/", self._on_page)
        app.router.add_get("/{token}/stream", self._on_stream)
        app.router.add_post("/{token}/verbs", self._on_verb)
        return app

    # ---------------------------------------------------------------- whom it answers

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        changes = request.method not in ("GET", "HEAD")
        refusal = guard.refuse(self._token, request.path, request.headers, changes=changes)
        if refusal is not None:
            return web.Response(status=403, text=f"{refusal}\n", headers=guard.HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n")
        if not response.prepared:
            response.headers.update(guard.HEADERS)
        return response

    # ---------------------------------------------------------------- the page

    async def _on_page(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(text=self._page, content_type="text/html", headers=headers)

    async def _on_stream(self, request: web.Request) -> web.StreamResponse:
        namespace, _, name = request.query.get("rollout", "").partition("/")
        key = Key(namespace, name) if name else None
        stream = web.StreamResponse(headers=guard.HEADERS)
        stream.content_type = "text/event-stream"
        await stream.prepare(request)
        sent: dict[str, Any] = {}
        with suppress(ConnectionResetError):
            while True:
                changed = asyncio.ensure_future(self._cluster.wait())
                try:
                    now = datetime.now(UTC)
                    for kind, document in (await self._documents(key, now)).items():
                        if sent.get(kind) != document:
                            await _send(stream, kind, document)
                            sent[kind] = document
                    await _send(stream, "ping", {"now": now.isoformat()})
                    await asyncio.wait([changed], timeout=REFRESH_SECONDS)
                finally:
                    changed.cancel()
                await asyncio.sleep(COALESCE_SECONDS)
        return stream

    async def _documents(self, key: Key | None, now: datetime) -> dict[str, Any]:
        """What the page shows now, by the name of the event."""
        rollouts = self._cluster.rollouts
        documents: dict[str, Any] = {
            "fleet": {
                "where": self._cluster.access.where,
                "trouble": rollouts.trouble,
                "isListed": rollouts.is_listed,
                "rows": view.fleet(rollouts.items.values(), now),
            }
        }
        if key is not None and rollouts.is_listed:
            item = rollouts.items.get(key)
            shown = await self._show(key, item, now) if item is not None else None
            documents["rollout"] = {"namespace": key.namespace, "name": key.name, "shown": shown}
        return documents

    async def _show(self, key: Key, item: Live, now: datetime) -> dict[str, Any]:
        aside = await self._look_aside(key, item)
        events = self._cluster.events
        notes = [note for note in (aside.note, self._past.note(key)) if note]
        if events.trouble:
            notes.append(f"Events are not shown: {events.trouble}")
        told = view.Told(
            self._cluster.events_of(item),
            aside.records,
            self._offer(item, aside, now),
            self._curves(key, item),
            notes,
            self._past.source,
        )
        return view.rollout(item, told, now)

    def _offer(self, item: Live, aside: _Aside, now: datetime) -> list[dict[str, Any]]:
        recorded = {one["name"] for one in list_revisions(item, aside.records)}
        try:
            return offer(item, aside.right, recorded, now)
        except (LookupError, ValueError, TypeError, AttributeError):
            return []  # a status of another version, of which the page says so

    async def _look_aside(self, key: Key, item: Live) -> _Aside:
        """The user's right, and the revisions; asked for anew with each transition."""
        aside = self._asides.setdefault(key, _Aside())
        access = replace(self._cluster.access, namespace=key.namespace)
        status = item.get("status") or {}
        about = json.dumps([item["metadata"]["uid"], status.get("history")])
        now_seconds = asyncio.get_running_loop().time()
        if aside.about == about and now_seconds - aside.at_seconds < ASIDE_SECONDS:
            return aside
        aside.about, aside.at_seconds = about, now_seconds
        aside.right = await ask_right(access, key.name)
        try:
            aside.records, aside.note = await list_records(access, item), ""
        except AccessError as error:
            aside.note = f"Revisions are not shown: {error}"
        return aside

    def _curves(self, key: Key, item: Live) -> Mapping[CurveKey, list[Point]]:
        seen = self._cluster.curves.get(key, Curves())
        past = self._past.of(key, item, self._cluster.touch)
        keys = {*seen.keys(), *past}
        return {each: join(past.get(each, ()), seen.of(each)) for each in keys}

    # ---------------------------------------------------------------- the verbs

    async def _on_verb(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _answer(415, "a verb is asked for in JSON")
        try:
            asked = Asked.model_validate_json(await request.read())
        except ValidationError as error:
            return _answer(400, f"not as expected: {error.errors()[0]['msg']}")
        key = Key(asked.namespace, asked.name)
        access: Access = replace(self._cluster.access, namespace=asked.namespace)
        wish = Wish(asked.verb, asked.stage, asked.to, asked.reason)
        try:
            answer = await ask(access, asked.name, wish, ANSWER_SECONDS)
        except AccessError as error:
            self._asides.pop(key, None)
            self._cluster.touch()
            return _answer(200, str(error))
        self._cluster.touch()
        if answer["outcome"] == "Done":
            return _answer(200, answer["message"], is_done=True)
        return _answer(200, f"{answer['message']} ({answer['refusal']})")


def _answer(status: int, message: str, *, is_done: bool = False) -> web.Response:
    return web.json_response({"isDone": is_done, "message": message}, status=status)


async def _send(stream: web.StreamResponse, kind: str, document: Any) -> None:
    # JSON has no line breaks, which would end an event.
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    await stream.write(f"event: {kind}\ndata: {text}\n\n".encode())
