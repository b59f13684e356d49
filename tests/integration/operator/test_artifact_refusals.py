"""Artifacts that cannot be right are refused, by the API server as by lint, in the same words."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from api_server import ApiServer
from refusals import assert_refused, document, taken

from signalcanary.artifacts import MAX_FILES, MAX_GATES, MAX_MODELS

SHA = "0" * 64
META = {"path": "meta.json", "size": 96, "sha256": SHA, "format": "json"}
LGB = {"path": "lgb.onnx", "size": 182, "sha256": SHA, "format": "onnx"}
GOOD: dict[str, Any] = {
    "path": "models/v1",
    "files": [LGB, {**LGB, "path": "sub/lstm.onnx"}, {**LGB, "path": "stacking.onnx"}, META],
    "models": [
        {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active", "quiet"]},
        {"name": "lstm", "file": "sub/lstm.onnx", "inputs": ["z_ofi"], "window": 20},
        {
            "name": "stacking",
            "file": "stacking.onnx",
            "role": "stacking",
            "inputs": ["lgb", "lstm", "z_ofi"],
            "output": "probability",
            "index": 1,
        },
    ],
    "gates": [{"file": "meta.json", "key": "oof.n", "min": 10000}],
    "smoke": {"maxLoad": "3s", "maxInference": "5ms"},
}
BY_MANIFEST = {k: v for k, v in GOOD.items() if k != "files"} | {
    "manifest": {"path": "manifest.json", "sha256": SHA}
}
MOST = GOOD | {
    "files": [{**LGB, "path": f"{'d' * 60}/{'f' * 60}{n}"} for n in range(MAX_FILES - 1)] + [META],
    "models": [
        {"name": f"m{n}", "file": f"{'d' * 60}/{'f' * 60}{n}", "inputs": ["z_ofi"] * 32}
        for n in range(MAX_MODELS)
    ],
    "gates": GOOD["gates"] * MAX_GATES,
}
IMAGE: dict[str, Any] = {"url": f"oci://ghcr.io/team/models@sha256:{SHA}"}
IN_IMAGE = {k: v for k, v in GOOD.items() if k != "path"} | {"image": IMAGE}
IN_OWN_REGISTRY = GOOD | {
    "image": {
        "url": f"oci://registry.ns.svc:5000/a__b/c.d-e/f@sha256:{SHA}",
        "secretName": "registry-login",
        "plainHttp": True,
    }
}
ACCEPTED = {
    "a list": GOOD,
    "a manifest": BY_MANIFEST,
    "as much as may be": MOST,
    "an image": IN_IMAGE,
    "a folder of an image in a registry of one's own": IN_OWN_REGISTRY,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    wire = deepcopy(GOOD)
    *parents, last = path.split(".")
    node: Any = wire
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    if value is None:
        del node[last]
    else:
        node[int(last) if last.isdigit() else last] = value
    return wire


EITHER = "write either files or manifest"
CODE = "pickle, joblib and torch files run code when they are loaded: export the model as ONNX"
PATH = "write a path of letters, digits"
PINNED = "write oci://REGISTRY/REPOSITORY@sha256:DIGEST, without a tag"


def image(url: str, **more: Any) -> dict[str, Any]:
    return IN_IMAGE | {"image": {"url": url, **more}}


BAD = {
    "nowhere": (changed("path", None), "write path, the folder that the files lie in, or image"),
    "an image by its tag": (image("oci://ghcr.io/team/models:v3"), PINNED),
    "an image by nothing": (image("oci://ghcr.io/team/models"), PINNED),
    "a tag beside the digest": (image(f"oci://ghcr.io/team/models:v3@sha256:{SHA}"), PINNED),
    "half a digest": (image("oci://ghcr.io/team/models@sha256:ab12"), PINNED),
    "an image without a registry": (image(f"oci://models@sha256:{SHA}"), PINNED),
    "an image as containers name it": (image(f"ghcr.io/team/models@sha256:{SHA}"), PINNED),
    "an image out of its repository": (image(f"oci://ghcr.io/../x@sha256:{SHA}"), PINNED),
    "a Secret elsewhere": (
        image(IMAGE["url"], secretName="../other/login"),
        "write the name of a Secret of this namespace",
    ),
    "neither files nor manifest": (changed("files", None), EITHER),
    "both": (GOOD | {"manifest": {"path": "m.json", "sha256": SHA}}, EITHER),
    "a pickle": (changed("files.0.path", "lgb.pkl"), CODE),
    "a torch checkpoint": (changed("files.0.path", "deep/LSTM.PT"), CODE),
    "an unknown format": (changed("files.0.format", "pickle"), "onnx"),
    "a path out of the folder": (changed("files.0.path", "../lgb.onnx"), PATH),
    "an absolute path": (changed("path", "/etc"), PATH),
    "a hidden file": (changed("files.0.path", ".lgb.onnx"), PATH),
    "half a hash": (changed("files.0.sha256", "ab12"), "write the SHA-256 as sha256sum does"),
    "a file too big": (changed("files.0.size", 2**28 + 1), "268435456"),
    "a file twice": (changed("files.1", LGB), "listed twice"),
    "a model's file not listed": (changed("files.0.path", "x.onnx"), "is not among the files"),
    "a gate's file not listed": (changed("files.3.path", "x.json"), "is not among the files"),
    "a model that is no ONNX": (changed("models.0.file", "meta.json"), "files of the format onnx"),
    "two models of a name": (changed("models.1.name", "lgb"), "a name of its own"),
    "two stacking models": (
        changed("models.0", {**GOOD["models"][2], "name": "other"}),
        "there is one stacking model at most",
    ),
    "an unknown feature": (changed("models.0.inputs", ["rsi"]), "base model are features: z_ofi"),
    "an unknown base model": (
        changed("models.2.inputs", ["lgb", "tft"]),
        "are names of base models, and features",
    ),
    "a stacking model with a window": (changed("models.2.window", 3), "takes one row at a time"),
    "a gate without a bound": (changed("gates.0.min", None), "a gate needs min, max or both"),
}


WEIGHT = {"ofi": 0.4, "cvd": 0.2, "ml": 0.4}
NEEDS_A_MODEL = "a weight ml needs a model"
STACKED_ALONE = GOOD | {"models": [{**GOOD["models"][2], "inputs": ["z_ofi"]}]}
BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "a weight without artifacts": ({"fusion": {"active": WEIGHT}}, NEEDS_A_MODEL),
    "a weight without models": (
        {"fusion": {"quiet": WEIGHT}, "artifacts": {**GOOD, "models": []}},
        NEEDS_A_MODEL,
    ),
    "a weight without a base model": (
        {"fusion": {"baseline": WEIGHT}, "artifacts": STACKED_ALONE},
        NEEDS_A_MODEL,
    ),
    "weights that do not sum to 1": (
        {"fusion": {"active": {**WEIGHT, "ml": 0.5}}, "artifacts": GOOD},
        "must sum to 1",
    ),
    "nothing but models": (
        {"fusion": {"active": {"ofi": 0.0, "cvd": 0.0, "ml": 1.0}}, "artifacts": GOOD},
        "less than or equal to 0.9",
    ),
}


def with_artifacts(artifacts: dict[str, Any]) -> dict[str, Any]:
    return document({"signal": {"artifacts": artifacts}})


@pytest.mark.parametrize("artifacts", ACCEPTED.values(), ids=ACCEPTED)
def test_artifacts_that_can_be_right_are_taken(
    artifacts: dict[str, Any], api: ApiServer, namespace: str
) -> None:
    found = taken(api, namespace, with_artifacts(artifacts))["signal"]["artifacts"]
    assert found["models"][0]["role"] == "base"
    assert found["smoke"]["maxLoad"] in ("3s", "30s")


@pytest.mark.parametrize(("artifacts", "message"), BAD.values(), ids=BAD)
def test_artifacts_that_cannot_be_right_are_refused(
    artifacts: dict[str, Any], message: str, api: ApiServer, namespace: str
) -> None:
    assert_refused(api, namespace, with_artifacts(artifacts), message)


def test_a_weight_of_models_is_taken_where_there_are_some(api: ApiServer, namespace: str) -> None:
    wanted = with_artifacts(GOOD)
    wanted["spec"]["signal"]["fusion"] = {"active": WEIGHT, "quiet": {"ofi": 1, "cvd": 0, "ml": 0}}
    assert taken(api, namespace, wanted)["signal"]["fusion"]["active"]["ml"] == 0.4
    condition = {"metric": "signal_ml_coverage_ratio", "below": 0.8, "for": "10m"}
    wanted["spec"]["rollback"] = {"conditions": [condition]}
    taken(api, namespace, wanted)


@pytest.mark.parametrize(("signal", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_a_weight_that_models_cannot_bear_is_refused(
    signal: dict[str, Any], message: str, api: ApiServer, namespace: str
) -> None:
    assert_refused(api, namespace, document({"signal": signal}), message)
