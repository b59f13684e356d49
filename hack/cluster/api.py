"""The few requests to the node's API server that kubectl would be slow for.

Why it exists: the node's first process asks for readiness many times a second
and the provisioner watches claims; both run before anything is installed, so
with the standard library only.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing

from settings import API_PORT, Settings

TIMEOUT_SECONDS = 10.0


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Api:
    def __init__(self, settings: Settings, *, client: str = "admin", host: str = "") -> None:
        pki = settings.certificates
        self._host = host or settings.node_address
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / f"{client}.crt", pki / f"{client}.key")

    def _connect(self, timeout_seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._host, API_PORT, context=self._context, timeout=timeout_seconds
        )

    def request(self, method: str, path: str, body: object = None) -> dict[str, object]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        with closing(self._connect(TIMEOUT_SECONDS)) as connection:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status >= 300:
            raise ApiError(answer.status, text)
        parsed = json.loads(text)
        if not isinstance(parsed, dict):
            raise ApiError(answer.status, text)
        return parsed

    def ready(self) -> bool:
        try:
            with closing(self._connect(2.0)) as connection:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def watch(self, path: str, *, seconds: int) -> Iterator[None]:
        """Yields once for each event under the path until the server ends the watch."""
        with closing(self._connect(seconds + TIMEOUT_SECONDS)) as connection:
            connection.request("GET", f"{path}&watch=1&timeoutSeconds={seconds}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise ApiError(answer.status, answer.read().decode())
            while answer.readline():
                yield
