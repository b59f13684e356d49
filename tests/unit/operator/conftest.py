"""Laws are checked on the same examples at every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("operator", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("operator")
