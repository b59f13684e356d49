"""SignalCanary: rolls out trading-signal configurations on live evidence.

From Python (docs/python.md)::

    from signalcanary import Condition, Rollback, SignalCanary, SignalCanarySpec, Stage, Symbols
    from signalcanary import backtest

Importing this package must stay cheap: the command line and the workloads import it, and
neither may pay for kopf or the Kubernetes client unless it uses them. The classes above are
therefore loaded when one is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from signalcanary.manifest import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        # Modules have lower-case names, and must be found before any of them is loaded.
        if name[:1].isupper():
            public = import_module("signalcanary.manifest")
            if name in public.__all__:
                return getattr(public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
