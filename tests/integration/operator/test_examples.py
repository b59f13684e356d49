"""Every manifest in `examples/` is taken by a real API server, as by lint."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from api_server import ApiServer

from examples_kit import EXAMPLES
from signalcanary.api import SignalCanarySpec
from signalcanary.lint import KubectlLoader, check

FILES = [p for p in sorted(EXAMPLES.rglob("*.yaml")) if "kind: SignalCanary\n" in p.read_text()]


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(EXAMPLES)) for p in FILES])
def test_the_api_server_takes_it_and_adds_nothing_to_what_it_means(
    path: Path, api: ApiServer, namespace: str
) -> None:
    assert check(path.read_text()).problems == ()
    (document,) = yaml.load_all(path.read_text(), Loader=KubectlLoader)
    document["metadata"]["namespace"] = namespace
    taken = api.apply(document)
    read = SignalCanarySpec.model_validate(taken["spec"])
    assert read == SignalCanarySpec.model_validate(document["spec"])
