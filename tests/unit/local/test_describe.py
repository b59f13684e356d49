"""The renderer against what kubectl writes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from signalcanary.local.describe import DescribedEvent, align, describe, format_age, label_for


@pytest.mark.parametrize(
    ("field", "label"),
    [
        ("staleAfter", "Stale After"),
        ("name", "Name"),
        ("uid", "UID"),
        ("apiVersion", "API Version"),
        ("publicUrl", "Public URL"),
        ("zMode", "Z Mode"),
        ("lastTransitionTime", "Last Transition Time"),
        ("onNoData", "On No Data"),
        ("app.kubernetes.io/name", "app.kubernetes.io/name"),
    ],
)
def test_fields_are_titled_as_kubectl_titles_them(field: str, label: str) -> None:
    assert label_for(field) == label


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (100_000, "27h"),
        (200_000, "2d"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert format_age(timedelta(seconds=seconds)) == text


def test_columns_are_as_wide_as_neighbouring_lines_need() -> None:
    rows = [("a:", "1"), ("long:", "2"), ("head",), ("b:", "3")]
    assert align(rows) == ["a:     1", "long:  2", "head", "b:  3"]


def test_an_object_is_described_as_kubectl_does() -> None:
    document = {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {
            "name": "ofi",
            "namespace": "quant",
            "generation": 2,
            "labels": {"team": "a", "desk": "b"},
        },
        "spec": {
            "version": "v1",
            "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]},
            "signal": {"cvd": {"autoFlip": True, "madMultiplier": 1.8, "winsorLimit": 8.0}},
        },
        "status": {
            "conditions": [
                {"type": "Promoted", "status": "False"},
                {"type": "RolledBack", "status": "True"},
            ],
            "canary": None,
            "timers": [],
        },
    }
    events = [
        DescribedEvent("Normal", "RolloutStarted", timedelta(seconds=90), "signalcanary", "go"),
        DescribedEvent("Warning", "CanarySilent", timedelta(seconds=3), "signalcanary", "back"),
    ]
    assert describe(document, events) == (
        "Name:         ofi\n"
        "Namespace:    quant\n"
        "Labels:       desk=b\n"
        "              team=a\n"
        "Annotations:  <none>\n"
        "API Version:  signalcanary.dev/v1alpha1\n"
        "Kind:         SignalCanary\n"
        "Metadata:\n"
        "  Generation:  2\n"
        "Spec:\n"
        "  Signal:\n"
        "    Cvd:\n"
        "      Auto Flip:       true\n"
        "      Mad Multiplier:  1.8\n"
        "      Winsor Limit:    8\n"
        "  Symbols:\n"
        "    Canary:\n"
        "      BTCUSDT\n"
        "    Full:\n"
        "      BTCUSDT\n"
        "      ETHUSDT\n"
        "  Version:  v1\n"
        "Status:\n"
        "  Canary:  <nil>\n"
        "  Conditions:\n"
        "    Status:  False\n"
        "    Type:    Promoted\n"
        "    Status:  True\n"
        "    Type:    RolledBack\n"
        "  Timers:\n"
        "Events:\n"
        "  Type     Reason          Age  From          Message\n"
        "  ----     ------          ---  ----          -------\n"
        "  Normal   RolloutStarted  90s  signalcanary  go\n"
        "  Warning  CanarySilent    3s   signalcanary  back\n"
    )


def test_an_object_without_events_says_so() -> None:
    document = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}}
    assert describe(document, []).endswith("Events:  <none>\n")
