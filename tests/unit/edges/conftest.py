"""The operator's edges, on a cluster and a clock in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from edges_kit import World


@pytest.fixture
def world() -> World:
    return World()
