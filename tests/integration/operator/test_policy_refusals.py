"""Tiers, counts and scopes that cannot be meant are refused, by the API server as by lint."""

from __future__ import annotations

from typing import Any

import pytest
from api_server import ApiServer
from refusals import assert_refused, document, taken

ECE = {"metric": "platt_ece", "above": 0.1}
AUC = {"metric": "slice_auc_ny_session", "below": 0.5}
ABOVE = "with above, write warning ≤ critical ≤ above"
BELOW = "with below, write warning ≥ critical ≥ below"
SCOPE = "write quorum with scope: Quorum, and only there"


def of(*conditions: dict[str, Any], **rollback: Any) -> dict[str, Any]:
    return {"conditions": list(conditions or (ECE,)), **rollback}


ACCEPTED: dict[str, dict[str, Any]] = {
    "tiers above": of(ECE | {"warning": 0.05, "critical": 0.08, "consecutive": 3}),
    "tiers below": of(AUC | {"warning": 0.56, "critical": 0.52}),
    "tiers at the bound": of(ECE | {"warning": 0.1, "critical": 0.1}),
    "whole numbers": of({"metric": "platt_test_samples", "below": 10, "warning": 20}),
    "a critical alone": of(AUC | {"critical": 0.5}),
    "a symbol alone": of(scope="Symbol"),
    "a quorum of two": of(scope="Quorum", quorum=2),
    "a quorum of half": of(scope="Quorum", quorum=0.5),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a warning beyond the bound": (of(ECE | {"warning": 0.2}), ABOVE),
    "a critical beyond the bound": (of(ECE | {"critical": 0.2}), ABOVE),
    "a warning beyond critical": (of(ECE | {"warning": 0.09, "critical": 0.05}), ABOVE),
    "a warning below the bound": (of(AUC | {"warning": 0.4}), BELOW),
    "a critical below the bound": (of(AUC | {"critical": 0.4}), BELOW),
    "a warning below critical": (of(AUC | {"warning": 0.52, "critical": 0.56}), BELOW),
    "no evaluation at all": (of(ECE | {"consecutive": 0}), "greater than or equal to 1"),
    "a quorum of all": (of(quorum=2), SCOPE),
    "a quorum of a symbol": (of(scope="Symbol", quorum=0.5), SCOPE),
    "a scope without its quorum": (of(scope="Quorum"), SCOPE),
    "a quorum of one and a half": (of(scope="Quorum", quorum=1.5), "write a whole number"),
    "a quorum of three of two": (
        of(scope="Quorum", quorum=3),
        "rollback.quorum is more than there are canary symbols",
    ),
}


TWO = ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize("rollback", ACCEPTED.values(), ids=ACCEPTED)
def test_a_policy_that_can_be_meant_is_taken(
    rollback: dict[str, Any], api: ApiServer, namespace: str
) -> None:
    found = taken(api, namespace, document({"rollback": rollback}, TWO))["rollback"]
    assert found["scope"] == rollback.get("scope", "All")
    assert found["conditions"][0]["consecutive"] in (1, 3)


@pytest.mark.parametrize(("rollback", "message"), REFUSED.values(), ids=REFUSED)
def test_a_policy_that_cannot_be_meant_is_refused(
    rollback: dict[str, Any], message: str, api: ApiServer, namespace: str
) -> None:
    assert_refused(api, namespace, document({"rollback": rollback}, TWO), message)
