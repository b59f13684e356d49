"""Laws are checked on the same examples at every run."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("operator", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("operator")
