"""Queries to a Prometheus server, or to what speaks its query API.

Nothing is believed that is not a whole and timely success. What is secret goes into the request
and nowhere else: it is read when a request is made, and taken out of what a server says of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from threading import Event
from typing import Any, TypeVar

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from signalcanary.contract import format_duration
from signalcanary.evaluate import Measurement, MetricsSeen, SourceFailure
from signalcanary.metrics_source import (
    BadResponse,
    MetricsSourceError,
    Series,
    SourceTimeout,
    SourceUnreachable,
    Target,
    assemble,
    build_selector,
    failed,
    parse_numbers,
    parse_vector,
    series_names,
)
from signalcanary.sources import SourceConfig, Tls, read_secret

MOST_BYTES = 256 * 1024 * 1024
"""Of one answer: some hundred times what ten thousand canaries take."""


MOST_BYTES_OF_ONE_NUMBER = 1024 * 1024
"""Of the answer to a condition's own query, which should be one number."""

RANGE_DEADLINE = timedelta(minutes=1)
"""Of one query over a stretch of time."""

T = TypeVar("T")


class _Credentials(AuthBase):
    """Adds what the files of now say, so that a token that rotates is never an old one."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._secrets: frozenset[str] = frozenset()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        config, basic = self._config, self._config.basic_auth
        if (token_file := config.file(config.bearer_token_file)) is not None:
            token = read_secret(token_file)
            self._secrets = frozenset({token})
            # As bytes, for one that is not ASCII would not be sent at all.
            request.headers["Authorization"] = b"Bearer " + token.encode()  # type: ignore[assignment]
        elif basic is not None:
            user_file, password_file = map(config.file, (basic.username_file, basic.password_file))
            assert user_file is not None
            assert password_file is not None
            user, password = read_secret(user_file), read_secret(password_file)
            both = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._secrets = frozenset({password, both})
            request.headers["Authorization"] = f"Basic {both}"
        return request

    def hide(self, text: str) -> str:
        """A server's words without the secrets that it may have been told."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


class _Adapter(HTTPAdapter):
    """Holds the server to a name that need not be the address's."""

    def __init__(self, server_name: str | None, connections: int) -> None:
        self._name: dict[str, Any] = {"server_hostname": server_name} if server_name else {}
        # A failed look is a verdict of its own; the next look is the retry. With read=False a
        # timeout comes as itself, not as a connection that could not be made.
        super().__init__(max_retries=Retry(0, read=False), pool_maxsize=connections)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **kwargs: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._name)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, **self._name)


