"""The command line of the exchange: ``python -m signalcanary_workloads exchange``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from signalcanary_workloads.exchange.model import MarketParams
from signalcanary_workloads.exchange.server import (
    ExchangeConfig,
    Replay,
    Synthetic,
    running_exchange,
)
from signalcanary_workloads.exchange.sources import Recording, RecordingError
from signalcanary_workloads.exchange.websocket import ConnectionLimits

_MARKET_HELP = {
    "horizon_seconds": "Horizon of the skill, seconds of event time.",
    "auc_active": "AUC of the score 0.6·OFI + 0.4·CVD in the active regime.",
    "auc_quiet": "The same in the quiet regime.",
    "ofi_skill": "Correlation of book queues with the latent flow, -1 to 1.",
    "cvd_skill": "Correlation of trade sides with the latent flow, -1 to 1; 0: CVD is useless.",
    "flow_persistence": "AR(1) coefficient of the latent flow per second, 0 to 1.",
    "volatility_bps": "Volatility of 1 s in the quiet regime, basis points.",
    "active_volatility_factor": "Volatility of the active regime over that of the quiet one.",
    "quiet_trades": "Trades per second of event time in the quiet regime, at least 1.",
    "active_trades": "Trades per second of event time in the active regime, at least 1.",
    "quiet_flow_updates": "Book updates per second that carry flow, quiet (2 more come on top).",
    "active_flow_updates": "Book updates per second that carry flow, active.",
    "trade_size_sigma": "Standard deviation of the logarithm of trade sizes.",
    "shortest_dwell_seconds": "Shortest stay in a regime, seconds of event time.",
    "mean_dwell_seconds": "Mean stay in a regime, seconds of event time.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the sub-command `exchange`."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--listen", default="127.0.0.1:9600", help="HOST:PORT; port 0: any free.")
    parser.add_argument("--mode", choices=("synthetic", "replay"), default="synthetic")
    parser.add_argument("--speed", type=float, default=120.0, help="Event time over wall time.")
    parser.add_argument("--rest-weight-limit", type=int, default=2400, help="Per minute.")
    parser.add_argument("--history", type=int, default=500_000, help="Trades a symbol for REST.")
    _add_synthetic(parser.add_argument_group("synthetic"))
    _add_replay(parser.add_argument_group("replay"))
    _add_limits(parser.add_argument_group("connections (seconds of wall time)"))


def _add_synthetic(group: argparse._ArgumentGroup) -> None:
    default = Synthetic()
    group.add_argument("--symbols", default=",".join(default.symbols), help="Separated by commas.")
    group.add_argument("--seed", type=int, default=default.seed)
    group.add_argument(
        "--start-time", type=_read_time, metavar="ISO8601", help="First event time; else now."
    )
    market = MarketParams()
    for name, help_text in _MARKET_HELP.items():
        value = getattr(market, name)
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=type(value), default=value, help=help_text)


def _add_replay(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--file",
        action="append",
        default=[],
        type=_read_recording,
        metavar="SYMBOL=PATH.gz",
        help="A recording; may be repeated.",
    )
    group.add_argument(
        "--start",
        choices=("on-subscribe", "immediately"),
        default="on-subscribe",
        help="When a symbol begins.",
    )
    group.add_argument(
        "--min-subscribers",
        type=int,
        default=1,
        help="Subscribers that both streams of a symbol must have before it begins.",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    limits = ConnectionLimits()
    group.add_argument("--ping-interval", type=float, default=limits.ping_interval_seconds)
    group.add_argument("--pong-timeout", type=float, default=limits.pong_timeout_seconds)
    group.add_argument("--max-connection-age", type=float, default=limits.max_age_seconds)
    group.add_argument(
        "--queue-frames",
        type=int,
        default=limits.queue_frames,
        help="Frames that may wait for a slow consumer before it is cut.",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 then, 2 if the options cannot work."""
    try:
        host, port = _read_address(args.listen)
        config = build_config(args)
        asyncio.run(_serve(config, host, port))
    except (ValueError, RecordingError, OSError) as error:
        print(f"exchange: {error}", file=sys.stderr)
        return 2
    return 0


def build_config(args: argparse.Namespace) -> ExchangeConfig:
    """Raises ValueError if the options do not go together."""
    if args.speed <= 0:
        raise ValueError("--speed must be greater than 0")
    mode: Synthetic | Replay
    if args.mode == "synthetic":
        market = MarketParams(**{one.name: getattr(args, one.name) for one in fields(MarketParams)})
        symbols = tuple(symbol for symbol in args.symbols.upper().split(",") if symbol)
        mode = Synthetic(symbols, args.seed, args.start_time, market)
    else:
        if not args.file:
            raise ValueError("--mode replay needs at least one --file SYMBOL=PATH.gz")
        mode = Replay(tuple(args.file), args.min_subscribers if args.start == "on-subscribe" else 0)
    limits = ConnectionLimits(
        ping_interval_seconds=args.ping_interval,
        pong_timeout_seconds=args.pong_timeout,
        max_age_seconds=args.max_connection_age,
        queue_frames=args.queue_frames,
    )
    return ExchangeConfig(mode, args.speed, limits, args.rest_weight_limit, args.history)


async def _serve(config: ExchangeConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_exchange(config, host, port) as exchange:
        print(f"exchange listening on {exchange.http_url}", flush=True)
        await stop.wait()


def _read_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--listen must be HOST:PORT, not {text!r}")
    return host, int(port)


def _read_time(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _read_recording(text: str) -> Recording:
    symbol, _, path = text.partition("=")
    if not symbol or not path:
        raise argparse.ArgumentTypeError(f"must be SYMBOL=PATH.gz, not {text!r}")
    return Recording(symbol.upper(), Path(path))
