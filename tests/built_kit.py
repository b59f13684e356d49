"""Where the servers are that tests run on loopback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("SIGNALCANARY_CACHE", Path.home() / ".cache/signalcanary"))


def find_built(name: str) -> str:
    """A server that tests talk to, as `cluster.py tools` builds it."""
    link = REPO / "build/cluster/bin" / name
    built = [link.resolve()] if link.exists() else sorted(CACHE.glob(f"bin/*/{name}"))
    if built:
        return str(built[-1])
    problem = f"no {name}: run `python3 hack/cluster/cluster.py tools` first"
    if os.environ.get("SIGNALCANARY_REQUIRE_CLUSTER"):
        pytest.fail(problem)
    pytest.skip(problem)
