"""What a real API server says to windows that make no sense, and what the models say to them."""

from __future__ import annotations

from typing import Any

import pytest
from api_server import ApiServer
from pydantic import ValidationError

from signalcanary.api import SignalCanarySpec

CANARIES = "/apis/signalcanary.dev/v1alpha1/namespaces/{}/signalcanaries"
SPEC = {"version": "v1", "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}}
OFFICE = {"days": ["Mon", "Fri"], "from": "09:00", "to": "17:30"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a time that is none": (
        {"allowed": [OFFICE | {"to": "25:00"}]},
        "write a time of day from 00:00 to 24:00",
    ),
    "a window that begins at the end of a day": (
        {"allowed": [OFFICE | {"from": "24:00"}]},
        "write a time of day from 00:00 to 23:59",
    ),
    "no window": ({"allowed": [{}]}, "write from and to"),
    "half a window": ({"blackouts": [{"from": "09:00"}]}, "write from and to"),
    "half of each": (
        {"blackouts": [{"from": "09:00", "end": "2026-05-01T08:00:00Z"}]},
        "write from and to",
    ),
    "an empty window": ({"allowed": [OFFICE | {"to": "09:00"}]}, "are the same"),
    "a day twice": ({"allowed": [OFFICE | {"days": ["Mon", "Mon"]}]}, "a day stands twice"),
    "an end before the start": (
        {"blackouts": [{"start": "2026-05-02T00:00:00+14:00", "end": "2026-05-01T08:00:00Z"}]},
        "end must be after start",
    ),
    "days of one that is once": (
        {
            "blackouts": [
                {"days": ["Mon"], "start": "2026-05-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}
            ]
        },
        "days go with from and to",
    ),
    "a start without an offset": ({"startAt": "2026-05-04T08:00:00"}, "write an instant"),
    "no time zone": ({"timeZone": "the one here!"}, "write an IANA time zone"),
    "the time zone of the machine": ({"timeZone": "Local"}, "write an IANA time zone"),
}


def ask(api: ApiServer, namespace: str, schedule: dict[str, Any]) -> tuple[int, Any]:
    manifest = {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"name": "demo"},
        "spec": SPEC | {"schedule": schedule},
    }
    return api.request("POST", f"{CANARIES.format(namespace)}?dryRun=All", manifest)


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_refused_in_the_same_words_everywhere(
    api: ApiServer, namespace: str, case: str
) -> None:
    schedule, words = REFUSED[case]
    status, answer = ask(api, namespace, schedule)
    assert (status, words in answer["message"]) == (422, True), answer
    with pytest.raises(ValidationError) as refusal:
        SignalCanarySpec.model_validate(SPEC | {"schedule": schedule})
    assert words in str(refusal.value) or "should match pattern" in str(refusal.value)


@pytest.mark.parametrize(
    "schedule",
    [{"timeZone": "Europe/Lundon"}, {"timeZone": "Europe"}, {"startAt": "2026-02-30T08:00:00Z"}],
    ids=str,
)
def test_what_no_pattern_finds_is_refused_too(
    api: ApiServer, namespace: str, schedule: dict[str, Any]
) -> None:
    status, answer = ask(api, namespace, schedule)
    assert status == 422, answer
    assert next(iter(schedule)) in answer["message"]
    with pytest.raises(ValidationError):
        SignalCanarySpec.model_validate(SPEC | {"schedule": schedule})


def test_what_makes_sense_is_taken_as_it_is(api: ApiServer, namespace: str) -> None:
    schedule = {
        "startAt": "2026-05-04T09:00:00+01:00",
        "manual": "Allow",
        "timeZone": "America/Argentina/Buenos_Aires",
        "allowed": [OFFICE, {"from": "22:00", "to": "02:00"}, {"from": "00:00", "to": "24:00"}],
        "blackouts": [{"start": "2026-05-01T00:00:00.500Z", "end": "2099-12-31T23:59:59Z"}],
    }
    status, answer = ask(api, namespace, schedule)
    assert status == 201, answer
    taken = SignalCanarySpec.model_validate(answer["spec"])
    assert taken.to_wire()["schedule"] == schedule


def test_no_object_comes_after_itself_nor_twice_after_another(
    api: ApiServer, namespace: str
) -> None:
    def ask_after(*names: str) -> tuple[int, str]:
        manifest = {
            "apiVersion": "signalcanary.dev/v1alpha1",
            "kind": "SignalCanary",
            "metadata": {"name": "demo"},
            "spec": SPEC | {"after": names, "group": {"name": "desk"}},
        }
        path = f"{CANARIES.format(namespace)}?dryRun=All"
        status, answer = api.request("POST", path, manifest)
        return status, answer.get("message", "")

    assert ask_after("other") == (201, "")
    assert "names the object itself" in ask_after("demo")[1]
    assert "a name stands twice" in ask_after("x", "x")[1]
    assert "write the name of a SignalCanary" in ask_after("No Name")[1]
