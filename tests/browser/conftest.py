"""A real API server, a real operator and a real browser, for the tests of the page.

They are not of the everyday suite, as a browser cannot be presumed: `make browser` runs them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration" / "operator"))

from api_server import ADMIN, ApiServer, Missing, running_api_server
from dashboard_kit import Served, running_operator, served
from scenes import Stage

from browser import Page, running_browser


def skip_unless_required(error: Missing) -> NoReturn:
    if os.environ.get("SIGNALCANARY_REQUIRE_BROWSER"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api-server")
    try:
        with running_api_server(folder) as server:
            for item in server.template("--set=prometheus.url=http://prometheus:9090"):
                if "Role" in item["kind"]:
                    server.apply(item)
            yield server
    except Missing as error:
        skip_unless_required(error)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        with running_browser(tmp_path_factory.mktemp("browser")) as page:
            yield page
    except Missing as error:
        skip_unless_required(error)


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """An empty tab; nothing may have gone wrong on it by the end."""
    browser.go("about:blank")
    browser.told.clear()
    browser.look()
    yield browser
    assert browser.told == []


@pytest.fixture
def stage(api: ApiServer) -> Stage:
    return Stage(api, api.namespace(f"test-{uuid4().hex[:8]}"))


@pytest.fixture
def dashboard(api: ApiServer, stage: Stage) -> Iterator[Served]:
    with served(api.kubeconfig(ADMIN), f"--namespace={stage.namespace}") as running:
        yield running


@pytest.fixture
def operator(api: ApiServer, tmp_path: Path) -> Iterator[None]:
    with running_operator(api, tmp_path):
        yield
