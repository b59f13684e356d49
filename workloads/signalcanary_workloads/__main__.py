"""``python -m signalcanary_workloads harvest|analysis|verify|exchange``: what the image runs.

Each workload is imported only when it is asked for, so that none pays for another's libraries.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

WORKLOADS = {
    "harvest": "exchange websocket → order-flow features → Parquet",
    "analysis": "harvested Parquet → calibrated signal → metrics",
    "verify": "model files → are they as declared, and do they work",
    "exchange": "a local exchange that speaks Binance USD-M's protocol",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one workload; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in WORKLOADS:
        wanted = "\n".join(f"  {name:10} {text}" for name, text in WORKLOADS.items())
        is_help = arguments[:1] in (["-h"], ["--help"])
        print(
            f"usage: python -m signalcanary_workloads WORKLOAD [options]\n\n{wanted}",
            file=sys.stdout if is_help else sys.stderr,
        )
        return 0 if is_help else 2
    # As the first process of a container it would otherwise ignore SIGTERM until the workload
    # has set a handler of its own, and be waited for in vain.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    name, *rest = arguments
    cli = import_module(f"signalcanary_workloads.{name}.cli")
    parser = argparse.ArgumentParser(
        prog=f"python -m signalcanary_workloads {name}", description=WORKLOADS[name]
    )
    cli.add_arguments(parser)
    code: int = cli.run(parser.parse_args(rest))
    return code


if __name__ == "__main__":
    sys.exit(main())
