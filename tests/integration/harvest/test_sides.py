"""An exchange that turns its taker flags around: found by harvest, left out by analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from signalcanary.contract import DataSource, SignalConfig
from signalcanary_workloads.analysis.engine import Engine, EngineConfig, Evaluation
from signalcanary_workloads.analysis.rows import CvdRows, FeatureRows
from signalcanary_workloads.exchange.faults import parse_faults
from signalcanary_workloads.exchange.server import ExchangeConfig, Synthetic, running_exchange
from signalcanary_workloads.store import Kind, Quality

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SOUND_SECONDS, REVERSED_SECONDS, REPAIRED_SECONDS = 200, 600, 600


def analyse(kit: Any, data_path: Path, symbol: str) -> Evaluation:
    signal = SignalConfig.model_validate(
        {"calibration": {"train": "100s", "test": "100s", "refit": "100s"}}
    )
    engine = Engine(EngineConfig.from_signal(signal))
    engine.take_in(
        FeatureRows.from_table(kit.read_rows(data_path, Kind.FEATURE, symbol)),
        CvdRows.from_table(kit.read_rows(data_path, Kind.CVD, symbol)),
    )
    return engine.evaluate()


async def test_reversed_flags_give_masked_rows_and_no_flip(tmp_path: Path, kit: Any) -> None:
    mode = Synthetic(SYMBOLS, seed=5, start_ms=kit.start_ms)
    async with running_exchange(ExchangeConfig(mode=mode, speed=400.0)) as exchange:
        source = DataSource(
            public_url=exchange.public_url,
            market_url=exchange.market_url,
            rest_url=exchange.rest_url,
        )
        async with kit.running_harvest(kit.make_config(tmp_path, source, SYMBOLS)) as harvest:
            pipeline, engine = harvest.pipelines["BTCUSDT"], exchange.engine
            await kit.wait_until(lambda: harvest.health.readiness()[0], "ready")
            engine.impose(
                parse_faults(
                    {
                        "type": "inverted_maker",
                        "symbols": ["BTCUSDT"],
                        "after_event_seconds": SOUND_SECONDS,
                        "duration_event_seconds": REVERSED_SECONDS,
                    }
                )
            )
            reversed_ms = engine.position_ms + 1_000 * SOUND_SECONDS
            repaired_ms = reversed_ms + 1_000 * REVERSED_SECONDS
            end_ms = repaired_ms + 1_000 * REPAIRED_SECONDS
            await kit.wait_until(
                lambda: pipeline.grid.watermark_ms > reversed_ms + 400_000, "reversed for long"
            )
            # Not quite 0 and 1: trades and quotes come by two sockets, one a little later.
            assert pipeline.side_agreement() < 0.1
            assert harvest.pipelines["ETHUSDT"].side_agreement() > 0.9
            registry = CollectorRegistry()
            registry.register(harvest.collector())
            shown = {
                sample.labels["symbol"]: sample.value
                for family in registry.collect()
                for sample in family.samples
                if sample.name == "harvest_trade_side_agreement_ratio"
            }
            assert shown["BTCUSDT"] < 0.1
            assert shown["ETHUSDT"] > 0.9
            await kit.wait_until(lambda: pipeline.grid.watermark_ms > end_ms, "repaired for long")
            assert pipeline.side_agreement() > 0.9

    def disputed(symbol: str, from_ms: float, until_ms: float) -> set[bool]:
        rows = kit.read_rows(tmp_path, Kind.FEATURE, symbol)
        return {
            bool(quality & Quality.SIDE_DISPUTED)
            for ts, quality in zip(
                rows.column("ts").to_pylist(), rows.column("quality").to_pylist(), strict=True
            )
            if from_ms < ts <= until_ms
        }

    # Of 300 s of evidence, half must speak for the reversal; likewise on the way back.
    assert disputed("BTCUSDT", 0, reversed_ms) == {False}
    assert disputed("BTCUSDT", reversed_ms + 310_000, repaired_ms) == {True}
    assert disputed("BTCUSDT", repaired_ms + 310_000, end_ms) == {False}
    assert disputed("ETHUSDT", 0, end_ms) == {False}

    got, other = analyse(kit, tmp_path, "BTCUSDT"), analyse(kit, tmp_path, "ETHUSDT")
    assert got.masked["side_disputed"] > 200
    assert other.masked["side_disputed"] == 0
    for evaluation in (got, other):
        assert evaluation.direction == 1
        assert evaluation.values["cvd_direction_flipped_total"].value == 0.0
