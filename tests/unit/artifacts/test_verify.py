"""Model files are used as they were declared, or not at all: against the real onnxruntime."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from signalcanary.artifacts import MAX_MANIFEST_BYTES, MAX_TOLD, Reason, Verification
from signalcanary_workloads.store.errors import StorageError

from .conftest import Bench


def test_files_that_are_as_declared_pass_with_figures_of_each_model(bench: Bench) -> None:
    bench.declared["gates"] = [{"file": "stacking_meta.json", "key": "n_oof", "min": 10000}]
    bench.write()
    found = bench.verify()
    assert found.refusals == ()
    assert (found.revision, found.attempt, found.files) == ("cafe0123", 2, 4)
    assert found.total_bytes == sum(map(len, bench.files.values()))
    assert [model.name for model in found.models] == ["lgb", "lstm", "stacking"]
    for model in found.models:
        assert model.load_ms > 0
        assert 0 < model.p50_ms <= model.p99_ms


def test_a_manifest_may_list_them(bench: Bench, use_manifest: Callable[..., None]) -> None:
    use_manifest(bench)
    bench.declared["models"] = []
    found = bench.verify()
    assert (found.refusals, found.files) == ((), 4)


def damaged(data: bytes) -> bytes:
    return data[:50] + bytes((data[50] ^ 1,)) + data[51:]


ON_DISK: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda data: None, "lstm.onnx: ArtifactMissing: there is no such file in models"),
    "one bit turned": (damaged, "lstm.onnx: ChecksumMismatch: its SHA-256 is [0-9a-f]{64}, and"),
    "truncated": (
        lambda data: data[:-1],
        "lstm.onnx: ChecksumMismatch: it has 762 bytes, and 763 are declared",
    ),
    "empty": (lambda data: b"", "lstm.onnx: ChecksumMismatch: it has 0 bytes"),
}


@pytest.mark.parametrize(("change", "message"), ON_DISK.values(), ids=ON_DISK)
def test_a_file_that_is_not_as_declared_is_refused(
    bench: Bench, change: Callable[[bytes], bytes | None], message: str
) -> None:
    bench.write(**{"lstm.onnx": change(bench.files["lstm.onnx"])})
    assert re.match(message, bench.refusal())
    assert bench.verify().models == (), "a model runs beside a file that is refused"


def test_a_file_of_another_size_is_not_even_read(bench: Bench) -> None:
    bench.write()
    path = bench.root / "models/v1/lstm.onnx"
    with path.open("r+b") as file:
        file.truncate(2**40)  # a hole of a tebibyte: no memory would hold it
    assert "it has 1099511627776 bytes" in bench.refusal()


def test_nothing_is_said_where_storage_does_not_answer(bench: Bench) -> None:
    bench.root.joinpath("models").write_text("a file in the place of the folder")
    bench.root.joinpath("models").chmod(0)
    with pytest.raises(StorageError):
        bench.verify()


def pickled(data: bytes) -> bytes:
    return pickle.dumps({"weights": data})


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", data)
    return file.getvalue()


def npy(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"x": [1, 2]}), file)
    return file.getvalue()


def safetensors(end: int) -> bytes:
    tensors = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, end]}}
    header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


GOOD = {
    "parquet": parquet(),
    "npy": npy(np.arange(6.0).reshape(2, 3)),
    "safetensors": safetensors(8),
    "text": b"tree\nversion=v4\n",
    "json": b'{"a": [1, null]}',
}


@pytest.mark.parametrize(("form", "data"), GOOD.items(), ids=GOOD)
def test_each_format_is_known(bench: Bench, form: str, data: bytes) -> None:
    bench.declare(f"extra.{form}", data)
    bench.declared["models"] = []
    bench.write()
    assert bench.verify().refusals == ()


BAD = {
    "a pickle as onnx": ("onnx", pickled(b"x"), "it is a Python pickle, not onnx"),
    "a pickle as json": ("json", pickled(b"x"), "it is a Python pickle, not json"),
    "a pickle as safetensors": ("safetensors", pickled(b"x"), "it is a Python pickle, not"),
    "a torch file as onnx": ("onnx", zipped(b"x"), "it is a ZIP archive, as torch.save"),
    "text as onnx": ("onnx", b"hello, world", "it is not onnx"),
    "no graph": ("onnx", onnx.ModelProto(ir_version=8).SerializeToString(), "it has no graph"),
    "text as json": ("json", b"n_oof: 3", "it is not json: Expecting value"),
    "a document without end": ("json", b"[" * 200_000, "it is not json"),
    "text as parquet": ("parquet", b"PAR1 and so on PAR1", "it is not parquet"),
    "half a parquet file": ("parquet", parquet()[:-20], "it is not parquet"),
    "an array of objects": (
        "npy",
        npy(np.array([{"a": 1}]), allow_pickle=True),
        "it holds Python objects, which run code",
    ),
    "a cut off array": ("npy", GOOD["npy"][:-8], "40 bytes of values, and 48 are due"),
    "an array of an endless length": (
        "npy",
        GOOD["npy"].replace(b"(2, 3)", b"(2, 9)"),
        "48 bytes of values, and 144 are due",
    ),
    "tensors beyond the end": ("safetensors", safetensors(9), "the tensor 'w' has no place in it"),
    "a header beyond the end": ("safetensors", b"\xff" * 8 + b"{}", "its header is cut off"),
    "bytes as text": ("text", b"\xff\xfe", "it is no UTF-8"),
}


@pytest.mark.parametrize(("form", "data", "message"), BAD.values(), ids=BAD)
def test_what_is_not_of_its_format_is_refused(
    bench: Bench, form: str, data: bytes, message: str
) -> None:
    bench.declare(f"extra.{form}", data)
    bench.declared["models"] = []
    bench.write()
    refusal = bench.refusal()
    assert refusal.startswith(f"extra.{form}: FormatInvalid: ")
    assert message in refusal


def edited(data: bytes, edit: Callable[[Any], Any]) -> bytes:
    model = onnx.load_model_from_string(data)
    edit(model)
    return model.SerializeToString()


def weights_elsewhere(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def constant_elsewhere(model: Any) -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "c")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))


def of_foreign_domain(model: Any) -> None:
    model.opset_import.add(domain="acme.ops", version=1)
    model.graph.node[0].domain = "acme.ops"


def of_undeclared_domain(model: Any) -> None:
    model.graph.node[0].domain = "acme.ops"


def of_no_known_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Gemmm"


EDITS = {
    "weights in another file": (weights_elsewhere, "it keeps weights in another file"),
    "a constant in another file": (constant_elsewhere, "it keeps weights in another file"),
    "an operator of foreign code": (of_foreign_domain, "it uses operators of acme.ops, which need"),
    "an undeclared domain": (of_undeclared_domain, "it uses operators of acme.ops, which need"),
    "an unknown operator": (of_no_known_operator, "it is not onnx"),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_a_model_that_needs_more_than_itself_is_refused(
    bench: Bench, edit: Callable[[Any], Any], message: str
) -> None:
    bench.files["lgb.onnx"] = edited(bench.files["lgb.onnx"], edit)
    bench.write()
    refusal = bench.refusal()
    assert refusal.startswith("lgb.onnx: FormatInvalid: ")
    assert message in refusal


def not_finite(maker: ModuleType) -> bytes:
    """The square root of a score: NaN where it is below zero."""
    root = helper.make_node("Sqrt", ["rows"], ["roots"])
    to_sum = helper.make_node("ReduceSum", ["roots"], ["probability"], keepdims=1)
    return maker._model([root, to_sum], {}, ["batch", 3])


def endless(maker: ModuleType) -> bytes:
    """A loop of 2^40 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sigmoid", ["state"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["batch", 1]),
        ],
    )
    nodes = [
        helper.make_node("Gemm", ["rows", "w"], ["first"]),
        helper.make_node("Loop", ["turns", "yes", "first"], ["probability"], body=body),
    ]
    weights = {
        "w": np.ones((3, 1), np.float32),
        "turns": np.array(2**40),
        "yes": np.array(True),
    }
    return maker._model(nodes, weights, ["batch", 3])


