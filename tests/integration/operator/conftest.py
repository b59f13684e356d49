"""A real API server for the session, and the operator's client against it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_server import OPERATOR, ApiServer, Missing, find_tool, running_api_server
from kubernetes.aio import client
from prometheus_client import CollectorRegistry

from signalcanary.cluster import Cluster
from signalcanary.telemetry import OperatorMetrics


def skip_unless_required(error: Missing) -> NoReturn:
    """A program is missing: that is a failure where everything is demanded."""
    if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker of rules and queries."""
    try:
        return find_tool("promtool")
    except Missing as error:
        skip_unless_required(error)


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    """Prometheus itself."""
    try:
        return find_tool("prometheus")
    except Missing as error:
        skip_unless_required(error)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server, with the CRD and the chart's rights for the operator's user."""
    try:
        with running_api_server(tmp_path_factory.mktemp("api-server")) as server:
            for item in server.template("--set=prometheus.url=http://prometheus:9090"):
                if "Role" in item["kind"]:
                    server.apply(item)
            yield server
    except Missing as error:
        skip_unless_required(error)


@pytest.fixture
def namespace(api: ApiServer) -> Iterator[str]:
    """A namespace of the test's own; no operator of another test finds anything in it."""
    name = api.namespace(f"test-{uuid4().hex[:12]}")
    yield name
    api.must("DELETE", f"/apis/signalcanary.dev/v1alpha1/namespaces/{name}/signalcanaries")


@pytest.fixture
async def kube(api: ApiServer) -> AsyncIterator[Cluster]:
    """The operator's client, with exactly the rights that the chart gives it."""
    configuration = client.Configuration(host=api.url)
    configuration.verify_ssl = False
    configuration.api_key["BearerToken"] = f"Bearer {api.token[OPERATOR]}"
    async with client.ApiClient(configuration) as connection:
        yield Cluster(connection, OperatorMetrics(CollectorRegistry()), "test")
