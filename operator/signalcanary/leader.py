"""Which replica decides: the holder of a Lease.

Wraps the client library's election. A replica that loses the Lease ends its process: there is
no state to clean up, and no way for two replicas to go on side by side. Even if two did, each
state is written under the object's resourceVersion, so only one could make a transition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10
RETRY_SECONDS = 2


class LeadershipLost(Exception):
    """Another replica holds the Lease, or it could not be renewed in time."""


class _PatientLock(LeaseLock):
    """A Lease that takes a broken connection for a failed try, not for the end."""

    async def get(self, name: str, namespace: str) -> Any:
        try:
            return await super().get(name, namespace)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, ApiException(status=0, reason=str(error))

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own `create` asks for `pretty=True`, which its client refuses (37.0.2).
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record)
        )
        return await self._try(self._create(namespace, lease))

    async def _create(self, namespace: str, lease: client.V1Lease) -> bool:
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except ApiException as error:
            logger.warning("the Lease was not made, tried again: %s", error.reason)
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._try(super().update(name, namespace, updated_record))

    async def _try(self, call: Awaitable[bool]) -> bool:
        try:
            return await call
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.warning("the Lease was not written, tried again: %s", error)
            return False


async def lead(
    api: client.ApiClient,
    name: str,
    namespace: str,
    identity: str,
    work: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the Lease, then do the work while holding it.

    Raises:
        ExceptionGroup: of `LeadershipLost`, or of what ended the work.
    """
    is_held = asyncio.Event()

    async def hold() -> None:
        is_held.set()
        await asyncio.Event().wait()  # the library cancels this when the Lease is lost

    election = leaderelection.LeaderElection(
        electionconfig.Config(
            _PatientLock(name, namespace, identity, api),
            lease_duration=LEASE_SECONDS,
            renew_deadline=RENEW_DEADLINE_SECONDS,
            retry_period=RETRY_SECONDS,
            onstarted_leading=hold,
            onstopped_leading=None,
        )
    )

    async def elect() -> None:
        await election.run()
        raise LeadershipLost(f"{identity} lost the Lease {namespace}/{name}")

    async def lead_once_elected() -> None:
        await is_held.wait()
        await work()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(elect(), name="election")
            group.create_task(lead_once_elected(), name="poller")
    finally:
        if is_held.is_set():
            await _release(api, name, namespace, identity)


async def _release(api: client.ApiClient, name: str, namespace: str, identity: str) -> None:
    """Let the Lease go, so that the next replica need not wait until it has run out."""
    leases = client.CoordinationV1Api(api)
    try:
        async with asyncio.timeout(RETRY_SECONDS):
            lease = await leases.read_namespaced_lease(name, namespace)
            if lease.spec.holder_identity == identity:
                lease.spec.holder_identity = None
                await leases.replace_namespaced_lease(name, namespace, lease)
    except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
        logger.warning("the Lease was not released, it runs out by itself: %s", error)
