"""The command line says what is wrong with it, and its defaults are a demo."""

import argparse
from pathlib import Path

import pytest

from signalcanary_workloads.exchange import cli
from signalcanary_workloads.exchange.server import ExchangeConfig, Replay, Synthetic
from signalcanary_workloads.exchange.sources import Recording


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(arguments)


def test_no_option_at_all_gives_the_default_exchange() -> None:
    assert cli.build_config(parse()) == ExchangeConfig()


def test_market_options_reach_the_market() -> None:
    config = cli.build_config(
        parse("--symbols", "btcusdt", "--cvd-skill", "0", "--seed", "9", "--start-time",
              "2026-05-01T00:00:00")
    )  # fmt: skip
    assert isinstance(config.mode, Synthetic)
    assert config.mode.symbols == ("BTCUSDT",)
    assert config.mode.market.cvd_skill == 0
    assert config.mode.start_ms == 1_777_593_600_000


def test_recordings_are_named_by_symbol() -> None:
    config = cli.build_config(parse("--mode", "replay", "--file", "btcusdt=a/b.gz"))
    assert config.mode == Replay((Recording("BTCUSDT", Path("a/b.gz")),), 1)
    at_once = parse("--mode", "replay", "--file", "B=b", "--start", "immediately")
    assert cli.build_config(at_once).mode == Replay((Recording("B", Path("b")),), 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "replay"], "needs at least one --file"),
        (["--speed", "0"], "--speed must be greater than 0"),
        (["--listen", "nowhere"], "--listen must be HOST:PORT"),
        (["--symbols", ""], "symbols must be given"),
        (["--auc-active", "0.99"], "out of reach"),
        (["--mode", "replay", "--file", "BTCUSDT=missing.gz"], "No such file"),
    ],
)
def test_options_that_cannot_work_end_it_with_a_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(parse("--listen", "127.0.0.1:0", *arguments)) == 2
    assert words in capsys.readouterr().err
