"""What the API server and lint make of a spec: both take it, or refuse it in the same words."""

from __future__ import annotations

import json
from typing import Any

from api_server import ApiServer

from signalcanary.lint import check


def document(spec: dict[str, Any], symbols: tuple[str, ...] = ("BTCUSDT",)) -> dict[str, Any]:
    """A SignalCanary of those symbols, with more of a spec."""
    both = {"canary": list(symbols), "full": list(symbols)}
    return {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"name": "asked"},
        "spec": {"version": "v1", "symbols": both, **spec},
    }


def taken(api: ApiServer, namespace: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The spec as the API server has it, which both have taken."""
    placed = _placed(wanted, namespace)
    assert check(json.dumps(placed)).problems == ()
    spec: dict[str, Any] = api.apply(placed)["spec"]
    return spec


def assert_refused(api: ApiServer, namespace: str, wanted: dict[str, Any], message: str) -> None:
    """Both refuse it, and say this."""
    placed = _placed(wanted, namespace)
    assert message in "; ".join(problem.message for problem in check(json.dumps(placed)).problems)
    path = f"/apis/signalcanary.dev/v1alpha1/namespaces/{namespace}/signalcanaries"
    status, answer = api.request("POST", path, placed)
    assert status == 422, answer
    assert message in answer["message"]


def _placed(wanted: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**wanted, "metadata": {**wanted["metadata"], "namespace": namespace}}
