"""One call to the Kubernetes API server, and what may come of it.

What the operator and the command line have in common. Objects go in and out as they are on the
wire: the client's models refuse what a server of another release, or a stranger's object, holds.

    ClusterError
    ├── Conflict            the object has changed since it was read: look again
    ├── Gone                the object, or its namespace, does not exist any more
    │   └── UnknownKind     the server does not serve this kind at all
    ├── Refused             the server will not have it (invalid, over quota)
    │   └── Forbidden       nor let this user do it
    ├── Unauthorized        the server does not know this user
    └── Unreachable         no server answered
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from signalcanary.api import API_VERSION, PLURAL
from signalcanary.store import Kind, Live

JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""The answer's type for a list of which only the metadata are wanted."""
_APPLY: Final = "application/apply-patch+yaml"
_DEADLINE_SECONDS: Final = 15.0
_WATCH_SECONDS: Final = 240
"""A watch is ended by the server after this; the client's own limit is 300 s."""


class ClusterError(Exception):
    """The API server did not do what was asked."""


class Conflict(ClusterError):
    pass


class Gone(ClusterError):
    pass


class UnknownKind(Gone):
    pass


class Refused(ClusterError):
    pass


class Forbidden(Refused):
    pass


class Unauthorized(ClusterError):
    pass


class Unreachable(ClusterError):
    pass


_ERRORS: Final = {
    400: Refused,
    401: Unauthorized,
    403: Forbidden,
    404: Gone,
    409: Conflict,
    422: Refused,
}


async def call(
    api: client.ApiClient,
    method: str,
    path: str,
    what: str,
    body: Any = None,
    content: str | None = None,
    accept: str = JSON,
) -> Any:
    """One request; gives the answer's JSON.

    Args:
        what: is asked for, as errors name it.
        content: the body's type; of a PATCH server-side apply, else JSON.
        accept: the answer's type.

    Raises:
        ClusterError: of the kind that the answer is.
    """
    content = content or (_APPLY if method == "PATCH" else JSON)
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            response = await _request(api, method, path, body, content, accept)
            text = await response.read()
        answer = json.loads(text) if response.status < 300 else None
    except (aiohttp.ClientError, ApiException, TimeoutError, OSError) as error:
        raise Unreachable(f"{what}: {type(error).__name__}: {error}") from error
    except ValueError as error:
        raise ClusterError(f"{what}: the answer is not JSON: {error}") from error
    if response.status >= 300:
        raise _error(response, text, what)
    return answer


async def watch(
    api: client.ApiClient, path: str, what: str, **selectors: str
) -> AsyncGenerator[tuple[str, Live], None]:
    """One watch: all that there is, then each change of it, until the server ends the watch.

    Whoever leaves it earlier closes it (`contextlib.aclosing`).

    Gives: the type of the event (ADDED, MODIFIED, DELETED) and the object.

    Raises:
        ClusterError: the watch was refused, or the connection broke: watch again.
    """
    query = {"watch": "true", "timeoutSeconds": str(_WATCH_SECONDS), **selectors}
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            path = f"{path}?{urlencode(query)}"
            response = await _request(api, "GET", path, None, JSON)
        if response.status >= 300:
            raise _error(response, await response.read(), what)
        rest = b""
        try:
            async for chunk in response.response.content.iter_any():
                # Not line by line: an object may be longer than the client's buffer of a line.
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ClusterError(f"{what}: {event['object'].get('message')}")
                    yield event["type"], event["object"]
        finally:
            response.response.close()
    except (aiohttp.ClientError, ApiException, TimeoutError, OSError) as error:
        raise Unreachable(f"{what}: {type(error).__name__}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(f"{what}: the answer is no watch: {error}") from error


async def _request(
    api: client.ApiClient, method: str, path: str, body: Any, content: str, accept: str = JSON
) -> client.rest.RESTResponse:
    headers = {"Accept": accept, "Content-Type": content}
    request = await api.param_serialize(
        method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
    )
    return await api.call_api(*request)


def _error(response: client.rest.RESTResponse, text: bytes, what: str) -> ClusterError:
    kind = _ERRORS.get(response.status, ClusterError)
    if kind is Gone and not text.lstrip().startswith(b"{"):
        # Of an object that is not there the server says so as JSON.
        kind = UnknownKind
    return kind(f"{what}: {response.status} {_explain(text) or response.reason}")


def _explain(body: bytes) -> str:
    """What the server says of an error, as people read it."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip()
    return str(message)[:500]


_RESOURCES: Final = {
    Kind.SIGNAL_CANARY: (f"/apis/{API_VERSION}", PLURAL),
    Kind.STATEFUL_SET: ("/apis/apps/v1", "statefulsets"),
    Kind.CONTROLLER_REVISION: ("/apis/apps/v1", "controllerrevisions"),
    Kind.POD: ("/api/v1", "pods"),
    Kind.CONFIG_MAP: ("/api/v1", "configmaps"),
    Kind.SERVICE: ("/api/v1", "services"),
    Kind.CLAIM: ("/api/v1", "persistentvolumeclaims"),
}


def path_of(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    """The API path of an object, or of all of a kind."""
    root, plural = _RESOURCES[kind]
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{plural}" + (f"/{name}" if name else "")
