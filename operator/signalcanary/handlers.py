"""kopf, used for what it is best at: watching. Thin.

Only `on.event` handlers: they put neither finalizers nor annotations on anybody's objects, so
objects stay exactly as Git has them, and deletion never waits for the operator.
"""

from __future__ import annotations

import logging
from typing import Any

import kopf

from signalcanary.api import GROUP, PLURAL, VERSION
from signalcanary.resources import MANAGED_BY, MANAGER
from signalcanary.store import Kind, Store

_OWNED = (
    ("apps", "v1", "statefulsets", Kind.STATEFUL_SET),
    ("", "v1", "pods", Kind.POD),
    ("", "v1", "configmaps", Kind.CONFIG_MAP),
    ("", "v1", "services", Kind.SERVICE),
    ("apps", "v1", "controllerrevisions", Kind.CONTROLLER_REVISION),
    ("", "v1", "persistentvolumeclaims", Kind.CLAIM),
)


def build_registry(store: Store) -> kopf.OperatorRegistry:
    """Handlers that keep the store in step with the cluster."""
    registry = kopf.OperatorRegistry()

    def watch(group: str, version: str, plural: str, kind: Kind, **filters: Any) -> None:
        @kopf.on.event(group, version, plural, registry=registry, id=f"watch-{plural}", **filters)
        async def on_event(event: kopf.RawEvent, **_: Any) -> None:
            item = dict(event["object"])
            if event["type"] == "DELETED":
                store.remove(kind, item)
            else:
                store.put(kind, item)

    watch(GROUP, VERSION, PLURAL, Kind.SIGNAL_CANARY)
    for group, version, plural, kind in _OWNED:
        watch(group, version, plural, kind, labels={MANAGED_BY: MANAGER})

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf's settings: nothing written, nothing scanned that need not be, dead watches noticed."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # a Lease elects, see leader.py
    settings.posting.enabled = False  # Events are posted by cluster.py, deduplicated
    settings.scanning.disabled = True  # all resources are named above
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.queueing.exit_timeout = 0.5  # events need not be handled by one that is stopping
    for group, version, plural, _ in _OWNED:
        settings.watching.label_selectors[group, version, plural] = f"{MANAGED_BY}={MANAGER}"
    for name in ("kopf.objects", "kopf.activities", "kopf._core.engines.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return settings
