"""``python -m signalcanary_workloads verify``: looks at the model files, says what it found, ends.

What it found goes to `--result` as a `Verification`; in a pod that is the message of the
container's end, which the operator reads. Trouble with the storage or the registry is no result:
then there is none, and another try may go well.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from signalcanary.artifacts import Verification
from signalcanary.contract import WorkloadConfig

from ..store.errors import StorageError
from .check import verify

REFUSED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``verify`` to its parser."""
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the workload configuration"
    )
    parser.add_argument(
        "--result",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="where to write what was found (default: %(default)s)",
    )
    parser.add_argument(
        "--stay", action="store_true", help="stay until SIGTERM once the result is written"
    )


def run(args: argparse.Namespace) -> int:
    """0 if all is well, 3 if something is refused, 1 if the storage is ill, 2 on bad options."""
    try:
        config = WorkloadConfig.model_validate(yaml.safe_load(args.config.read_text("utf-8")))
        artifacts, root = config.signal.artifacts, config.artifacts_root
        if artifacts is None or root is None:
            raise ValueError("it has no artifacts to verify")
        found = verify(artifacts, root, config.revision, config.attempt, config.logins)
        args.result.write_text(found.model_dump_json(by_alias=True))
    except StorageError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        print(f"verify: {args.config}: {error}", file=sys.stderr)
        return 2
    _tell(found)
    while args.stay:
        signal.pause()  # SIGTERM ends the process, as the caller has set it up
    return REFUSED if found.refusals else 0


def _tell(found: Verification) -> None:
    for refusal in found.refusals:
        print(f"verify: {refusal.file}: {refusal.reason}: {refusal.message}", flush=True)
    for model in found.models:
        print(
            f"verify: {model.name}: loaded in {model.load_ms:.3g} ms; a row takes "
            f"{model.p50_ms:.3g} ms, p99 {model.p99_ms:.3g} ms",
            flush=True,
        )
    state = "refused" if found.refusals else "as declared"
    print(f"verify: {found.files} files, {found.total_bytes} bytes: {state}", flush=True)
