"""The administrator's file: what it says of whom, and what is said of a wrong one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from notify_kit import STABLE, START, Canary

from signalcanary.notify.command import run_test
from signalcanary.notify.config import Config, NotificationsError, parse_config, read_config
from signalcanary.notify.notification import (
    MAX_MESSAGE_CHARS,
    Notification,
    Severity,
    build_notification,
    default_severity,
    id_of,
)
from signalcanary.rollout import SYMBOLS_HELD, Phase, RolloutState, Transition

HOOK: dict[str, Any] = {"webhook": {"url": "http://h:1"}}


def config_of(**changes: Any) -> Config:
    wire = {"receivers": {"a": HOOK, "b": HOOK}, "routes": [{"receivers": ["a"]}], **changes}
    return parse_config(yaml.safe_dump(wire))


def notification_of(phase: Phase, reason: str, **fields: Any) -> Notification:
    state = RolloutState(stable=fields.pop("stable", STABLE))
    is_warning = phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) or reason == SYMBOLS_HELD
    transition = Transition(START, phase, reason, "why", "v2", is_warning)
    return build_notification(Canary(**fields).metadata, state, transition)


@pytest.mark.parametrize(
    ("phase", "reason", "stable", "severity"),
    [
        (Phase.ROLLING_BACK, "ConditionBreached", STABLE, "P1"),
        (Phase.ROLLED_BACK, "CanarySilent", STABLE, "P1"),
        (Phase.ROLLING_BACK, "ConditionBreached", None, "P0"),
        (Phase.ROLLED_BACK, "DeadlineExceeded", None, "P0"),
        (Phase.ROLLING_BACK, "DeadlineExceeded", STABLE, "P2"),
        (Phase.SUCCEEDED, "Promoted", STABLE, "P3"),
        (Phase.PROGRESSING, "SymbolsHeld", STABLE, "P2"),
        (Phase.PROGRESSING, "StageStarted", None, "P3"),
        (Phase.PENDING, "RolloutStarted", STABLE, "P3"),
    ],
)
def test_transitions_have_severities(phase: Phase, reason: str, stable: Any, severity: str) -> None:
    assert notification_of(phase, reason, stable=stable).severity == severity


def test_a_warning_that_nobody_has_heard_of_is_no_small_thing() -> None:
    severity = default_severity("Melting", "New", has_stable=True, is_warning=True)
    assert severity is Severity.P2


def test_the_administrator_says_how_severe_a_thing_is() -> None:
    config = config_of(
        severities=[
            {"phase": "RolledBack", "namespaces": ["play-*"], "severity": "P3"},
            {"reason": "DeadlineExceeded", "severity": "P0"},
        ]
    )

    def judged(phase: Phase, reason: str, **fields: Any) -> str:
        return config.judge(notification_of(phase, reason, **fields)).severity

    assert judged(Phase.ROLLED_BACK, "DeadlineExceeded", namespace="play-1") == "P3"
    assert judged(Phase.ROLLED_BACK, "DeadlineExceeded") == "P0"
    assert judged(Phase.ROLLED_BACK, "ConditionBreached") == "P1"


def test_routes_choose_by_severity_namespace_name_and_labels() -> None:
    config = config_of(
        routes=[
            {"receivers": ["a"], "severities": ["P0", "P1"], "namespaces": ["trading-*"]},
            {
                "receivers": ["b", "a"],
                "selector": {
                    "matchLabels": {"team": "x"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["gold"]},
                        {"key": "muted", "operator": "DoesNotExist"},
                    ],
                },
            },
        ]
    )

    def to(phase: Phase = Phase.ROLLED_BACK, **fields: Any) -> dict[str, str]:
        return config.receivers_of(notification_of(phase, "x", **fields))

    gold = {"team": "x", "tier": "gold"}
    assert to(namespace="trading-eu") == {"a": "route-0"}
    assert to(namespace="trading-eu", labels=gold) == {"a": "route-0", "b": "route-1"}
    assert to(Phase.SUCCEEDED, namespace="trading-eu") == {}
    assert to(labels=gold) == {"a": "route-1", "b": "route-1"}
    assert to(labels={**gold, "muted": ""}) == {}
    assert to(labels={"team": "x"}) == {}


def test_a_silence_covers_p0_only_where_it_names_it() -> None:
    times = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T01:00:00+00:00"}
    grave = notification_of(Phase.ROLLED_BACK, "x", stable=None)
    mild = notification_of(Phase.ROLLED_BACK, "x")
    every, named = (
        config_of(silences=[{**times, **more}]) for more in ({}, {"severities": ["P0"]})
    )
    assert every.is_silenced(mild, START)
    assert not every.is_silenced(mild, START + timedelta(hours=1))
    assert not every.is_silenced(grave, START)
    assert named.is_silenced(grave, START)
    assert not named.is_silenced(mild, START)


def test_a_long_message_is_cut_and_keeps_its_id() -> None:
    transition = Transition(START, Phase.ROLLED_BACK, "x", "y" * 5000, "v")
    made = build_notification(Canary().metadata, RolloutState(), transition)
    assert len(made.message) == MAX_MESSAGE_CHARS
    assert made.id == id_of("uid-1", transition)


SILENCE = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T01:00:00Z"}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no receiver of a route": (
        {"routes": [{"receivers": ["c"]}]},
        "route route-0: there is no receiver c: write one of a, b",
    ),
    "no kind": ({"receivers": {"a": {}}}, "receivers.a: write exactly one of slack, email"),
    "two kinds": ({"receivers": {"a": {**HOOK, "slack": {"urlFile": "x"}}}}, "exactly one"),
    "an unknown field": (
        {"receivers": {"a": {"webhook": {"url": "http://h", "token": "s3cret"}}}},
        "receivers.a.webhook.token: unknown field: write one of url, bearerTokenFile",
    ),
    "an unknown field of a route": (
        {"routes": [{"receivers": ["a"], "severity": "P1"}]},
        "routes.0.severity: unknown field: write one of severities, namespaces, names, selector",
    ),
    "an unknown severity": ({"routes": [{"receivers": ["a"], "severities": ["P9"]}]}, "'P0', 'P1'"),
    "a password in an address": (
        {"receivers": {"a": {"webhook": {"url": "http://u:s3cret@h"}}}},
        "write it without user and password",
    ),
    "a slack address": (
        {"receivers": {"a": {"slack": {"url": "https://hooks/s3cret"}}}},
        "the address is a secret: write it to a file, and its name in urlFile",
    ),
    "two addresses": (
        {"receivers": {"a": {"webhook": {"url": "http://h", "urlFile": "x"}}}},
        "write one of url and urlFile",
    ),
    "a password in the clear": (
        {
            "receivers": {
                "a": {
                    "email": {
                        **{"host": "h", "from": "a@b", "to": ["c@d"], "security": "none"},
                        "auth": {"usernameFile": "u", "passwordFile": "p"},
                    }
                }
            }
        },
        "write security: starttls",
    ),
    "two addresses of mail in one": (
        {"receivers": {"a": {"email": {"host": "h", "from": "a@b", "to": ["c@d, e@f"]}}}},
        "receivers.a.email.to.0",
    ),
    "a name": ({"receivers": {"A b": HOOK}}, "write a name of lower-case letters"),
    "a placeholder": (
        {"routes": [{"receivers": ["a"], "title": "$sevrity"}]},
        "routes.0.title: there is no $sevrity: write one of $severity, $namespace",
    ),
    "a lone dollar": ({"routes": [{"receivers": ["a"], "text": "5 $"}]}, "which is written $$"),
    "an impatient end": ({"giveUpAfter": "59m"}, "giveUpAfter: write at least 1h"),
    "a long deadline": ({"receivers": {"a": {**HOOK, "deadline": "2m"}}}, "write at most 1m"),
    "a long digest": ({"routes": [{"receivers": ["a"], "digest": "25h"}]}, "write at most 24h"),
    "no duration": ({"routes": [{"receivers": ["a"], "digest": "soon"}]}, "is not a duration"),
    "a silence without a zone": (
        {"silences": [{**SILENCE, "from": "2026-05-01T00:00:00"}]},
        "write a time with its zone, such as 2026-05-01T08:00:00Z",
    ),
    "a silence that ends before": (
        {"silences": [{**SILENCE, "to": "2026-04-01T00:00:00Z"}]},
        "to must be later than from",
    ),
    "a selector": (
        {
            "routes": [
                {
                    "receivers": ["a"],
                    "selector": {"matchExpressions": [{"key": "k", "operator": "In"}]},
                }
            ]
        },
        "write values with In and NotIn",
    ),
    "one name twice": (
        {"routes": [{"name": "x", "receivers": ["a"]}, {"name": "x", "receivers": ["b"]}]},
        "two routes have one name",
    ),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NotificationsError) as refusal:
        config_of(**changes)
    assert words in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "receivers: [", "receivers: {}\nroutes: []", "\x00"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notifications.yaml"
    file.write_text(text)
    with pytest.raises(NotificationsError, match=r"notifications\.yaml"):
        read_config(file)
    with pytest.raises(NotificationsError, match="cannot be read"):
        read_config(tmp_path / "absent")


def test_files_that_are_wrong_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("hooks.slack.com/s3cret")
    receivers = {
        "a": {"slack": {"urlFile": "url"}, "folder": str(tmp_path)},
        "b": {"webhook": {"url": "https://h", "tls": {"caFile": "/absent.pem"}}},
    }
    problems = config_of(receivers=receivers).file_problems(receivers)
    assert [problem.partition(":")[0] for problem in problems] == ["receivers.a", "receivers.b"]
    assert "s3cret" not in "".join(problems)


def test_the_examples_of_the_page_can_be_used() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/notifications.md"
    blocks = page.read_text().split("```yaml\n")[1:]
    files = [block.partition("```")[0] for block in blocks]
    whole = [text for text in files if "receivers:" in text and "routes:" in text]
    assert whole
    for text in whole:
        document = yaml.safe_load(text)
        document = document.get("notifications", document)
        for receiver in document["receivers"].values():
            receiver.pop("secretName", None)
        config = parse_config(yaml.safe_dump(document))
        assert {r.kind for r in config.receivers.values()}


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_test(tmp_path / "absent", []) == 2
    file = tmp_path / "n.yaml"
    file.write_text(yaml.safe_dump({"receivers": {"a": HOOK}, "routes": [{"receivers": ["a"]}]}))
    assert run_test(file, ["b"]) == 2
    said = capsys.readouterr().out
    assert "cannot be read" in said
    assert "there is no receiver b: write one of a" in said
