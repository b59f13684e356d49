"""Pods that keep their data in a bucket: a real S3 server in the cluster, its keys in a Secret."""

from __future__ import annotations

import json

import pytest
from cluster_kit import Exchange, Kubectl, Rollout, eventually
from scene import Spec, spec
from server_kit import FOLDER, build_server, start_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

BUCKET = "harvested"
PREFIX = "market-data"
PORT = 7070
# On a disk a bucket is a folder, and an object a file. What the manifests name must be there.
LOOK = """
import hashlib, json, pathlib, sys
rows = {}
for file in sorted(pathlib.Path(sys.argv[1]).rglob("manifest/symbol=*/*.json")):
    entry = json.loads(file.read_text())
    for part in entry["parts"]:
        data = (file.parents[2] / part["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == part["sha256"], part
        assert data[:4] == data[-4:] == b"PAR1", part
        key = f"{entry['symbol']}/{part['kind']}"
        rows[key] = rows.get(key, 0) + part["rows"]
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def bucket(namespace: Kubectl) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "signalcanary", "AWS_SECRET_ACCESS_KEY": "only-in-this-cluster"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bucket-keys"},
        "stringData": {**keys, "AWS_REGION": "us-east-1"},
    }
    roots = {"ROOT_ACCESS_KEY": "AWS_ACCESS_KEY_ID", "ROOT_SECRET_KEY": "AWS_SECRET_ACCESS_KEY"}
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "bucket-keys", "key": key}}}
        for name, key in roots.items()
    ]
    # What it knows of objects in files beside them: not every disk keeps attributes.
    start = (
        f"mkdir -p {FOLDER}/data/{BUCKET} {FOLDER}/meta && exec {FOLDER}/versitygw "
        f"--port 0.0.0.0:{PORT} posix --sidecar {FOLDER}/meta {FOLDER}/data"
    )
    start_server(namespace, "versitygw", [secret, *build_server("versitygw", PORT, start, env)])


def spec_with_bucket(namespace: Kubectl) -> Spec:
    """The scene's configuration with a bucket, and windows that fill in eight seconds."""
    document = spec(namespace, "in-a-bucket")
    document["signal"]["calibration"] = {"train": "5m", "test": "10m", "refit": "5m"}
    document["storage"] = {
        "commitInterval": "500ms",
        "bucket": {
            "url": f"s3://{BUCKET}/{PREFIX}",
            "secretName": "bucket-keys",
            "endpoint": f"http://versitygw.{namespace.namespace}.svc:{PORT}",
        },
    }
    document["stages"] = [{"name": "canary", "duration": "1h"}]
    document["rollback"] = {
        "conditions": [
            {"metric": "platt_ece", "above": 0.5, "minSamples": 100, "mode": "literal"},
            {"metric": "merge_time_diff_ms_p99", "above": 60000},
        ]
    }
    return document


def test_harvest_and_analysis_keep_everything_in_the_bucket(
    namespace: Kubectl, operator: Kubectl, bucket: None
) -> None:
    Exchange(namespace).start()
    rollout = Rollout(namespace, "in-a-bucket")
    rollout.apply(spec_with_bucket(namespace))

    def judged() -> bool:
        verdicts = [
            condition["verdict"]
            for symbol in rollout.status().get("symbols", ())
            for condition in symbol["conditions"]
        ]
        return verdicts == ["Ok"] * 4

    eventually("both symbols judged", judged, timeout=120, explain=rollout.describe)
    assert namespace.json("get", "persistentvolumeclaims")["items"] == []
    folder = f"{FOLDER}/data/{BUCKET}/{PREFIX}/{namespace.namespace}/in-a-bucket/canary"
    printed = namespace("exec", "deployment/versitygw", "--", "python", "-c", LOOK, folder)
    rows = json.loads(printed)
    kinds = ("trade", "bbo", "cvd", "feature", "signal")
    wanted = {f"{symbol}/{kind}" for symbol in ("BTCUSDT", "ETHUSDT") for kind in kinds}
    assert set(rows) == wanted
    assert all(count > 100 for count in rows.values()), rows

    # While the bucket is there: without it, the pods wait for it until they are killed.
    rollout.delete()
