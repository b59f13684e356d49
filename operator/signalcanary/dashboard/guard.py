"""Whose requests are answered. Pure.

The page acts with the user's own rights, so that nobody else's requests may reach it. Other users
of this machine do not know the token in the address. Other sites in the user's browser do not
either; and if one learns it, it is refused by where it says that it comes from (Origin) and by
whom it believes to speak to (Host), which a name that is made to point here cannot forge.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit


def refuse(token: str, path: str, headers: Mapping[str, str], *, changes: bool) -> str | None:
    """Why a request is not answered; None if it is.

    Args:
        path: of the request; it begins with the token.
        changes: whether it is to change something; then it must say where it comes from.
    """
    host = headers.get("Host", "")
    if not is_loopback(host):
        return f"the page is asked for as {host[:100]!r}, and answers only to this machine's name"
    origin = headers.get("Origin")
    if origin != f"http://{host}" and (changes or origin is not None):
        return f"the request comes from {str(origin)[:100]!r}, and not from the page itself"
    given = path.removeprefix("/").partition("/")[0]
    if not hmac.compare_digest(given.encode(), token.encode()):
        return "the address lacks the token: take it as `signalcanary dashboard` printed it"
    return None


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine; the port may be another, as a tunnel's is."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of the page: this style and this script, and no other."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The address holds the token.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