class _Session(requests.Session):
    """Holds an answer to its deadline as a whole, where `requests` limits the wait for each
    piece of it, and lets only a complete success pass."""

    def __init__(self, config: SourceConfig, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        # Neither a proxy nor a .netrc of the environment: all that is used is in the file.
        self.trust_env = False
        tls = config.tls or Tls()
        ca, cert, key = map(config.file, (tls.ca_file, tls.cert_file, tls.key_file))
        self.verify = True if ca is None else str(ca)
        self.cert = None if cert is None else (str(cert), str(key))
        if config.proxy_url is not None:
            self.proxies = dict.fromkeys(("http", "https"), config.proxy_url)

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        ends_at = time.monotonic() + kwargs["timeout"]
        # A redirect would take the tenant, and the client's certificate, to wherever it says.
        more = {"stream": True, "allow_redirects": False}
        response = super().request(method, url, *args, **(kwargs | more))
        with response:
            body = bytearray()
            while piece := response.raw.read1(65536, decode_content=True):
                body += piece
                if time.monotonic() > ends_at:
                    raise requests.ReadTimeout("the answer came too slowly")
                if len(body) > self._most_bytes:
                    raise BadResponse(f"an answer of more than {self._most_bytes} bytes")
        if response.status_code != 200:
            raise BadResponse(_refusal(response.status_code, bytes(body)))
        response._content = bytes(body)
        answer = response.json(object_pairs_hook=_without_repeats)
        _check_complete(answer, _RANGE if url.endswith(_RANGE_PATH) else _INSTANT)
        response.json = lambda **_: answer  # type: ignore[method-assign]
        return response


def _refusal(status: int, body: bytes) -> str:
    """An answer that is no success, with the server's word for why where it has one."""
    if 300 <= status < 400:
        return f"HTTP {status}, a redirect, which is not followed: write the final address"
    try:
        detail = json.loads(body)["error"]
    except (ValueError, TypeError, LookupError, RecursionError):
        detail = None
    return f"HTTP {status}: {detail}" if isinstance(detail, str) else f"HTTP {status}"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a label that stands twice nobody can say which is meant."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise BadResponse("a name stands twice in one object")
    return read


_RANGE_PATH = "/api/v1/query_range"
_INSTANT = {"vector": "an instant vector", "scalar": "a scalar"}
_RANGE = {"matrix": "a range vector"}


def _check_complete(answer: Any, kinds: Mapping[str, str]) -> None:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        detail = answer.get("error") if isinstance(answer, dict) else None
        raise BadResponse(f"the query did not succeed: {detail}")
    if answer.get("warnings"):
        # What a federation cannot reach it leaves out: absent is then not the same as silent.
        raise BadResponse(f"the answer is partial: {answer['warnings']}")
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType") not in kinds:
        raise BadResponse(f"the result is not {' or '.join(kinds.values())}")


def _connect(config: SourceConfig, credentials: _Credentials, most_bytes: int) -> PrometheusConnect:
    session = _Session(config, most_bytes)
    client = PrometheusConnect(
        url=config.url,
        headers={"X-Scope-OrgID": config.tenant} if config.tenant else None,
        auth=credentials,
        session=session,
    )
    # After the client, which mounts one of its own.
    tls = config.tls or Tls()
    session.mount(config.url, _Adapter(tls.server_name, config.max_concurrent_queries))
    return client


class Prometheus:
    """A Prometheus server, or anything that speaks its query API."""

    def __init__(self, config: SourceConfig, *, most_bytes: int = MOST_BYTES) -> None:
        self._url = config.url
        self._deadline = config.deadline
        self._credentials = _Credentials(config)
        self._client = _connect(config, self._credentials, most_bytes)
        self._own_client = _connect(config, self._credentials, MOST_BYTES_OF_ONE_NUMBER)
        # Threads of its own: a server that hangs must not hold up anything else. Their number is
        # the limit on the queries that are under way.
        self._threads = ThreadPoolExecutor(
            config.max_concurrent_queries, thread_name_prefix="prometheus"
        )
        # Pictures are nobody's decision: they never take a look's thread.
        self._history_thread = ThreadPoolExecutor(1, thread_name_prefix="prometheus-history")

    def close(self) -> None:
        """Let go of the connections; reads that are under way end by their deadline."""
        self._client.close()
        self._own_client.close()
        for threads in (self._threads, self._history_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(
        self, targets: Sequence[Target], at: datetime | None = None
    ) -> Mapping[Target, MetricsSeen]:
        if not targets:
            return {}
        # One instant for all, so that no value is newer than the evidence beside it.
        at = at or datetime.now(UTC)
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        selector = build_selector(targets)
        is_over = Event()
        # By turns, so that one who asks much does not stand in the way of all who ask little.
        turns = zip_longest(*([query.text for query in target.queries] for target in targets))
        own = list(dict.fromkeys(text for turn in turns for text in turn if text is not None))

        def query(metric: str) -> list[Series]:
            if is_over.is_set():
                return []  # another has failed, and with it the look
            try:
                return self._query(metric, f"{metric}{{{selector}}}", at, began)
            except BaseException:
                is_over.set()
                raise

        def query_own(text: str) -> Measurement:
            if is_over.is_set():
                return Measurement()
            try:
                return self._query_own(text, at, began)
            except MetricsSourceError as error:
                # One bad query is the affair of those who ask it.
                return Measurement(failure=SourceFailure(type(error).__name__, str(error)))

        answers = [
            loop.run_in_executor(self._threads, query, metric) for metric in series_names(targets)
        ]
        own_answers = [loop.run_in_executor(self._threads, query_own, text) for text in own]
        try:
            # The threads keep the deadline but for headers that trickle in. All are waited for:
            # one that goes on would be in the way of the next look.
            async with asyncio.timeout(self._deadline.total_seconds() + 1):
                read = await asyncio.gather(*answers, return_exceptions=True)
                measured = dict(zip(own, await asyncio.gather(*own_answers), strict=True))
        except TimeoutError:
            is_over.set()
            return failed(targets, self._timeout(self._deadline))
        series: list[Series] = []
        for answer in read:
            if isinstance(answer, MetricsSourceError):
                return failed(targets, answer)
            if isinstance(answer, BaseException):
                raise answer
            series += answer
        return {
            target: replace(
                seen,
                measurements={
                    **seen.measurements,
                    **{(q.metric, q.symbol): measured[q.text] for q in target.queries},
                },
            )
            for target, seen in assemble(targets, series).items()
        }

    async def fetch_series(self, target: Target, query: str, at: datetime) -> list[Series]:
        """Raises `MetricsSourceError`: the source could not be read."""

        def ask() -> list[Series]:
            found = self._query("the query", query, at, time.monotonic())
            return [replace(one, metric=one.labels.get("__name__", "")) for one in found]

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    async def fetch_history(
        self, target: Target, query: str, first: datetime, last: datetime, step: timedelta
    ) -> list[Any]:
        """Raises `MetricsSourceError`: the source could not be read."""

        def ask() -> list[Any]:
            return self.fetch_range(query, first, last, step, self._deadline)

        return await asyncio.get_running_loop().run_in_executor(self._history_thread, ask)

    def fetch_range(
        self,
        query: str,
        first: datetime,
        last: datetime,
        step: timedelta,
        deadline: timedelta = RANGE_DEADLINE,
    ) -> list[dict[str, Any]]:
        """What a query gave at each step of a stretch of time, as the API has it; for people,
        who wait for it longer than a look may.

        Raises:
            MetricsSourceError: the source could not be read.
        """

        def send(timeout: float) -> Any:
            # The client's own are of whole seconds.
            params = {
                "timeout": f"{timeout:.3f}",
                "start": f"{first.timestamp():.3f}",
                "end": f"{last.timestamp():.3f}",
            }
            seconds = f"{step.total_seconds():g}"
            return self._client.custom_query_range(
                query, first, last, seconds, params=params, timeout=timeout
            )

        return self._ask(send, deadline, time.monotonic(), list)

    def _timeout(self, deadline: timedelta) -> SourceTimeout:
        return SourceTimeout(f"{self._url} did not answer within {format_duration(deadline)}")

    def _query(self, metric: str, query: str, at: datetime, began: float) -> list[Series]:
        send = _at_instant(self._client, query, at)
        return self._ask(
            send, self._deadline, began, lambda result: parse_vector(metric, result, at)
        )

    def _query_own(self, query: str, at: datetime, began: float) -> Measurement:
        send = _at_instant(self._own_client, query, at)
        return self._ask(send, self._deadline, began, parse_numbers)

    def _ask(
        self,
        send: Callable[[float], Any],
        deadline: timedelta,
        began: float,
        parse: Callable[[Any], T],
    ) -> T:
        """Send a query that may take what is left of a deadline, and read the result."""
        left = began + deadline.total_seconds() - time.monotonic()
        if left <= 0:
            raise self._timeout(deadline)
        url = self._url
        try:
            return parse(send(left))
        except BadResponse as error:
            # Hidden before it is cut: half a secret would not be found.
            raise BadResponse(f"{url}: {self._credentials.hide(str(error))[:300]}") from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise self._timeout(deadline) from error
        except (requests.JSONDecodeError, urllib3.exceptions.DecodeError) as error:
            raise BadResponse(f"{url} answered something that is not JSON") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SourceUnreachable(
                f"{url}: {self._credentials.hide(_root_cause(error))[:300]}"
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadResponse(f"{url} answered no Prometheus result") from error


def _at_instant(
    client: PrometheusConnect, query: str, at: datetime
) -> Callable[[float], list[dict[str, Any]]]:
    def send(timeout: float) -> Any:
        # In seconds without a unit: with one, Prometheus takes only whole numbers.
        params = {"timeout": f"{timeout:.3f}", "time": f"{at.timestamp():.3f}"}
        return client.custom_query(query, params=params, timeout=timeout)

    return send


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__
