"""Registries on loopback: one that lets anybody in, and others that ask who it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from built_kit import find_built
from registry_kit import HTPASSWD, RegistryServer, TokenServer, make_certificate


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RegistryServer]]:
    """Starts a registry with what its configuration says of logins and TLS."""
    program = find_built("registry")
    with ExitStack() as stack:

        def start(**settings: Any) -> RegistryServer:
            server = RegistryServer(program, tmp_path_factory.mktemp("registry"), **settings)
            stack.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def registry(start: Callable[..., RegistryServer]) -> RegistryServer:
    return start()


@pytest.fixture(scope="session")
def with_password(
    start: Callable[..., RegistryServer], tmp_path_factory: pytest.TempPathFactory
) -> RegistryServer:
    path = tmp_path_factory.mktemp("htpasswd") / "users"
    path.write_text(HTPASSWD)
    return start(auth={"htpasswd": {"realm": "tests", "path": str(path)}})


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def with_tokens(start: Callable[..., RegistryServer], tokens: TokenServer) -> RegistryServer:
    return start(auth=tokens.auth())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def with_tls(
    start: Callable[..., RegistryServer], certificate: tuple[Path, Path]
) -> RegistryServer:
    key, public = certificate
    return start(tls={"key": str(key), "certificate": str(public)})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No patience, and nobody's own logins."""
    registry = "signalcanary_workloads.artifacts.registry"
    monkeypatch.setattr(f"{registry}.PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