def random_answers(maker: ModuleType) -> bytes:
    noise = helper.make_node("RandomUniformLike", ["rows"], ["noise"])
    mean = helper.make_node("ReduceMean", ["noise"], ["probability"], axes=[1])
    return maker._model([noise, mean], {}, ["batch", 3])


SMOKE: dict[str, tuple[Callable[[ModuleType], bytes], dict[str, Any], str]] = {
    "another width": (lambda m: m.logistic([1.0, 2.0]), {}, "the shape ['batch', 2]; [1, 3] is"),
    "a window where a row is due": (
        lambda m: m.recurrent(3),
        {},
        "has the shape ['batch', 20, 3]; [1, 3] is given",
    ),
    "no probability": (lambda m: m.logistic([1e30, 0, 0]), {"index": 1}, "has 1 elements; index"),
    "no such output": (lambda m: m.logistic([1, 1, 1]), {"output": "up"}, "it has no output up"),
    "NaN": (not_finite, {}, "it gives nan on ordinary values, which is no probability"),
    "another answer each time": (random_answers, {}, "it gives different answers to the same row"),
}


@pytest.mark.parametrize(("make", "model", "message"), SMOKE.values(), ids=SMOKE)
def test_a_model_that_does_not_do_as_declared_is_refused(
    bench: Bench,
    maker: ModuleType,
    make: Callable[[ModuleType], bytes],
    model: dict[str, Any],
    message: str,
) -> None:
    bench.files["lgb.onnx"] = make(maker)
    lgb = {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active"], **model}
    bench.declared["models"] = [lgb]
    bench.write()
    refusal = bench.refusal()
    assert refusal.startswith("lgb.onnx: SmokeInferenceFailed: model lgb: ")
    assert message in refusal


def test_a_model_that_is_slower_than_allowed_is_refused(bench: Bench) -> None:
    bench.declared["smoke"] = {"maxInference": "1ms"}
    # Enough work for a millisecond on any machine: twenty times 16 MB of weights for a row.
    wide, deep = 2048, 20
    nodes = [
        helper.make_node("MatMul", ["rows", "in"], ["mixed0"]),
        *(helper.make_node("MatMul", [f"mixed{n}", "mix"], [f"mixed{n + 1}"]) for n in range(deep)),
        helper.make_node("ReduceMean", [f"mixed{deep}"], ["mean"], axes=[1]),
        helper.make_node("Sigmoid", ["mean"], ["probability"]),
    ]
    weights = {
        "in": np.full((3, wide), 1e-4, np.float32),
        "mix": np.full((wide, wide), 1e-4, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opset)
    bench.files["lgb.onnx"] = model.SerializeToString()
    bench.declared["models"] = [
        {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active"]}
    ]
    bench.write()
    told = r"model lgb: a row, at the 99th percentile, took .* ms of CPU; 1ms is allowed"
    assert re.search(told, bench.refusal())


def test_a_model_that_never_ends_is_ended(
    bench: Bench, maker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalcanary_workloads.artifacts.smoke.START_SECONDS", 2.0)
    monkeypatch.setattr("signalcanary_workloads.artifacts.smoke.BUDGET_SECONDS", 0.1)
    bench.declared["smoke"] = {"maxLoad": "100ms", "maxInference": "10ms"}
    bench.files["lgb.onnx"] = endless(maker)
    bench.declared["models"] = [
        {"name": "lgb", "file": "lgb.onnx", "inputs": ["z_ofi", "z_cvd", "active"]}
    ]
    bench.write()
    assert "SmokeInferenceFailed: model lgb: it was not done after 2 s" in bench.refusal()


GATES = {
    "too few": ({"key": "n_oof", "min": 30000}, "n_oof is 24492; it must be at least 30000"),
    "too much": ({"key": "oof.auc", "max": 0.5}, "oof.auc is 0.5879; it must be at most 0.5"),
    "not there": ({"key": "oof.brier", "max": 0.3}, "it has no oof.brier"),
    "not below a number": ({"key": "n_oof.x", "min": 0}, "it has no n_oof.x"),
    "no number": ({"key": "horizon", "min": 0}, "horizon is '10s', which is no number"),
}


@pytest.mark.parametrize(("gate", "message"), GATES.values(), ids=GATES)
def test_a_gate_that_is_not_met_refuses_all(
    bench: Bench, gate: dict[str, Any], message: str
) -> None:
    bench.declared["gates"] = [{"file": "stacking_meta.json", **gate}]
    bench.write()
    assert bench.refusal() == f"stacking_meta.json: GateFailed: {message}"
    assert bench.verify().models == ()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "true"])
def test_what_is_no_finite_number_meets_no_gate(bench: Bench, number: str) -> None:
    bench.files["stacking_meta.json"] = f'{{"n_oof": {number}}}'.encode()
    bench.declared["gates"] = [{"file": "stacking_meta.json", "key": "n_oof", "min": 0}]
    bench.write()
    assert "GateFailed: n_oof is " in bench.refusal()


def test_a_manifest_that_is_not_the_declared_one_is_refused(
    bench: Bench, use_manifest: Callable[..., None]
) -> None:
    use_manifest(bench)
    path = bench.root / "models/v1/manifest.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert bench.refusal().startswith("manifest.json: ChecksumMismatch: its SHA-256 is")
    path.write_bytes(bytes(MAX_MANIFEST_BYTES + 1))
    assert "manifest.json: FormatInvalid: it has 1048577 bytes" in bench.refusal()
    path.unlink()
    assert bench.refusal().startswith("manifest.json: ArtifactMissing: ")


def test_a_manifest_must_list_what_models_need(
    bench: Bench, use_manifest: Callable[..., None]
) -> None:
    del bench.files["lstm.onnx"]
    use_manifest(bench)
    told = "manifest.json: ArtifactMissing: lstm.onnx of the model lstm is not among the files"
    assert bench.refusal().startswith(told)


MANIFESTS: dict[str, dict[str, Any]] = {
    "a path out of the folder": {"path": "../x.json"},
    "an absolute path": {"path": "/etc/passwd"},
    "a pickle": {"path": "x.pkl"},
    "an unknown format": {"format": "pickle"},
    "a file that is too big": {"size": 2**40},
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_may_say_no_more_than_a_spec(
    bench: Bench, use_manifest: Callable[..., None], change: dict[str, Any]
) -> None:
    bench.declared["models"] = []
    use_manifest(bench, files=[{**bench.listed()[0], **change}])
    assert bench.refusal().startswith("manifest.json: FormatInvalid: it is no manifest: files.0.")


def test_what_was_found_always_fits_into_what_kubernetes_keeps(bench: Bench) -> None:
    names = [f"{'long' * 30}{n}.json" for n in range(20)]
    bench.files = dict.fromkeys(names, b"{}")
    bench.declared["models"] = []
    bench.write(**dict.fromkeys(names, b"[1"))
    found = bench.verify()
    assert (len(found.refusals), found.more) == (MAX_TOLD, 20 - MAX_TOLD)
    assert {refusal.reason for refusal in found.refusals} == {Reason.CHECKSUM_MISMATCH}
    text = found.model_dump_json(by_alias=True)
    assert len(text.encode()) <= 4096
    assert Verification.model_validate_json(text) == found
