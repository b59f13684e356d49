"""Both back ends keep the same promises; the bucket is a real S3 server's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from signalcanary_workloads.store import AlreadyThere, NotFound, StorageError, Taken, open_storage
from signalcanary_workloads.store.bucket import LEASE_SECONDS, Bucket

KEY = "date=2026-05-01/symbol=BTCUSDT/kind=trade/part-1-2-0123abcd.parquet"


def test_what_was_put_is_read_listed_and_deleted(data_path: str) -> None:
    storage = open_storage(data_path)
    assert list(storage.find("")) == []
    assert storage.folders("") == []
    with pytest.raises(NotFound):
        storage.read(KEY)
    storage.put(KEY, b"one")
    storage.put(KEY, b"two")
    storage.put("manifest/symbol=BTCUSDT/0000000000.json", b"{}")
    assert storage.read(KEY) == b"two"
    assert [(item.key, item.bytes) for item in storage.find("date=2026-05-01/")] == [(KEY, 3)]
    assert {item.key for item in storage.find("")} >= {KEY}
    assert storage.folders("") == ["date=2026-05-01", "manifest"]
    assert storage.folders("date=2026-05-01/") == ["symbol=BTCUSDT"]
    assert storage.folders("nowhere/") == []
    storage.delete([KEY, "date=2026-05-01/not/there"])
    storage.delete([])
    assert list(storage.find("date=2026-05-01/")) == []


def test_an_object_is_made_only_where_there_is_none(data_path: str) -> None:
    storage = open_storage(data_path)
    storage.put_if_absent("a/b", b"first")
    with pytest.raises(AlreadyThere):
        storage.put_if_absent("a/b", b"second")
    assert storage.read("a/b") == b"first"


def test_of_many_writers_of_one_key_the_bucket_lets_one_win(s3: Any) -> None:
    storage = Bucket(s3.make_bucket(), "p")
    refused: list[int] = []

    def write(n: int) -> None:
        try:
            storage.put_if_absent("entry", str(n).encode())
        except AlreadyThere:
            refused.append(n)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {*refused, int(storage.read("entry"))} == set(range(8))
    assert len(refused) == 7


def test_a_large_part_is_one_put(s3: Any) -> None:
    storage, data = Bucket(s3.make_bucket(), ""), os.urandom(24 << 20)
    storage.put("large", data)
    assert storage.read("large") == data


def test_a_lease_is_had_by_one_and_can_be_given_on(data_path: str) -> None:
    storage = open_storage(data_path)
    lease = storage.lease("manifest/symbol=BTCUSDT/")
    lease.renew()
    with pytest.raises(Taken, match="only one may"):
        open_storage(data_path).lease("manifest/symbol=BTCUSDT/")
    storage.lease("manifest/symbol=ETHUSDT/").release()
    lease.release()
    storage.lease("manifest/symbol=BTCUSDT/").release()


HOLD = """
import sys
from signalcanary_workloads.store import open_storage
lease = open_storage(sys.argv[1]).lease("m/")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lease_of_a_killed_process_is_free_at_once(data_path: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, data_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Taken):
            open_storage(data_path).lease("m/")
        holder.kill()
    open_storage(data_path).lease("m/").release()


def owner_elsewhere(storage: Bucket, renewed_seconds: float) -> None:
    text = f'{{"token":"x","host":"elsewhere","pid":1,"renewed_seconds":{renewed_seconds}}}'
    storage.put("m/owner", text.encode())


def test_the_lease_of_a_silent_machine_ends(s3: Any) -> None:
    now = 1_000_000.0
    storage = Bucket(s3.make_bucket(), "", wall=lambda: now)
    owner_elsewhere(storage, now)
    now += LEASE_SECONDS - 1
    with pytest.raises(Taken, match="elsewhere"):
        storage.lease("m/")
    now += 1
    lease = storage.lease("m/")
    owner_elsewhere(storage, now)
    lease.renew()  # too soon to ask again
    now += LEASE_SECONDS / 3
    with pytest.raises(Taken, match="taken over"):
        lease.renew()
    lease.release()
    with pytest.raises(Taken):
        storage.lease("m/")


def test_a_renewal_whose_answer_was_lost_does_not_lose_the_lease(s3: Any) -> None:
    now = 1_000_000.0
    storage = Bucket(s3.make_bucket(), "", wall=lambda: now)
    lease = storage.lease("m/")
    # The server took a renewal of which the holder knows nothing.
    storage.put("m/owner", storage.read("m/owner") + b" ")
    now += LEASE_SECONDS
    with pytest.raises(StorageError) as caught:
        lease.renew()
    assert caught.value.reason == "retry"
    lease.renew()
    lease.release()


def test_what_s3_says_is_the_reason(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(storage: Bucket) -> tuple[str, str]:
        reasons = []
        for attempt in (lambda: storage.read("x"), lambda: storage.put("x", b"")):
            with pytest.raises(StorageError) as caught:
                attempt()
            assert type(caught.value) is StorageError
            reasons.append(caught.value.reason)
        return reasons[0], reasons[1]

    name = s3.make_bucket()
    assert refusal(Bucket("no-such-bucket", "")) == ("NoSuchBucket", "NoSuchBucket")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert refusal(Bucket(name, "")) == ("SignatureDoesNotMatch", "SignatureDoesNotMatch")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert refusal(Bucket(name, "")) == ("unreachable", "unreachable")


def test_a_bucket_without_a_name_is_refused() -> None:
    for url in ("s3://", "s3:///prefix", "s3://bucket/x?y=1"):
        with pytest.raises(ValueError, match="write s3://"):
            open_storage(url)


def test_a_volume_that_refuses_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = open_storage(str(tmp_path))
    with pytest.raises(StorageError) as caught:
        storage.put("file/below", b"")
    assert caught.value.reason in {"ENOTDIR", "EEXIST"}
