"""`helm test`: is the operator ready, and does the API server refuse what it must?

Runs in the operator's image, with the standard library alone. It creates nothing: both objects
are sent with dryRun=All.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
PATH = "/apis/signalcanary.dev/v1alpha1/namespaces/{}/signalcanaries?dryRun=All"


def send(request, **options):
    """The status and the text of the answer, or 0 and why there is none."""
    try:
        with urllib.request.urlopen(request, timeout=10, **options) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def create(symbols):
    """Ask the API server to take a SignalCanary, and to keep nothing."""
    body = {
        "apiVersion": "signalcanary.dev/v1alpha1",
        "kind": "SignalCanary",
        "metadata": {"generateName": "helm-test-"},
        "spec": {"version": "v1", "symbols": symbols},
    }
    token = (ACCOUNT / "token").read_text().strip()
    request = urllib.request.Request(
        os.environ["API_SERVER"] + PATH.format(os.environ["NAMESPACE"]),
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    return send(request, context=context)


def check(what, is_as_it_should, answer):
    print(f"{'ok' if is_as_it_should else 'FAILED'}: {what}")
    if not is_as_it_should:
        print(f"  the answer was {answer[0]}: {answer[1][:1000]}")
    return is_as_it_should


def main():
    ready = send(os.environ["OPERATOR"] + "/readyz")
    good = create({"canary": ["BTCUSDT"], "full": ["BTCUSDT", "ETHUSDT"]})
    bad = create({"canary": ["BTCUSDT"], "full": ["ETHUSDT"]})
    results = [
        check("the operator is ready", ready[0] == 200, ready),
        check("a good SignalCanary would be taken", good[0] == 201, good),
        check(
            "one whose canary symbols are not among the full ones is refused",
            bad[0] == 422 and "spec.symbols" in bad[1],
            bad,
        ),
    ]
    sys.exit(not all(results))


main()
