"""The election: who works holds the Lease, and whoever ends lets it go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from api_server import OPERATOR, SYSTEM, ApiServer
from kubernetes.aio import client

from signalcanary.leader import LeadershipLost, lead

NAME = "signalcanary-operator"  # the one that the chart gives rights to
PATH = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{NAME}"


@pytest.fixture
async def connection(api: ApiServer) -> AsyncIterator[client.ApiClient]:
    configuration = client.Configuration(host=api.url)
    configuration.verify_ssl = False
    configuration.api_key["BearerToken"] = f"Bearer {api.token[OPERATOR]}"
    async with client.ApiClient(configuration) as connection:
        yield connection


def holder(api: ApiServer) -> str | None:
    found: str | None = api.must("GET", PATH)["spec"].get("holderIdentity")
    return found


async def test_what_ends_the_work_ends_the_election_and_lets_the_lease_go(
    api: ApiServer, connection: client.ApiClient
) -> None:
    held_by = []

    async def work() -> None:
        held_by.append(holder(api))
        raise ZeroDivisionError("a bug")

    with pytest.raises(ExceptionGroup) as ended:
        await lead(connection, NAME, SYSTEM, "one", work)
    assert ended.group_contains(ZeroDivisionError)
    assert held_by == ["one"]
    assert holder(api) is None


async def test_whoever_loses_the_lease_stops_to_work_and_leaves_it_to_the_other(
    api: ApiServer, connection: client.ApiClient
) -> None:
    is_stopped = asyncio.Event()

    async def work() -> None:
        lease = api.must("GET", PATH)
        lease["spec"]["holderIdentity"] = "other"
        api.must("PUT", PATH, lease)
        try:
            await asyncio.Event().wait()
        finally:
            is_stopped.set()

    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(30):
            await lead(connection, NAME, SYSTEM, "one", work)
    assert ended.group_contains(LeadershipLost)
    assert is_stopped.is_set()
    assert holder(api) == "other"
    lease = api.must("GET", PATH)
    lease["spec"] = {}
    api.must("PUT", PATH, lease)
