"""Which login of a Docker config.json is for which repository."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from signalcanary_workloads.artifacts.logins import Login, find_login


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:pass:word".encode()).decode()}


KEYS = {
    "a host": ("ghcr.io", ["ghcr.io"], "ghcr.io"),
    "with a scheme": ("ghcr.io", ["https://ghcr.io"], "https://ghcr.io"),
    "with the API's path": ("ghcr.io", ["https://ghcr.io/v2/"], "https://ghcr.io/v2/"),
    "with a port": ("r.example:5000", ["r.example", "r.example:5000"], "r.example:5000"),
    "Docker Hub": ("docker.io", ["https://index.docker.io/v1/"], "https://index.docker.io/v1/"),
    "the longest path": (
        "ghcr.io",
        ["ghcr.io", "ghcr.io/team", "ghcr.io/team/models/x"],
        "ghcr.io/team",
    ),
    "a path is of whole names": ("ghcr.io", ["ghcr.io/tea", "ghcr.io"], "ghcr.io"),
    "any host of a domain": ("a.azurecr.io", ["*.azurecr.io"], "*.azurecr.io"),
    "a host by its name first": ("a.azurecr.io", ["*.azurecr.io", "a.azurecr.io"], "a.azurecr.io"),
    "a star is one part of a host": ("a.b.azurecr.io", ["*.azurecr.io"], None),
    "another host": ("ghcr.io", ["gcr.io", "ghcr.io.evil.example"], None),
    "none": ("ghcr.io", [], None),
}


@pytest.mark.parametrize(("host", "keys", "chosen"), KEYS.values(), ids=KEYS)
def test_the_login_that_says_the_most_of_a_repository_holds(
    host: str, keys: list[str], chosen: str | None
) -> None:
    text = json.dumps({"auths": {key: entry(key.replace(":", "_")) for key in keys}}).encode()
    wanted = Login(chosen.replace(":", "_"), "pass:word") if chosen else None
    assert find_login(text, host, "team/models") == wanted


def test_a_user_and_a_password_may_stand_alone() -> None:
    text = json.dumps({"auths": {"r": {"username": "robot", "password": "p"}}, "credsStore": "x"})
    found = find_login(text.encode(), "r", "a")
    assert found == Login("robot", "p")
    assert "p" not in repr(found).partition("(")[2].replace("password", "")


BAD: dict[str, tuple[Any, str]] = {
    "no document": (b"robot", "it is no Docker config.json: "),
    "no object": (b'{"auths": 3}', "it is no Docker config.json: "),
    "no base64": (b'{"auths": {"r": {"auth": "%"}}}', "the auth of r is no base64 of user:pass"),
    "no password": (b'{"auths": {"r": {"auth": "cm9ib3Q="}}}', "lacks the user or the password"),
    "nothing": (b'{"auths": {"r": {}}}', "the login for r lacks the user or the password"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_a_login_of_no_use_is_said(text: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        find_login(text, "r", "a")
