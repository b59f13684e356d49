"""The operator's process: watches, election, poller and server under one supervisor.

Whatever ends one of them ends the process, with its reason as the last line of the log: a
restarted operator heals itself, one that limps does not.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import kopf
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from signalcanary import __version__, cluster, leader, telemetry
from signalcanary.api import DEFAULT_SOURCE
from signalcanary.contract import format_duration, parse_duration
from signalcanary.crd import find_missing
from signalcanary.handlers import build_registry, build_settings
from signalcanary.mistyped import parse
from signalcanary.notify.keeper import ConfigMapRecords
from signalcanary.notify.notifier import Notifier
from signalcanary.poller import Pace, Poller
from signalcanary.prometheus import Prometheus
from signalcanary.reconciler import Reconciler
from signalcanary.report_files import FilesSettings, ReportFiles, check_root
from signalcanary.report_writer import ReportWriter
from signalcanary.reports import Reports
from signalcanary.resources import WorkloadSettings
from signalcanary.sources import (
    MAX_DEADLINE,
    SourceConfig,
    Sources,
    SourcesError,
    check_url,
    read_sources,
)
from signalcanary.status.schema import build_status_schema
from signalcanary.store import Kind, Store
from signalcanary.subject import Settings

logger = logging.getLogger("signalcanary")

STOP_SECONDS: Final = 2.0
"""How long the watches may take to end."""
_SHORTEST_REST: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Options:
    """What the process is started with."""

    sources: Mapping[str, SourceConfig]
    namespace: str | None
    lease_namespace: str
    lease_name: str
    identity: str
    host: str
    port: int
    settings: Settings
    rest_interval: timedelta
    notifications: Path | None = None
    reports: FilesSettings | None = None


def parse_options(argv: Sequence[str]) -> Options:
    """Read the command line; each option has an environment variable for its default."""
    env = os.environ
    parser = argparse.ArgumentParser(
        prog="signalcanary operator", description="Run the operator against a Kubernetes cluster."
    )
    add = parser.add_argument
    add(
        "--prometheus-url",
        type=_url,
        default=env.get("SIGNALCANARY_PROMETHEUS_URL") or None,
        help="base URL of the Prometheus that scrapes the workloads: the metrics source default",
    )
    add(
        "--prometheus-deadline",
        type=_deadline,
        default=env.get("SIGNALCANARY_PROMETHEUS_DEADLINE") or "8s",
        help="longest time for all queries of a look (default 8s)",
    )
    add(
        "--metrics-sources",
        type=Path,
        metavar="FILE",
        default=env.get("SIGNALCANARY_METRICS_SOURCES") or None,
        help="YAML file of metrics sources by name, with their credentials' files "
        "(docs/metrics-sources.md)",
    )
    add(
        "--notifications",
        type=Path,
        metavar="FILE",
        default=env.get("SIGNALCANARY_NOTIFICATIONS") or None,
        help="YAML file of whom to tell of what; read anew when it changes (docs/notifications.md)",
    )
    add(
        "--reports",
        type=_root,
        metavar="ROOT",
        default=env.get("SIGNALCANARY_REPORTS") or None,
        help="write each rollout's report as files below this folder or s3://bucket/prefix "
        "(docs/reports.md)",
    )
    add(
        "--reports-endpoint",
        type=_url,
        metavar="URL",
        default=env.get("SIGNALCANARY_REPORTS_ENDPOINT") or None,
        help="address of the S3 service of --reports (default: Amazon's)",
    )
    add(
        "--reports-region",
        metavar="REGION",
        default=env.get("SIGNALCANARY_REPORTS_REGION") or None,
        help="region of the bucket of --reports (default: AWS_REGION, else us-east-1)",
    )
    add(
        "--reports-credentials",
        type=Path,
        metavar="FOLDER",
        default=env.get("SIGNALCANARY_REPORTS_CREDENTIALS") or None,
        help="folder with the files AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, read at each "
        "attempt (default: what the environment or the cloud gives)",
    )
    add(
        "--workloads-image",
        default=env.get("SIGNALCANARY_WORKLOADS_IMAGE") or None,
        required=not env.get("SIGNALCANARY_WORKLOADS_IMAGE"),
        help="image of the harvest and analysis pods",
    )
    add(
        "--image-pull-policy",
        default=env.get("SIGNALCANARY_IMAGE_PULL_POLICY", "IfNotPresent"),
        choices=("Always", "IfNotPresent", "Never"),
        help="pull policy of the workloads' image (default IfNotPresent)",
    )
    add(
        "--workload-pods",
        type=_workloads,
        metavar="JSON",
        default=env.get("SIGNALCANARY_WORKLOAD_PODS") or "{}",
        help="of the workloads' pods: imagePullSecrets, priorityClassName, nodeSelector, "
        "tolerations and resources, as in a pod",
    )
    add(
        "--namespace",
        default=env.get("SIGNALCANARY_NAMESPACE") or None,
        help="watch this namespace alone (default: all)",
    )
    add(
        "--lease-namespace",
        default=env.get("SIGNALCANARY_LEASE_NAMESPACE") or "default",
        help="namespace of the election's Lease",
    )
    add(
        "--lease-name",
        default=env.get("SIGNALCANARY_LEASE_NAME") or "signalcanary-operator",
        help="name of the election's Lease (default signalcanary-operator)",
    )
    add(
        "--identity",
        default=env.get("SIGNALCANARY_IDENTITY") or socket.gethostname(),
        help="name of this replica in the election (default: the host's name)",
    )
    add(
        "--status-interval",
        type=_duration,
        default=env.get("SIGNALCANARY_STATUS_INTERVAL") or "30s",
        help="pace at which live values are written to status (default 30s)",
    )
    add(
        "--rest-interval",
        type=_pause,
        default=env.get("SIGNALCANARY_REST_INTERVAL") or "30s",
        help="pause between looks at what is at rest, unless something changes (default 30s)",
    )
    add(
        "--listen",
        type=_address,
        default=env.get("SIGNALCANARY_LISTEN") or "127.0.0.1:8080",
        help="HOST:PORT of metrics and health (default 127.0.0.1:8080)",
    )
    args = parse(parser, argv)
    try:
        sources = _sources(args.prometheus_url, args.prometheus_deadline, args.metrics_sources)
    except SourcesError as error:
        parser.error(str(error))
    host, port = args.listen
    return Options(
        sources=sources,
        namespace=args.namespace,
        lease_namespace=args.lease_namespace,
        lease_name=args.lease_name,
        identity=args.identity,
        host=host,
        port=port,
        settings=Settings(
            workloads_image=args.workloads_image,
            workloads=args.workload_pods.model_copy(
                update={"image_pull_policy": args.image_pull_policy}
            ),
            status_interval=args.status_interval,
        ),
        notifications=args.notifications,
        rest_interval=args.rest_interval,
        reports=args.reports
        and FilesSettings(
            args.reports, args.reports_endpoint, args.reports_region, args.reports_credentials
        ),
    )


def _sources(url: str | None, deadline: timedelta, file: Path | None) -> Mapping[str, SourceConfig]:
    """The metrics sources by name: those of the file, and the one of the command line.

    Raises:
        SourcesError: there are none, or one cannot be used.
    """
    sources = read_sources(file) if file is not None else {}
    if url is not None:
        if DEFAULT_SOURCE in sources:
            raise SourcesError(
                f"{file} and --prometheus-url both give the metrics source {DEFAULT_SOURCE}: "
                "keep one of them"
            )
        sources[DEFAULT_SOURCE] = SourceConfig(url=url, deadline=deadline)
    if not sources:
        raise SourcesError("no metrics source: give --prometheus-url or --metrics-sources")
    return sources


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pause(text: str) -> timedelta:
    pause = _duration(text)
    if pause < _SHORTEST_REST:
        raise argparse.ArgumentTypeError(f"must be at least 1s, not {text}")
    return pause


def _deadline(text: str) -> timedelta:
    deadline = _duration(text)
    if not timedelta(0) < deadline <= MAX_DEADLINE:
        longest = format_duration(MAX_DEADLINE)
        raise argparse.ArgumentTypeError(f"must be above 0s and at most {longest}, not {text}")
    return deadline


def _workloads(text: str) -> WorkloadSettings:
    try:
        return WorkloadSettings.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise argparse.ArgumentTypeError(f"{where}: {first['msg']}".removeprefix(": ")) from error


def _url(text: str) -> str:
    try:
        return check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _root(text: str) -> str:
    try:
        return check_root(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"write HOST:PORT, for example 0.0.0.0:8080, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class CannotStart(Exception):
    """The cluster is not ready for this operator; the message says what to do."""


async def _check(kube: cluster.Cluster, namespace: str | None) -> None:
    """Without its CRD the operator would watch nothing, and look healthy."""
    try:
        await kube.list_all(Kind.SIGNAL_CANARY, namespace)
    except cluster.Gone as error:
        raise CannotStart(
            f"the cluster does not know SignalCanaries ({error}): apply the CRD, which is in the "
            "folder crds of the chart"
        ) from error
    except cluster.ClusterError as error:
        raise CannotStart(f"the SignalCanaries cannot be listed: {error}") from error
    try:
        missing = find_missing(build_status_schema(), await kube.fetch_status_schema())
    except cluster.ClusterError as error:
        logger.warning("whether the CRD is of this version cannot be seen: %s", error)
        return
    if missing:
        # Status is the operator's only memory: what the API server drops of it is forgotten.
        raise CannotStart(
            f"the cluster's CRD is older than this operator: it does not know {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; apply the one in the folder crds of the chart, which Helm does not upgrade: "
            "kubectl apply --server-side --force-conflicts -f charts/signalcanary/crds"
        )


async def run(options: Options) -> None:
    """Run until told to stop, by SIGTERM or SIGINT.

    Raises:
        CannotStart: the cluster is not ready.
        Exception: whatever ended a part of it.
    """
    metrics = telemetry.OperatorMetrics(CollectorRegistry())
    health = telemetry.Health()
    store = Store()
    is_watching, is_stopping = asyncio.Event(), asyncio.Event()
    _stop_on_signals(is_stopping)
    async with (
        cluster.connect() as api,
        telemetry.serve(options.host, options.port, metrics, health) as url,
    ):
        logger.info("signalcanary %s, metrics at %s/metrics", __version__, url)
        kube = cluster.Cluster(api, metrics, options.identity)
        await _check(kube, options.namespace)
        clients = {name: Prometheus(config) for name, config in options.sources.items()}
        namespaces = {name: config.namespaces for name, config in options.sources.items()}
        notifier = _notifier(options, kube, metrics)
        sources = Sources(clients, namespaces)
        writer = _writer(options, kube, store, sources, metrics)
        reports = Reports(kube, metrics, sources, writer)
        poller = Poller(
            store,
            kube,
            sources,
            Reconciler(kube, store, options.settings, metrics, notifier, reports),
            options.settings,
            metrics,
            health,
            options.namespace,
            pace=Pace(rest=options.rest_interval.total_seconds()),
        )

        async def watch() -> None:
            await kopf.operator(
                registry=build_registry(store),
                settings=build_settings(),
                standalone=True,
                clusterwide=options.namespace is None,
                namespaces=[options.namespace] if options.namespace else [],
                ready_flag=is_watching,
                # Else it asks for the name of the user, who has none in a container.
                identity=cast(Any, options.identity),
            )

        async def wait_for_the_end() -> None:
            await _first(is_watching, is_stopping)
            # kopf has set handlers of its own, which would end the watches before the rest.
            _stop_on_signals(is_stopping)
            health.is_watching = is_watching.is_set()
            await is_stopping.wait()

        async def lead() -> None:
            health.round_completed()
            health.is_leader = True
            metrics.leader.set(1)
            logger.info("%s leads", options.identity)
            beside = {"notify": notifier, "reports": writer}
            tasks = [asyncio.create_task(one.run(), name=n) for n, one in beside.items() if one]
            try:
                await poller.run()
            finally:
                # While the Lease is held: what was told goes on record before another leads.
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        async def elect() -> None:
            await leader.lead(
                api, options.lease_name, options.lease_namespace, options.identity, lead
            )

        watching = asyncio.create_task(watch(), name="watches")
        stopping = asyncio.create_task(wait_for_the_end(), name="end")
        election = asyncio.create_task(elect(), name="election")
        try:
            done, _ = await asyncio.wait(
                {watching, stopping, election}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            # First the decisions end and the Lease is let go, so that the next can begin; the
            # watches hold nothing that anybody waits for.
            health.is_watching = False
            await _end(election, leader.RETRY_SECONDS + 1)
            await _end(stopping, STOP_SECONDS)
            await _end(watching, STOP_SECONDS)
            for client in clients.values():
                client.close()
        for task in done:
            task.result()  # raises what ended it
        logger.info("stopped")


def _notifier(
    options: Options, kube: cluster.Cluster, metrics: telemetry.OperatorMetrics
) -> Notifier | None:
    if options.notifications is None:
        return None
    records = ConfigMapRecords(kube, options.lease_namespace, f"{options.lease_name}-outbox")
    return Notifier(options.notifications, records, metrics)


def _writer(
    options: Options,
    kube: cluster.Cluster,
    store: Store,
    source: Sources,
    metrics: telemetry.OperatorMetrics,
) -> ReportWriter | None:
    if options.reports is None:
        return None
    files = ReportFiles(options.reports)
    return ReportWriter(files, kube, store, source, metrics, options.namespace)


def _stop_on_signals(is_stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, is_stopping.set)


async def _first(*events: asyncio.Event) -> None:
    """Wait for one of them."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _end(task: asyncio.Task[None], within_seconds: float) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=within_seconds)


def main(argv: Sequence[str]) -> int:
    """The verb `operator` of the command line."""
    options = parse_options(argv)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        asyncio.run(run(options))
    except CannotStart as error:
        logger.error("the operator cannot start: %s", error)
        return 1
    except BaseException:
        logger.exception("the operator ends")
        return 1
    return 0
