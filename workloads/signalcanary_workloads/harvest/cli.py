"""The command line of harvest: configuration in, exit code out.

Exit codes: 0 stopped by a signal with everything committed, 1 could not go on, 2 the
configuration or the arguments are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from datetime import UTC, datetime

from signalcanary.contract import WorkloadConfig
from signalcanary_workloads.harvest.app import HarvestError, harvest
from signalcanary_workloads.harvest.sink import SinkError
from signalcanary_workloads.options import CONFIGURATION_ERRORS, add_common_arguments, read_config

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One JSON object a line: people can read it, collectors need no rule for it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; `extra={"fields": {…}}` adds its fields."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `harvest`."""
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Harvest until SIGTERM or SIGINT; gives the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        config = read_config(args)
    except CONFIGURATION_ERRORS as exc:
        log.error("the configuration is wrong", extra={"fields": {"detail": str(exc)}})
        return 2
    try:
        asyncio.run(_until_signal(config, args.shard, args.listen))
    except (HarvestError, SinkError, OSError) as exc:
        log.error("harvest ends", extra={"fields": {"detail": str(exc)}})
        return 1
    log.info("stopped, everything is committed")
    return 0


async def _until_signal(config: WorkloadConfig, shard: int, listen: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await harvest(config, shard, listen, stop)
