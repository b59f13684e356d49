"""SignalCanaries built in Python: what is written, what is refused, what is public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import signalcanary
from signalcanary import (
    Condition,
    ManifestError,
    Rollback,
    SignalCanary,
    SignalCanarySpec,
    Stage,
    Symbols,
    manifest,
)

REPO = Path(__file__).parents[3]
SPEC = SignalCanarySpec(
    version="v2",
    symbols=Symbols(canary=("BTCUSDT",), full=("BTCUSDT", "ETHUSDT")),
    stages=(Stage(name="canary", duration="48h"),),
    rollback=Rollback(conditions=(Condition(metric="platt_ece", above=0.1, for_="2m"),)),
)


def test_the_yaml_holds_what_was_written_and_no_default() -> None:
    canary = SignalCanary("ofi", SPEC, namespace="trading", labels={"team": "quants"})
    assert yaml.safe_load(canary.to_yaml()) == {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"name": "ofi", "namespace": "trading", "labels": {"team": "quants"}},
        "spec": {
            "version": "v2",
            "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
            "stages": [{"name": "canary", "duration": "48h"}],
            "rollback": {"conditions": [{"metric": "platt_ece", "above": 0.1, "for": "2m"}]},
        },
    }
    assert SignalCanary.from_yaml(canary.to_yaml()) == canary


def fields_of(node: Any) -> Any:
    """What is written, without the values, which may be written in several ways (60s, 1m)."""
    if isinstance(node, dict):
        return {key: fields_of(value) for key, value in node.items()}
    return [fields_of(value) for value in node] if isinstance(node, list) else None


@pytest.mark.parametrize("file", sorted(REPO.glob("examples/**/*.yaml")), ids=lambda p: p.stem)
def test_every_example_reads_back_from_what_it_writes(file: Path) -> None:
    text = file.read_text()
    for document in yaml.safe_load_all(text):
        if document["kind"] == "SignalCanary":
            canary = SignalCanary.from_yaml(text, document["metadata"]["name"])
            assert fields_of(canary.to_dict()["spec"]) == fields_of(document["spec"])
            assert SignalCanary.from_yaml(canary.to_yaml()) == canary


@pytest.mark.parametrize(
    ("of", "told"),
    [
        ({"name": "Ofi"}, "metadata.name: write a name of at most"),
        ({"labels": {"team": 1}}, "metadata.labels: write texts only"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_with_what_to_write(
    of: dict[str, object], told: str
) -> None:
    fields: dict[str, object] = {"name": "ofi", "spec": SPEC} | of
    with pytest.raises(ManifestError, match=told) as error:
        SignalCanary(**fields)  # type: ignore[arg-type]
    assert error.value.problems


def test_a_wrong_text_names_the_line() -> None:
    text = SignalCanary("ofi", SPEC).to_yaml().replace("above", "abov")
    with pytest.raises(ManifestError, match=r"line:\d+: .*did you mean above\?"):
        SignalCanary.from_yaml(text)


def test_of_several_one_is_chosen_by_its_name() -> None:
    text = "---\n".join(SignalCanary(name, SPEC).to_yaml() for name in ("a", "b"))
    assert SignalCanary.from_yaml(text, "b").name == "b"
    with pytest.raises(LookupError, match="the text holds a, b"):
        SignalCanary.from_yaml(text)
    with pytest.raises(LookupError, match="the text holds none"):
        SignalCanary.from_yaml("kind: Service\n")


def test_every_public_name_is_had_from_the_package() -> None:
    for name in manifest.__all__:
        assert getattr(signalcanary, name) is getattr(manifest, name)
    with pytest.raises(AttributeError, match="no attribute 'KIND'"):
        _ = signalcanary.KIND  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, signalcanary; print([m for m in sys.modules if m.startswith('signalcanary')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['signalcanary']"
