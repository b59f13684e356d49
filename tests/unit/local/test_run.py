"""Reading the manifest that is run, and taking up its changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from signalcanary.api import SignalCanarySpec
from signalcanary.local.process import Process
from signalcanary.local.run import Exchange, RunError, WatchedFile, load_one

GOOD = """\
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata: {name: ofi}
spec: {version: v1, symbols: {canary: [BTCUSDT], full: [BTCUSDT]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "signal.yaml"
    path.write_text(GOOD)
    return path


def take_up(watched: WatchedFile) -> list[str]:
    applied: list[SignalCanarySpec] = []
    watched.take_up(applied.append)
    return [spec.version for spec in applied]


def test_a_manifest_that_did_not_change_is_not_applied_again(file: Path) -> None:
    assert take_up(WatchedFile(file)) == []


def test_a_changed_manifest_is_applied_once(file: Path) -> None:
    watched = WatchedFile(file)
    file.write_text(GOOD.replace("v1,", "v2.1,"))
    assert take_up(watched) == ["v2.1"]
    assert take_up(watched) == []


def test_a_changed_manifest_of_no_use_is_told_and_the_old_spec_stays(file: Path) -> None:
    watched = WatchedFile(file)
    file.write_text(GOOD.replace("[BTCUSDT]}}", "[]}}"))
    assert take_up(watched) == []
    assert "is not taken up" in watched.problem
    file.write_text(GOOD.replace("v1,", "v22,"))
    assert take_up(watched) == ["v22"]
    assert watched.problem == ""


def test_a_manifest_that_is_removed_is_told(file: Path) -> None:
    watched = WatchedFile(file)
    file.unlink()
    assert take_up(watched) == []
    assert "No such file" in watched.problem


def test_the_local_exchange_takes_the_place_of_the_manifest_s_urls_alone(file: Path) -> None:
    text = GOOD.replace("v1,", "v1, source: {tradeStream: trade},")
    file.write_text(text)
    exchange = Exchange("127.0.0.1:9600", ("BTCUSDT",), Process("x", (), file), "")
    source = exchange.redirect(load_one(file)[1]).source
    assert source.public_url == "ws://127.0.0.1:9600/public"
    assert source.market_url == "ws://127.0.0.1:9600/market"
    assert source.rest_url == "http://127.0.0.1:9600"
    assert source.trade_stream == "trade"


def test_symbols_that_the_local_exchange_does_not_have_are_told(file: Path) -> None:
    exchange = Exchange("127.0.0.1:9600", ("ETHUSDT",), Process("x", (), file), "")
    with pytest.raises(RunError, match="was started without BTCUSDT"):
        exchange.redirect(load_one(file)[1])


def test_a_run_takes_one_signal_at_a_time(file: Path) -> None:
    file.write_text(f"{GOOD}---\n{GOOD.replace('ofi', 'cvd')}")
    with pytest.raises(RunError, match="has 2 SignalCanaries"):
        load_one(file)
