"""The recorded frames, trade for trade, through exchange → harvest → analysis → Prometheus →
status on the real cluster."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import Any

import pytest
import yaml
from cluster_kit import (
    REPO,
    WAIT_FOR_FILES,
    Exchange,
    Kubectl,
    Rollout,
    eventually,
    query_prometheus,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

RECORDED = REPO.parent / "shared/data/binance-usdm-20240808"
FILES = {"BTCUSDT": "btcusdt_20240808.gz", "ETHUSDT": "ethusdt_20240808.gz"}
SPEED = 10

# What the manifest says is there, read by the product's own reader inside the analysis pod.
COUNT = """
import json, sys
from signalcanary_workloads.store import Kind, ManifestReader, open_storage, read_part
storage, out = open_storage(sys.argv[1]), {}
for symbol in sys.argv[2].split(","):
    ids, cvd, gaps = [], None, 0
    for entry in ManifestReader(storage, symbol).poll(limit=100_000):
        gaps += len(entry.gaps)
        for part in entry.parts:
            if part.kind is Kind.TRADE:
                ids += read_part(storage, part, ["trade_id"])["trade_id"].to_pylist()
            elif part.kind is Kind.CVD:
                cvd = read_part(storage, part, ["cvd"])["cvd"].to_pylist()[-1]
    out[symbol] = {"ids": ids, "cvd": cvd, "gaps": gaps}
print(json.dumps(out))
"""


def recorded_trades(symbol: str) -> dict[int, Decimal]:
    """Signed quantity of each trade in the file, by its id."""
    trades = {}
    with gzip.open(RECORDED / FILES[symbol], "rt") as lines:
        for line in lines:
            if "@trade" in line[:80]:
                data = json.loads(line.split(" ", 1)[1])["data"]
                sign = -1 if data["m"] else 1
                trades[data["t"]] = sign * Decimal(data["q"])
    return trades


@pytest.fixture(scope="module")
def replaying(namespace: Kubectl) -> Exchange:
    if not RECORDED.is_dir():
        pytest.skip("no recorded frames beside the repository (../shared/data)")
    service, deployment = yaml.safe_load_all((REPO / "examples/demo/exchange.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "frames", "emptyDir": {}}]
    container = pod["containers"][0]
    container["volumeMounts"] = [{"name": "frames", "mountPath": "/frames"}]
    frames = ",".join(f"/frames/{name}" for name in FILES.values())
    container["command"] = ["python", "-c", WAIT_FOR_FILES, frames]
    container["args"] = ["python", "-m", "signalcanary_workloads", "exchange"]
    container["args"] += ["--listen=0.0.0.0:9600", "--mode=replay", f"--speed={SPEED}"]
    container["args"] += [f"--file={symbol}=/frames/{name}" for symbol, name in FILES.items()]
    namespace("apply", "-f", "-", stdin=yaml.safe_dump_all([service, deployment]))
    eventually(
        "the exchange's pod running",
        lambda: "Running" in namespace("get", "pods", "-l", "app.kubernetes.io/name=exchange"),
    )
    for name in FILES.values():
        namespace.send_file(RECORDED / name, "deployment/exchange", f"/frames/{name}")
    namespace("rollout", "status", "deployment/exchange", "--timeout=60s")
    return Exchange(namespace)


def spec(namespace: str | None) -> dict[str, Any]:
    host = f"exchange.{namespace}.svc:9600"
    return {
        "version": "recorded",
        "symbols": {"canary": list(FILES), "full": list(FILES)},
        "signal": {
            # The recording lasts 5 min 44 s.
            "calibration": {"train": "110s", "test": "130s", "refit": "60s"},
            "merge": {"tolerance": "5s"},
        },
        "source": {
            "publicUrl": f"ws://{host}/public",
            "marketUrl": f"ws://{host}/market",
            "restUrl": f"http://{host}",
            "tradeStream": "trade",
        },
        "storage": {"size": "1Gi", "commitInterval": "500ms"},
        "stages": [{"name": "canary", "duration": "1h"}],
        "evaluation": {"interval": "2s", "noDataAfter": "30m"},
        "rollback": {
            "conditions": [
                # Six minutes prove next to nothing.
                {"metric": "platt_ece", "above": 0.9, "for": "10m", "mode": "literal"},
                {"metric": "merge_time_diff_ms_p99", "above": 100000, "for": "10m"},
            ]
        },
    }


def test_every_recorded_trade_is_kept_exactly_once(
    replaying: Exchange, operator: Kubectl, namespace: Kubectl
) -> None:
    rollout = Rollout(namespace, "recorded")
    rollout.apply(spec(namespace.namespace))

    # → status: both symbols are judged on the recorded market while it is replayed.
    def judged() -> Any:
        status = rollout.status()
        values = {
            (s["symbol"], c["key"]): c["value"]
            for s in status.get("symbols", ())
            for c in s["conditions"]
            if c["verdict"] == "Ok"
        }
        return values if len(values) == 4 else None

    seen = eventually("both symbols judged", judged, timeout=150, explain=rollout.describe)
    print(f"status: {seen}")

    # → Prometheus: the same metric, the same symbols.
    found = query_prometheus(namespace, f'platt_ece{{namespace="{namespace.namespace}"}}')
    assert {s["metric"]["symbol"] for s in found} == set(FILES)

    expected = {symbol: recorded_trades(symbol) for symbol in FILES}
    pod = f"{rollout.name}-{rollout.status()['canary']['name']}-canary-analysis-0"
    path = json.loads(
        namespace(
            "exec",
            pod,
            "--",
            "python",
            "-c",
            "print(open('/etc/signalcanary/config.json').read())",
        )
    )["dataPath"]

    def harvested() -> Any:
        printed = namespace("exec", pod, "--", "python", "-c", COUNT, path, ",".join(FILES))
        counts = json.loads(printed)
        done = all(len(counts[s]["ids"]) >= len(expected[s]) for s in FILES)
        return counts if done else None

    counts = eventually("every trade committed", harvested, timeout=180, pause=3)
    for symbol, trades in expected.items():
        ids = counts[symbol]["ids"]
        assert len(ids) == len(set(ids)), f"{symbol}: a trade stands twice"
        assert set(ids) == set(trades), f"{symbol}: trades are missing or foreign"
        assert Decimal(repr(counts[symbol]["cvd"])) == pytest.approx(
            sum(trades.values()), abs=Decimal("1e-9")
        )
        assert counts[symbol]["gaps"] == 0
        print(f"{symbol}: {len(ids)} trades once each, CVD {sum(trades.values())}")
