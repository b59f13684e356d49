"""What the operator says of itself: metrics, health and the server for both.

Liveness is the age of the last completed round of the poller: an operator whose loop is stuck
looks dead, whatever its threads still do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from signalcanary.rollout_metrics import RolloutMetrics

LIVENESS_DEADLINE_SECONDS = 60.0


class OperatorMetrics:
    """The operator's own metrics. Names follow the Prometheus conventions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self.registry = registry
        self.rollouts = RolloutMetrics()
        registry.register(self.rollouts)
        self.leader = gauge("signalcanary_leader", "1 on the replica that decides.")
        self.objects = gauge("signalcanary_objects", "SignalCanaries by phase.", "phase")
        self.round_seconds = Histogram(
            "signalcanary_poll_round_duration_seconds",
            "Time of one round: read the metrics, decide, persist, act.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.last_round = gauge(
            "signalcanary_last_poll_round_timestamp_seconds",
            "Unix time of the last completed round.",
        )
        self.decisions = counter(
            "signalcanary_decisions_total", "Looks taken, by the phase they left.", "phase"
        )
        self.transitions = counter(
            "signalcanary_transitions_total", "Transitions.", "phase", "reason"
        )
        self.commands = counter(
            "signalcanary_commands_total",
            "What people asked for, by verb, and what came of it: Done, or why it was refused.",
            "verb",
            "outcome",
        )
        self.source_failures = counter(
            "signalcanary_metrics_source_failures_total",
            "Looks for which the metrics source could not be read.",
            "reason",
        )
        self.writes = counter(
            "signalcanary_api_writes_total", "Writes to the API server.", "kind", "verb"
        )
        self.conflicts = counter(
            "signalcanary_status_conflicts_total",
            "Status writes refused because the object had changed; looked at again.",
        )
        self.drift = counter(
            "signalcanary_drift_corrected_total",
            "Objects of a rollout that were not as declared, by hand or by a program, put back.",
            "kind",
        )
        self.errors = counter(
            "signalcanary_reconcile_errors_total", "Looks that failed, by error type.", "error"
        )
        self.invalid = gauge(
            "signalcanary_invalid_objects", "SignalCanaries whose spec cannot be read."
        )
        self.reports_written = counter(
            "signalcanary_reports_written_total", "Reports that were written as files."
        )
        self.report_failures = counter(
            "signalcanary_report_write_failures_total",
            "Attempts to write a report as files that failed, by reason; each is tried again, but "
            "for Gone (the ConfigMap was deleted first) and Unreadable (it holds no report).",
            "reason",
        )
        self.reports_pending = gauge(
            "signalcanary_reports_pending", "Reports that are still to be written as files."
        )
        self.notifications = counter(
            "signalcanary_notifications_total",
            "Notifications that have ended, by how: delivered, silenced, unrouted, dropped (the "
            "outbox was full), gave_up, overwritten (in the history, before they were taken in) "
            "or receiver_removed.",
            "receiver",
            "outcome",
        )
        self.notification_attempts = counter(
            "signalcanary_notification_attempts_total",
            "Attempts to reach a receiver, by ok or the type of the error.",
            "receiver",
            "result",
        )
        self.notifications_pending = gauge(
            "signalcanary_notifications_pending", "Notifications not delivered yet.", "receiver"
        )
        self.notifications_oldest = gauge(
            "signalcanary_notifications_oldest_pending_age_seconds",
            "Age of the oldest notification not delivered yet, but for those that wait for their "
            "digest; 0 if there is none.",
            "receiver",
        )
        self.notification_errors = counter(
            "signalcanary_notification_errors_total",
            "Failures of notifications that are no receiver's, by error type.",
            "error",
        )
        self.notifications_config_broken = gauge(
            "signalcanary_notifications_config_broken",
            "1 if the file of notifications could not be used when it was last read.",
        )


@dataclass
class Health:
    """Whether the process is alive and ready."""

    is_leader: bool = False
    is_watching: bool = False
    monotonic: Callable[[], float] = time.monotonic
    last_round: float = field(init=False)

    def __post_init__(self) -> None:
        self.round_completed()

    def round_completed(self) -> None:
        self.last_round = self.monotonic()

    def liveness_problem(self) -> str | None:
        age = self.monotonic() - self.last_round
        if self.is_leader and age > LIVENESS_DEADLINE_SECONDS:
            return f"the last round of the poller was completed {age:.0f} s ago"
        return None

    def readiness_problem(self) -> str | None:
        return None if self.is_watching else "the watches are not established yet"


@asynccontextmanager
async def serve(
    host: str, port: int, metrics: OperatorMetrics, health: Health
) -> AsyncIterator[str]:
    """Serve /metrics, /healthz and /readyz; gives the base URL."""

    async def on_metrics(_: web.Request) -> web.Response:
        # In a thread: with thousands of rollouts it takes long, and the loop has others to serve.
        body = await asyncio.to_thread(generate_latest, metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def answer(problem: str | None) -> web.Response:
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def on_healthz(_: web.Request) -> web.Response:
        return answer(health.liveness_problem())

    async def on_readyz(_: web.Request) -> web.Response:
        return answer(health.readiness_problem())

    app = web.Application()
    app.router.add_get("/metrics", on_metrics)
    app.router.add_get("/healthz", on_healthz)
    app.router.add_get("/readyz", on_readyz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        yield f"http://{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()
