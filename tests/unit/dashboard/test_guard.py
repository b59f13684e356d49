"""Whose requests the page's server answers."""

from __future__ import annotations

import pytest

from signalcanary.dashboard.guard import is_loopback, policy, refuse

TOKEN = "s3cret-token"
HOST = "127.0.0.1:8123"
OWN = {"Host": HOST, "Origin": f"http://{HOST}"}


@pytest.mark.parametrize(
    ("path", "headers", "changes", "why"),
    [
        (f"/{TOKEN}/", {"Host": HOST}, False, None),
        (f"/{TOKEN}/stream", OWN, False, None),
        (f"/{TOKEN}/verbs", OWN, True, None),
        # A tunnel has another port, and says so in both.
        (f"/{TOKEN}/verbs", {"Host": "localhost:9", "Origin": "http://localhost:9"}, True, None),
        ("/", {"Host": HOST}, False, "lacks the token"),
        (f"/{TOKEN}x/", {"Host": HOST}, False, "lacks the token"),
        ("/tökèn/", {"Host": HOST}, False, "lacks the token"),
        # A name that its owner lets point to this machine (DNS rebinding).
        (f"/{TOKEN}/", {"Host": "evil.example:8123"}, False, "asked for as 'evil.example:8123'"),
        (f"/{TOKEN}/", {"Host": "127.0.0.1.evil.example"}, False, "asked for as"),
        (f"/{TOKEN}/", {}, False, "asked for as ''"),
        # Another site, and another server on this machine.
        (f"/{TOKEN}/verbs", {**OWN, "Origin": "https://evil.example"}, True, "comes from"),
        (f"/{TOKEN}/verbs", {**OWN, "Origin": "http://127.0.0.1:1"}, True, "comes from"),
        (f"/{TOKEN}/stream", {**OWN, "Origin": "null"}, False, "comes from"),
        (f"/{TOKEN}/verbs", {"Host": HOST}, True, "comes from 'None'"),
    ],
)
def test_only_the_page_itself_is_answered(
    path: str, headers: dict[str, str], changes: bool, why: str | None
) -> None:
    refusal = refuse(TOKEN, path, headers, changes=changes)
    if why is None:
        assert refusal is None
    else:
        assert why in str(refusal)
        assert TOKEN not in str(refusal)


@pytest.mark.parametrize(
    ("host", "is_this_machine"),
    [
        ("[::1]:80", True),
        ("localhost", True),
        ("127.0.0.2", True),
        ("10.0.0.1", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_names_of_this_machine(host: str, is_this_machine: bool) -> None:
    assert is_loopback(host) is is_this_machine


def test_the_policy_names_the_pages_own_script_and_nothing_else() -> None:
    one, other = policy("s", "a"), policy("s", "b")
    assert one != other
    assert "unsafe" not in one
    assert "http" not in one
