"""SignalCanary: rolls out trading-signal configurations on live evidence.

Importing this package must stay cheap: the command line and the workloads import it, and
neither may pay for kopf or the Kubernetes client unless it uses them.
"""

__version__ = "0.1.0"
