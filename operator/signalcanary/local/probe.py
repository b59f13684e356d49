"""Asking local workloads: are you ready, what do you measure.

In a cluster the kubelet asks the one and Prometheus the other. Here one small client asks
both. A workload that does not answer has no series, which is what Prometheus would say of it
too; it is never an error of the metrics source.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from signalcanary.metrics_source import Series

TIMEOUT_SECONDS = 2.0


class Probe(Protocol):
    """What a rollout asks of its workloads; the port that tests fake."""

    async def find_unready(self, url: str) -> str | None: ...

    async def scrape(self, url: str) -> list[Series]: ...


def parse_exposition(text: str) -> list[Series]:
    """Read a /metrics page.

    Raises:
        ValueError: it is not in the Prometheus text format.
    """
    return [
        Series(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


class HttpProbe:
    """The probe over HTTP; an async context manager."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The environment's proxies are not asked: all that is probed is on this machine.
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def find_unready(self, url: str) -> str | None:
        """Why it is not ready, by its own /readyz; None if it is."""
        status, text = await self._get(f"{url}/readyz")
        if status == 200:
            return None
        return " ".join(text.split())[:200] or "it does not answer yet"

    async def scrape(self, url: str) -> list[Series]:
        """The series of /metrics; none if it does not answer, or answers something else."""
        status, text = await self._get(f"{url}/metrics")
        if status != 200:
            return []
        try:
            return parse_exposition(text)
        except ValueError:
            return []

    async def _get(self, url: str) -> tuple[int, str]:
        assert self._session is not None  # used inside its context
        try:
            async with self._session.get(url) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return 0, ""
