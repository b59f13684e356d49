"""The command line that harvest and analysis have in common: which file, which shard, where to
listen. The operator starts both alike, so what it passes is read in one place.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import yaml
from pydantic import ValidationError

from signalcanary.contract import METRICS_PORT, SHARD_VARIABLE, WorkloadConfig

from .serving import split_listen

CONFIGURATION_ERRORS = (OSError, yaml.YAMLError, ValidationError, ValueError)
"""What `read_config` raises; each says in its words what is wrong."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --config, --shard and --listen."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the workload configuration"
    )
    shard = os.environ.get(SHARD_VARIABLE)
    parser.add_argument(
        "--shard",
        type=int,
        default=shard,
        required=shard is None,
        metavar="N",
        help=f"which part of the symbols, counted from 0 (default: ${SHARD_VARIABLE})",
    )
    parser.add_argument(
        "--listen",
        default=f"0.0.0.0:{METRICS_PORT}",
        metavar="HOST:PORT",
        help="where to serve /metrics, /healthz and /readyz (default: %(default)s)",
    )


def read_config(args: argparse.Namespace) -> WorkloadConfig:
    """Read the file that was named, and check the other options against it.

    Raises:
        OSError: it cannot be read.
        yaml.YAMLError, pydantic.ValidationError: it is no workload configuration.
        ValueError: there is no such shard, or --listen is no HOST:PORT.
    """
    config = WorkloadConfig.model_validate(yaml.safe_load(args.config.read_text("utf-8")))
    split_listen(args.listen)
    if not 0 <= args.shard < len(config.shards):
        raise ValueError(f"--shard {args.shard} does not exist: there are {len(config.shards)}")
    return config
