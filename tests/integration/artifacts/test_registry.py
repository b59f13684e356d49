"""Model files out of a real OCI registry: as they were declared, or not at all."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry_kit import (
    INDEX,
    LAYER,
    MANIFEST,
    PASSWORD,
    TITLE,
    USER,
    BadWay,
    RegistryServer,
    TokenServer,
    basic,
    digest_of,
    write_login,
)
from signalcanary.artifacts import Artifacts, Image, Verification
from signalcanary_workloads.artifacts.files import ArtifactFiles
from signalcanary_workloads.artifacts.registry import MAX_MANIFEST_BYTES, Registry
from signalcanary_workloads.store.errors import StorageError
from signalcanary_workloads.verify.check import verify

FILES = {"meta.json": b'{"n_oof": 24492}', "notes.text": b"tree\n" * 1000}


def declared(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {
            "path": path,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "format": path.rsplit(".", 1)[-1],
        }
        for path, data in files.items()
    ]


def artifacts(url: str, files: Mapping[str, bytes] = FILES, **changes: Any) -> Artifacts:
    image = {"url": url, "plainHttp": True, **changes.pop("image", {})}
    return Artifacts.model_validate({"image": image, "files": declared(files), **changes})


def look(url: str, logins: Path | None = None, **changes: Any) -> Verification:
    where = str(logins) if logins else None
    return verify(artifacts(url, **changes), "/nowhere", "cafe0123", 1, where)


def refusal(url: str, **changes: Any) -> str:
    """The only thing that is wrong."""
    found = look(url, **changes)
    (only,) = found.refusals
    return f"{only.file}: {only.reason}: {only.message}"


def short(url: str) -> str:
    name, _, digest = url.removeprefix("oci://").partition("@")
    return f"{name}@{digest[:19]}…"


@pytest.fixture
def front() -> Iterator[Callable[..., str]]:
    """Something before the registry that answers by a script of (status, headers, body), the last
    for ever; gives its address, and keeps the headers of what was asked in `asked`."""
    servers: list[ThreadingHTTPServer] = []

    def serve(*script: tuple[int, dict[str, str], bytes], asked: list[Any] | None = None) -> str:
        answers = list(script)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if asked is not None:
                    asked.append((self.path, dict(self.headers)))
                status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value.replace("{path}", self.path))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def at(url: str, host: str) -> str:
    """The same artifact at another address."""
    return f"oci://{host}/{url.removeprefix('oci://').partition('/')[2]}"


# --------------------------------------------------------------------------- what is in it


def test_files_that_were_pushed_are_as_declared(registry: RegistryServer) -> None:
    url = registry.push(FILES)
    gates = [{"file": "meta.json", "key": "n_oof", "min": 10000}]
    found = look(url, gates=gates)
    assert found.refusals == ()
    assert (found.files, found.total_bytes) == (2, sum(map(len, FILES.values())))
    files = ArtifactFiles("/nowhere", artifacts(url))
    assert {path: files.read_at(path) for path in FILES} == FILES


def test_names_may_lie_in_folders_and_a_manifest_may_list_them(registry: RegistryServer) -> None:
    listing = json.dumps({"files": declared(FILES)}).encode()
    pushed = {f"models/v3/{name}": data for name, data in FILES.items()}
    url = registry.push(pushed | {"models/v3/manifest.json": listing, "README.md": b"#"})
    manifest = {"path": "manifest.json", "sha256": hashlib.sha256(listing).hexdigest()}
    wire = artifacts(url).to_wire()
    del wire["files"]
    taken = Artifacts.model_validate(wire | {"path": "models/v3", "manifest": manifest})
    found = verify(taken, "/nowhere", "cafe0123", 1)
    assert (found.refusals, found.files) == ((), 2)
    assert look(url, files=pushed).refusals == (), "or be named whole"


def test_a_file_that_is_not_in_it_is_refused_with_what_is(registry: RegistryServer) -> None:
    url = registry.push(dict.fromkeys("abcdefg", b"{}"))
    told = f"x.json: ArtifactMissing: there is no such file in {short(url)}, but a, b, c, d, e and "
    assert refusal(url, files={"x.json": b"{}"}) == f"{told}2 more"


def test_a_file_that_is_another_one_is_refused_before_it_is_read(registry: RegistryServer) -> None:
    url = registry.push(FILES)
    # Nothing can be read any more but the manifest: what is said, the manifest says.
    registry.file_of(digest_of(FILES["notes.text"])).unlink()
    longer, other = FILES["notes.text"] + b"x", FILES["notes.text"][:-1] + b"x"
    told = "notes.text: ChecksumMismatch: it has 5000 bytes, and 5001 are declared"
    assert refusal(url, files={"notes.text": longer}) == told
    found = hashlib.sha256(FILES["notes.text"]).hexdigest()
    told = f"notes.text: ChecksumMismatch: its SHA-256 is {found}, and "
    assert refusal(url, files={"notes.text": other}).startswith(told)


def turned(data: bytes) -> bytes:
    return bytes((data[0] ^ 1,)) + data[1:]


ON_DISK: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one bit turned": (turned, "ChecksumMismatch: the registry gives other bytes, whose SHA-256"),
    "cut off": (
        lambda data: data[:-10],
        "ChecksumMismatch: the registry gives 15 bytes, and its manifest names 25",
    ),
    "grown": (
        lambda data: data + b"x" * 10_000_000,
        "ChecksumMismatch: the registry gives more than 25 bytes, and its manifest names 25",
    ),
}


@pytest.mark.parametrize(("change", "told"), ON_DISK.values(), ids=ON_DISK)
def test_a_layer_that_the_registry_has_spoiled_is_refused(
    registry: RegistryServer, change: Callable[[bytes], bytes], told: str, request: Any
) -> None:
    data = json.dumps({"of": request.node.callspec.id}).encode().ljust(25)
    url = registry.push({"a.json": data})
    path = registry.file_of(digest_of(data))
    path.write_bytes(change(data))
    assert refusal(url, files={"a.json": data}).startswith(f"a.json: {told}")


def test_a_layer_that_the_registry_has_lost_is_refused(registry: RegistryServer) -> None:
    data = b'{"lost": true}'
    url = registry.push({"a.json": data})
    registry.file_of(digest_of(data)).unlink()
    told = "a.json: ArtifactMissing: the image names it, but the registry has lost it: push it"
    assert refusal(url, files={"a.json": data}).startswith(told)


@pytest.mark.parametrize("repository", ["team/models", "team/nobody"])
def test_what_the_registry_does_not_know_is_refused_once(
    registry: RegistryServer, repository: str
) -> None:
    registry.push(FILES)
    url = f"oci://{registry.host}/{repository}@sha256:{'0' * 64}"
    told = f"{short(url)}: ArtifactMissing: the registry knows no such manifest: push it, or write"
    assert refusal(url).startswith(told)


def test_a_manifest_that_the_registry_has_spoiled_is_refused(registry: RegistryServer) -> None:
    url = registry.push(FILES, annotations={"of": "a manifest to be spoiled"})
    path = registry.file_of(url.partition("@")[2])
    path.write_bytes(path.read_bytes().replace(b"to be spoiled", b"TO BE SPOILED"))
    told = f"{short(url)}: ChecksumMismatch: the registry gives other bytes, whose SHA-256 is"
    assert refusal(url).startswith(told)


def layer(digest: str, size: int, **annotations: str) -> dict[str, Any]:
    given = {TITLE: annotations["title"]} if "title" in annotations else {}
    if "unpack" in annotations:
        given["io.deis.oras.content.unpack"] = annotations["unpack"]
    return {"mediaType": LAYER, "digest": digest, "size": size, "annotations": given}


def test_what_is_no_artifact_of_files_is_refused_with_how_to_make_one(
    registry: RegistryServer,
) -> None:
    one = registry.push_blob("team/models", b"one", {})
    two = registry.push_blob("team/models", b"two", {})
    begins = "FormatInvalid: "
    packed = layer(one, 3, title="models", unpack="true")
    for layers, told in (
        ([layer(one, 3), layer(two, 3)], "no layer of it bears a file's name (org.opencontainers."),
        ([packed], "it holds a packed folder: push the files themselves, as `oras push"),
        (
            [layer(one, 3, title="a"), layer(two, 3, title="a")],
            "two of its layers are called 'a': push the files themselves",
        ),
    ):
        url = registry.push({}, layers=layers)
        assert refusal(url).startswith(f"{short(url)}: {begins}{told}")
    url = registry.push({}, layers=[packed, layer(two, 3, title="two.text")])
    assert look(url, files={"two.text": b"two"}).refusals == ()


def test_an_index_of_images_is_refused(registry: RegistryServer) -> None:
    url = registry.push(FILES)
    digest = url.partition("@")[2]
    size = registry.file_of(digest).stat().st_size
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": digest, "size": size}],
    }
    url = url.replace(digest, registry.push_manifest("team/models", index, {}))
    told = f"{short(url)}: FormatInvalid: it is an index of images: write the digest of one that"
    assert refusal(url).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[1]", "FormatInvalid: it is no manifest of an image: "),
        (b"{", "FormatInvalid: it is no manifest of an image: "),
        (b'{"layers": [{"digest": "sha512:ab", "size": 1}]}', "FormatInvalid: no layer of it"),
        (
            json.dumps({"layers": [layer("sha512:ab", 1, title="a")]}).encode(),
            "FormatInvalid: the digest of 'a' is no SHA-256: push it with one",
        ),
        (
            b"[" * (MAX_MANIFEST_BYTES + 1),
            "ChecksumMismatch: the registry gives more than 4194304 bytes",
        ),
    ],
    ids=["a list", "half a document", "no names", "another digest", "without end"],
)
def test_what_no_registry_should_give_is_refused(
    text: bytes, told: str, front: Callable[..., str]
) -> None:
    url = f"oci://{front((200, {}, text))}/team/models@{digest_of(text)}"
    assert refusal(url).startswith(f"{short(url)}: {told}")


# --------------------------------------------------------------------------- who may


def trouble(url: str, **changes: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        look(url, **changes)
    return caught.value


def test_a_login_of_the_secret_is_used(with_password: RegistryServer, tmp_path: Path) -> None:
    url = with_password.push(FILES, headers=basic(USER, PASSWORD))
    write_login(tmp_path / "robot-login", with_password.host)
    named = {"secretName": "robot-login"}
    assert look(url, logins=tmp_path, image=named).refusals == ()


def test_without_a_login_it_is_said_which_one_is_missing(
    with_password: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = with_password.push(FILES, headers=basic(USER, PASSWORD))
    host = with_password.host
    write_login(tmp_path / "elsewhere", "ghcr.io")
    write_login(tmp_path / "wrong", host, password="secret-of-a-person")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/.dockerconfigjson").write_text("ghcr.io: robot")
    asks = f"the registry {host}: it asks for a login, and "
    for secret, told in (
        (None, f"{asks}no Secret is named: name a Secret with one in image.secretName"),
        ("gone", f"{asks}the Secret gone is not there, or lacks .dockerconfigjson: name"),
        ("elsewhere", f"{asks}the Secret elsewhere has no login for {host}: name"),
        ("wrong", f"the registry {host}: it refuses the login of the Secret wrong (authentic"),
        ("odd", "the Secret odd: it is no Docker config.json: "),
    ):
        image = {"secretName": secret} if secret else {}
        found = trouble(url, logins=tmp_path, image=image)
        assert str(found).startswith(told), found
        assert "secret-of-a-person" not in str(found)
        assert found.reason == ("bad_login" if secret == "odd" else "unauthorized")


def test_without_a_cluster_the_login_is_dockers(
    with_password: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = with_password.push(FILES, headers=basic(USER, PASSWORD))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert "config.json is not there: name" in str(trouble(url))
    write_login(tmp_path, with_password.host)
    (tmp_path / ".dockerconfigjson").rename(tmp_path / "config.json")
    assert look(url, image={"secretName": "is-of-the-cluster"}).refusals == ()


def test_a_token_is_fetched_where_the_registry_sends_for_one(
    with_tokens: RegistryServer, tokens: TokenServer, tmp_path: Path
) -> None:
    pushed = {"Authorization": f"Bearer {tokens.sign('repository:team/models:push,pull')}"}
    url = with_tokens.push(FILES, headers=pushed)
    write_login(tmp_path / "robot", with_tokens.host)
    write_login(tmp_path / "wrong", with_tokens.host, password="x")
    tokens.asked.clear()
    assert look(url, logins=tmp_path, image={"secretName": "robot"}).refusals == ()
    scope = {"service": ["registry"], "scope": ["repository:team/models:pull"]}
    assert tokens.asked == [scope], "one for all files"
    found = str(trouble(url, logins=tmp_path, image={"secretName": "wrong"}))
    assert "it refuses the login of the Secret wrong (incorrect password): put that" in found
    found = str(trouble(url))
    assert "it asks for a login (incorrect password), and " in found


def test_a_registry_with_tls_is_known_by_the_authority_in_the_secret(
    with_tls: RegistryServer, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    url = with_tls.push(FILES)
    tls = {"plainHttp": False, "secretName": "authority"}
    (tmp_path / "authority").mkdir()
    found = trouble(url, logins=tmp_path, image=tls)
    assert found.reason == "tls"
    assert "the certificate of an authority of your own goes into the key ca.crt" in str(found)
    (tmp_path / "authority/ca.crt").write_bytes(certificate[1].read_bytes())
    assert look(url, logins=tmp_path, image=tls).refusals == ()
    (tmp_path / "authority/ca.crt").write_bytes(b"no certificate")
    assert trouble(url, logins=tmp_path, image=tls).reason == "bad_login"


def test_without_tls_nothing_is_asked_unless_that_is_wanted(registry: RegistryServer) -> None:
    found = trouble(registry.push(FILES), image={"plainHttp": False})
    assert (found.reason, "without TLS it needs plainHttp: true" in str(found)) == ("tls", True)


# --------------------------------------------------------------------------- on the way


def test_a_registry_that_is_down_says_nothing_of_the_files(
    start: Callable[..., RegistryServer],
) -> None:
    server = start()
    url = server.push(FILES)
    files = ArtifactFiles("/nowhere", artifacts(url))
    assert files.read_at("meta.json") == FILES["meta.json"]
    server.stop()
    with pytest.raises(StorageError, match="it cannot be reached") as caught:
        files.read_at("notes.text")
    assert caught.value.reason == "unreachable"
    server.start()
    assert files.read_at("notes.text") == FILES["notes.text"]
    server.stop()


def test_a_stream_that_breaks_off_is_tried_again_and_never_taken(registry: RegistryServer) -> None:
    big = bytes(range(256)) * 4096
    url = registry.push({"big.text": big})
    way = BadWay(registry.port, None)
    taken = Registry(Image(url=at(url, f"127.0.0.1:{way.port}"), plain_http=True), None)
    taken.read_manifest()
    digest = digest_of(big)
    try:
        way.lets_through = [len(big) // 2, 0, None]
        fresh = Registry(Image(url=at(url, f"127.0.0.1:{way.port}"), plain_http=True), None)
        way.connections = 0
        assert fresh.read_blob(digest, len(big)) == big
        assert way.connections == 3
        way.lets_through = [len(big) // 2]
        fresh = Registry(Image(url=at(url, f"127.0.0.1:{way.port}"), plain_http=True), None)
        with pytest.raises(StorageError, match="it cannot be reached") as caught:
            fresh.read_blob(digest, len(big))
        assert caught.value.reason == "unreachable"
    finally:
        way.stop()


def test_an_ill_registry_is_tried_again(
    registry: RegistryServer, front: Callable[..., str]
) -> None:
    url = registry.push(FILES)
    there = (307, {"Location": f"http://{registry.host}{{path}}"}, b"")
    ill = (503, {}, b'{"errors": [{"code": "UNAVAILABLE", "message": "being moved"}]}')
    assert look(at(url, front(ill, (429, {}, b""), there))).refusals == ()
    found = trouble(at(url, front(ill)))
    assert found.reason == "http_503"
    assert str(found).endswith("it answers 503 (being moved)")


def test_what_is_no_registry_says_nothing_of_the_files(front: Callable[..., str]) -> None:
    url = f"oci://{front((404, {}, b'default backend - 404'))}/team/models@sha256:{'0' * 64}"
    found = trouble(url)
    assert found.reason == "http_404"
    assert "but not as a registry does: is this its address?" in str(found)


def test_a_login_does_not_go_on_to_where_the_registry_sends_its_readers(
    with_password: RegistryServer, front: Callable[..., str], tmp_path: Path
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    text = b"{}"
    behind = front((200, {}, text), asked=asked)
    challenge = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    before = front(challenge, (307, {"Location": f"http://{behind}/signed"}, b""))
    url = f"oci://{before}/team/models@{digest_of(text)}"
    write_login(tmp_path / "robot", before)
    assert "no layer of it bears a file" in refusal(
        url, logins=tmp_path, image={"secretName": "robot"}
    )
    ((path, headers),) = asked
    assert (path, "Authorization" in headers) == ("/signed", False)


def test_who_is_sent_on_to_learns_no_login_by_asking_for_one(
    front: Callable[..., str], tmp_path: Path
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    thief = front((200, {}, b'{"token": "x"}'), asked=asked)
    bearer = f'Bearer realm="http://{thief}/token",service="x"'
    behind = front((401, {"WWW-Authenticate": bearer}, b""))
    before = front((307, {"Location": f"http://{behind}/signed"}, b""))
    write_login(tmp_path / "robot", before)
    url = f"oci://{before}/team/models@sha256:{'0' * 64}"
    found = trouble(url, logins=tmp_path, image={"secretName": "robot"})
    assert found.reason == "http_401"
    assert f"{behind}, where it sends its readers on to, answers 401" in str(found)
    assert asked == []


def test_what_a_registry_says_of_a_password_is_not_shown(
    front: Callable[..., str], tmp_path: Path
) -> None:
    said = {"code": "DENIED", "message": f"{'x' * 150} {PASSWORD} is no password of ours"}
    ask = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    host = front(ask, (403, {}, json.dumps({"errors": [said]}).encode()))
    write_login(tmp_path / "robot", host)
    url = f"oci://{host}/team/models@sha256:{'0' * 64}"
    found = str(trouble(url, logins=tmp_path, image={"secretName": "robot"}))
    assert f"it refuses the login of the Secret robot ({'x' * 150} … is no p): put that" in found


def test_a_registry_may_not_send_on_for_ever(front: Callable[..., str]) -> None:
    host = front((307, {"Location": "/again"}, b""))
    found = trouble(f"oci://{host}/team/models@sha256:{'0' * 64}")
    assert (found.reason, "more than 5 times" in str(found)) == ("bad_answer", True)


def test_one_that_answers_drop_by_drop_is_given_up() -> None:
    """By a clock that runs a second a look: 60 s for a byte at a time of 1 MiB."""
    text = b"x" * 2**20
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n")
                    try:
                        while True:
                            connection.sendall(b"x")
                            time.sleep(0.002)
                    except OSError:
                        pass

        threading.Thread(target=drip, daemon=True).start()
        ticks = iter(range(10**6))
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        image = Image(url=f"oci://{host}/a/b@{digest_of(text)}", plain_http=True)
        slow = Registry(image, None, monotonic=lambda: float(next(ticks)), sleep=lambda _: None)
        with pytest.raises(StorageError, match="it answers too slowly") as caught:
            slow.read_blob(digest_of(text), len(text))
        assert caught.value.reason == "timeout"


# --------------------------------------------------------------------------- the process


def run_verify(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    config = {
        **{"namespace": "default", "name": "demo", "track": "canary", "revision": "cafe0123"},
        **{"fingerprint": "ab", "version": "v1", "shards": [["BTCUSDT"]], "attempt": 3},
        "signal": {"artifacts": artifacts(url).to_wire()},
        **{"source": {}, "dataPath": "/nowhere", "artifactsRoot": "/nowhere"},
        "commitInterval": "1s",
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "signalcanary_workloads", "verify"]
    options = ["--config", str(folder / "config.json"), "--result", str(folder / "result.json")]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_the_verifying_process_ends_as_it_does_for_a_bucket(
    registry: RegistryServer, tmp_path: Path
) -> None:
    url = registry.push(FILES)
    done = run_verify(tmp_path, url)
    assert (done.returncode, done.stderr) == (0, "")
    found = Verification.model_validate_json((tmp_path / "result.json").read_text())
    assert (found.files, found.refusals, found.attempt) == (2, (), 3)
    (tmp_path / "result.json").unlink()
    done = run_verify(tmp_path, at(url, "127.0.0.1:1"))
    assert done.returncode == 1
    assert done.stderr.startswith("verify: the registry 127.0.0.1:1: it cannot be reached")
    assert not (tmp_path / "result.json").exists(), "nothing is said of the files"
