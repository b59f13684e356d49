"""A stand-in for a workload: says where it serves, then does as it is told.

Arguments: ``serve`` waits for SIGTERM; ``deaf`` ignores SIGTERM; ``die CODE`` ends at once.
"""

import signal
import sys

what = sys.argv[1]
if what == "die":
    print("cannot go on", flush=True)
    sys.exit(int(sys.argv[2]))
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print('{"event": "serving", "url": "http://127.0.0.1:12345"}', flush=True)
while True:
    signal.pause()
