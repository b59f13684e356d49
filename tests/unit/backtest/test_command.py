"""The verb as people call it: options, files, a server on loopback, pictures, exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from signalcanary.api import SignalCanarySpec
from signalcanary.backtest import RecordingError, run, target_of
from signalcanary.backtest.command import read_time
from signalcanary.backtest.fetch import MOST_POINTS, pieces
from signalcanary.backtest.picture import MOST_ROWS, draw
from signalcanary.cli import main
from signalcanary.contract import EVIDENCE_TIMESTAMP, HEARTBEAT

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
STEP = timedelta(seconds=10)
SPEC: dict[str, Any] = {
    "version": "v2",
    "symbols": {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]},
    "stages": [{"name": "canary", "duration": "10m"}],
    "rollback": {
        "conditions": [{"metric": "platt_ece", "above": 0.1, "for": "2m", "mode": "literal"}]
    },
}
REVISION = target_of(SignalCanarySpec.model_validate(SPEC), "trading", "demo").revision


def manifest_of(folder: Path, **spec: Any) -> str:
    path = folder / "manifest.yaml"
    metadata = {"name": "demo", "namespace": "trading"}
    document = {"apiVersion": "signalcanary.dev/v1alpha1", "kind": "SignalCanary"}
    path.write_text(yaml.safe_dump(document | {"metadata": metadata, "spec": SPEC | spec}))
    return str(path)


def table_of(folder: Path, bad_from: int = 1_000, name: str = "t.csv") -> str:
    rows = ["time,metric,symbol,value,samples"]
    for n in range(70):
        value = 0.2 if n >= bad_from else 0.05
        rows.append(f"{(START + STEP * n).isoformat()},platt_ece,BTCUSDT,{value},1800")
    (folder / name).write_text("\n".join(rows) + "\n")
    return str(folder / name)


@pytest.mark.parametrize(
    ("bad_from", "options", "code"),
    [
        (1_000, [], 0),
        (1_000, ["--fail-on-rollback"], 0),
        (20, [], 0),
        (20, ["--fail-on-rollback"], 1),
    ],
)
def test_the_exit_code_says_what_a_script_asks(
    bad_from: int, options: list[str], code: int, tmp_path: Path
) -> None:
    data = table_of(tmp_path, bad_from)
    assert main(["backtest", manifest_of(tmp_path), "--data", data, *options]) == code


def test_the_output_is_a_story_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["backtest", manifest_of(tmp_path), "--data", table_of(tmp_path, 20)]
    assert main(arguments) == 0
    assert "ROLLED BACK after 5m30s" in capsys.readouterr().out
    assert main([*arguments, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "RolledBack"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "no data: give --data FILE, or --prometheus URL --start TIME"),
        (["--data", "none.csv"], "none.csv: No such file or directory"),
        (["--data", "manifest.yaml"], "manifest.yaml: line 1: this is not JSON"),
        (["--data", "t.csv", "--export", "e.json"], "--export writes what a server says"),
        (["--prometheus", "http://127.0.0.1:1"], "a server needs --start TIME"),
        (["--data", "t.csv", "--source", "mimir"], "give --sources FILE too"),
        (["--sources", "none.yaml", "--start", "now-1h"], "none.yaml cannot be read"),
        (
            ["--prometheus", "http://127.0.0.1:1", "--start", "soon"],
            "'soon' is no time: write 2026-05-01T08:00:00Z, Unix seconds, now or now-48h",
        ),
        (["--prometheus", "http://127.0.0.1:1", "--start", "now"], "is not before --end"),
        (["--prometheus", "http://127.0.0.1:1", "--start", "now-1h"], "http://127.0.0.1:1: "),
        # Told before anything is read.
        (["--data", "none.csv", "--plot", "p.gif"], "a picture is .svg, .png, .pdf"),
        (["--data", "t.csv", "--name", "other"], "it holds demo: choose by --name"),
    ],
)
def test_wrong_input_ends_in_a_sentence(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table_of(tmp_path)
    file = manifest_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["backtest", file, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("signalcanary backtest: ")
    assert complaint in error


def test_a_manifest_with_problems_is_refused_as_lint_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = manifest_of(tmp_path, stages=[])
    assert main(["backtest", file, "--data", table_of(tmp_path)]) == 2
    assert f"{file}:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", START),
        ("now-48h", START - timedelta(hours=48)),
        ("2026-04-30T10:00:00+02:00", START - timedelta(hours=24)),
        ("2026-05-01", START - timedelta(hours=8)),
        ("1777622400", START),
    ],
)
def test_a_time_is_written_as_people_write_it(text: str, time: datetime) -> None:
    assert read_time(text, START) == time


# ------------------------------------------------------------------ a server


class Server(ThreadingHTTPServer):
    """Answers query_range for one canary; notes what it was asked."""

    asked: list[dict[str, str]]
    status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        assert parts.path == "/api/v1/query_range"
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.asked.append(query)
        body = json.dumps(self.answer(query)).encode()
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, query: dict[str, str]) -> Any:
        if self.server.status != 200:
            return {"status": "error", "error": "too many points"}
        name = query["query"].partition("{")[0]
        labels = {
            "__name__": name,
            "namespace": "trading",
            "signalcanary": "demo",
            "track": "canary",
            "revision": REVISION,
            "symbol": "BTCUSDT",
        }
        result = []
        if name in ("platt_ece", EVIDENCE_TIMESTAMP, HEARTBEAT):
            labels |= {"metric": "platt_ece"} if name == EVIDENCE_TIMESTAMP else {}
            at, values = float(query["start"]), []
            while at <= float(query["end"]):
                values.append([at, "0.05" if name == "platt_ece" else str(at)])
                at += float(query["step"])
            result = [{"metric": labels, "values": values}]
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


RANGE = ["--start", "2026-05-01T08:00:00Z", "--end", "2026-05-01T08:15:00Z"]


def test_a_range_of_a_server_is_judged_at_once_or_from_its_export(
    prometheus: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{prometheus.server_port}"
    file, exported = manifest_of(tmp_path), str(tmp_path / "e.json.gz")
    assert main(["backtest", file, "--prometheus", url, *RANGE]) == 0
    at_once = capsys.readouterr().out
    assert "PROMOTED after 10m20s" in at_once
    asked = {q["query"].partition("{")[0] for q in prometheus.asked}
    assert {"platt_ece", EVIDENCE_TIMESTAMP, HEARTBEAT} <= asked
    assert all('signalcanary=~"demo"' in q["query"] for q in prometheus.asked)
    assert main(["backtest", file, "--prometheus", url, *RANGE, "--export", exported]) == 0
    capsys.readouterr()
    assert main(["backtest", file, "--data", exported]) == 0
    assert capsys.readouterr().out == at_once


def test_what_a_server_refuses_is_said(
    prometheus: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prometheus.status = 422
    url = f"http://127.0.0.1:{prometheus.server_port}"
    assert main(["backtest", manifest_of(tmp_path), "--prometheus", url, *RANGE]) == 2
    assert f"BadResponse: {url}: HTTP 422: too many points" in capsys.readouterr().err


def test_a_password_in_an_address_is_refused_and_not_repeated(
    prometheus: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://user:secret@127.0.0.1:{prometheus.server_port}"
    assert main(["backtest", manifest_of(tmp_path), "--prometheus", url, *RANGE]) == 2
    error = capsys.readouterr().err
    assert "write it without user and password, and these in files, in basicAuth" in error
    assert "secret" not in error
    assert prometheus.asked == []


def test_a_long_range_is_asked_for_in_pieces_on_one_grid() -> None:
    last = START + STEP * (2 * MOST_POINTS + 5)
    parts = list(pieces(START, last, STEP))
    assert parts[0][0] == START
    assert parts[-1][1] == last
    for (_, end), (start, _) in pairwise(parts):
        assert start - end == STEP
    assert all((end - start) / STEP < MOST_POINTS for start, end in parts)


# ------------------------------------------------------------------ pictures


def table(symbols: int = 1) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    names = [f"S{n}USDT" for n in range(symbols)]
    rows = [
        (START + STEP * n, "slice_auc_active_period", s, 0.58 if n < 30 else 0.5, 900, 0.05)
        + ((0.5, 0.7, 0.52, 0.62) if n < 30 else (0.4, 0.54, 0.48, None))
        for n in range(60)
        for s in names
    ]
    header = "time metric symbol value samples level lower upper whole_lower whole_upper"
    spec = SPEC | {
        "symbols": {"canary": names, "full": names},
        "rollback": {"conditions": [{"metric": "slice_auc_active_period", "below": 0.55}]},
    }
    columns = zip(*rows, strict=True)
    return spec, {n: list(c) for n, c in zip(header.split(), columns, strict=True)}


@pytest.mark.parametrize(
    ("name", "begins"), [("p.svg", b"<?xml"), ("p.png", b"\x89PNG"), ("p.pdf", b"%PDF")]
)
def test_a_replay_is_drawn_the_same_each_time(name: str, begins: bytes, tmp_path: Path) -> None:
    replay = run(*table())
    draw(replay, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(begins)
    draw(replay, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_a_picture_says_what_happened_in_words(tmp_path: Path) -> None:
    draw(run(*table()), tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    for words in (
        "v2: rolled back after 5m10s",
        "slice_auc_active_period (ratio)",
        "rolls back if the orange bound is below 0.55",
        "rolled back 08:05:00",
        "canary",
        "breached",
        "a rollback needs it beyond",
        "2026-05-01",
    ):
        assert words in text


def test_a_picture_of_several_days_says_on_which_day_it_ended(tmp_path: Path) -> None:
    replay = run(*table())
    replay = replace(replay, started=replay.started - timedelta(days=2))
    draw(replay, tmp_path / "p.svg")
    assert "rolled back 05-01 08:05:00" in (tmp_path / "p.svg").read_text()


def test_a_picture_of_many_symbols_shows_those_that_matter(tmp_path: Path) -> None:
    draw(run(*table(symbols=MOST_ROWS + 3)), tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_text().count("(ratio)") == MOST_ROWS


def test_nothing_judged_is_nothing_to_draw(tmp_path: Path) -> None:
    replay = run(*table())
    replay.curves.clear()
    with pytest.raises(RecordingError, match="ever judged"):
        draw(replay, tmp_path / "p.svg")
