"""Reports become files, in a real folder and a real bucket, and hold nothing up."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, S3Store

sys.path.insert(0, str(Path(__file__).parent))

from edges_kit import START, World

from signalcanary.cluster import ClusterError, Refused
from signalcanary.metrics_source import SourceTimeout
from signalcanary.report import (
    ENDED,
    HTML_FILE,
    JSON_FILE,
    LABEL_REPORT,
    MARKDOWN_FILE,
    REPORT_URL,
    Report,
)
from signalcanary.report_files import FilesSettings, ReportFiles
from signalcanary.report_writer import Limits
from signalcanary.reports import LIMIT
from signalcanary.store import Kind


@pytest.fixture
def root(data_path: str) -> str:
    """Where the reports are to go: a folder that is there, then a bucket's prefix."""
    if data_path.startswith("/"):
        Path(data_path).mkdir()
    return data_path


@pytest.fixture
def world(root: str) -> World:
    return World(files=ReportFiles(FilesSettings(root)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def on_volume(folder: Path) -> World:
    return World(files=ReportFiles(FilesSettings(str(folder))))


def written(root: str) -> dict[str, str]:
    """All files below a root, by their keys, in order."""
    if root.startswith("s3://"):
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        endpoint, plain = os.environ["AWS_ENDPOINT_URL"], {"allow_http": True}
        store: Any = S3Store(bucket, prefix=prefix, client_options=plain, endpoint=endpoint)
    else:
        store = LocalStore(root)
    keys = sorted(item["path"] for page in obstore.list(store) for item in page)
    return {key: obstore.get(store, key).bytes().to_bytes().decode() for key in keys}


def config_maps(world: World) -> list[dict[str, Any]]:
    return [
        item
        for (kind, _), item in world.cluster.objects.items()
        if kind is Kind.CONFIG_MAP and LABEL_REPORT in (item["metadata"].get("labels") or {})
    ]


def pending(world: World) -> float:
    return world.counted("reports_pending")


def failed(world: World, reason: str) -> float:
    return world.counted("report_write_failures_total", reason=reason)


def create(world: World, version: str = "v1") -> None:
    """With a stage that is soon over."""
    world.create(version=version, stages=[{"name": "canary", "duration": "2m"}])


async def roll_back(world: World, version: str) -> None:
    create(world, version)
    await world.settle()
    world.source.values["platt_ece"] = 0.5
    await world.rounds(20, 10.0)
    await world.settle()
    assert world.phase() == "RolledBack"
    world.source.values["platt_ece"] = 0.05


class _References(HTMLParser):
    """All that a page would fetch, or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "embed", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "background"):
                self.found.append(f"{name}={value}")
            if name.startswith("on") or "url(" in (value or ""):
                self.found.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style" and ("url(" in data or "@import" in data):
            self.found.append(data)


async def test_each_end_becomes_three_files_whose_names_sort_by_time(
    world: World, root: str
) -> None:
    create(world)
    await world.promote()
    await roll_back(world, "v2")
    await world.write()
    files = written(root)
    reports = {c["metadata"]["name"]: c["data"] for c in config_maps(world)}
    folders = sorted({key.rpartition("/")[0] for key in files})
    assert len(folders) == 2
    assert len(files) == 6
    for where, outcome in zip(folders, ("Promoted", "RolledBack"), strict=True):
        report = Report.model_validate_json(files[f"{where}/{JSON_FILE}"])
        canary, ended = report.canary, report.ended
        assert ended is not None
        stamp = f"{ended:%Y%m%dT%H%M%SZ}"
        assert where == f"default/demo/{stamp}-{canary.name}-{canary.attempt}-{outcome}"
        kept = reports[f"demo-report-{canary.name}-{canary.attempt}"]
        assert files[f"{where}/{JSON_FILE}"] == kept[JSON_FILE]
        assert files[f"{where}/{MARKDOWN_FILE}"] == kept[MARKDOWN_FILE]
        assert report.canary.version in files[f"{where}/{HTML_FILE}"]
    assert (pending(world), world.counted("reports_written_total")) == (0, 2)


async def test_a_page_opens_without_a_network(on_volume: World, folder: Path) -> None:
    on_volume.source.history = curve
    create(on_volume)
    await on_volume.promote()
    await on_volume.write()
    (page,) = (text for key, text in written(str(folder)).items() if key.endswith(HTML_FILE))
    assert _References(page).found == []
    assert "<svg" in page
    assert "<!doctype html>" in page
    assert _References('<img src="x"><style>@import "y"</style>').found  # it would see them


async def test_status_links_the_last_report_once_it_is_there(world: World, root: str) -> None:
    create(world)
    await world.promote()
    (kept,) = config_maps(world)
    link = {"time": link_time(kept), "configMap": kept["metadata"]["name"]}
    await world.rounds(2, 31.0)
    assert world.status()["report"] == link
    await world.write()
    assert world.store.wakeup.is_set(), "it is looked at again at once"
    await world.rounds(1)
    (key,) = (key for key in written(root) if key.endswith(HTML_FILE))
    assert world.status()["report"] == {**link, "url": f"{root}/{key}"}
    assert config_maps(world)[0]["metadata"]["annotations"][REPORT_URL] == f"{root}/{key}"
    world.cluster.calls.clear()
    await world.rounds(20, 31.0)
    assert world.cluster.calls == [], "at rest nothing is written"
    create(world, "v2")
    await world.settle()
    assert world.status()["report"]["url"] == f"{root}/{key}", "until the next one has ended"


def link_time(config_map: dict[str, Any]) -> str:
    ended = Report.model_validate_json(config_map["data"][JSON_FILE]).ended
    assert ended is not None
    return f"{ended:%Y-%m-%dT%H:%M:%S}.000Z"


async def test_what_is_pending_at_a_kill_is_written_by_the_next_process(
    world: World, root: str
) -> None:
    create(world)
    await world.promote()
    await roll_back(world, "v2")
    assert written(root) == {}
    world.restart()
    await world.poller.resync()
    await world.write()
    assert len(written(root)) == 6
    await world.rounds(1, 31.0)
    newest = [key for key in written(root) if key.endswith(HTML_FILE)][-1]
    assert world.status()["report"]["url"] == f"{root}/{newest}"


async def test_a_decision_whose_report_nobody_could_make_for_hours_is_in_the_record(
    world: World, root: str
) -> None:
    def away(call: str) -> None:
        if "-report-" in call:
            raise ClusterError("away")

    world.cluster.before = away
    create(world)
    await world.promote()
    assert config_maps(world) == []
    world.restart()  # killed, and down for a night
    world.cluster.before = lambda call: None
    world.seconds += 12 * 3600
    await world.poller.resync()
    await world.rounds(1, 31.0)
    await world.write()
    assert len(written(root)) == 3


async def test_a_kill_before_it_is_noted_changes_no_byte_and_loses_no_link(
    world: World, root: str
) -> None:
    def away(call: str) -> None:
        if call.startswith("annotate ConfigMap"):
            raise ClusterError("away")

    world.cluster.before = away
    create(world)
    await world.promote()
    await world.write()
    first = written(root)
    assert len(first) == 3
    assert pending(world) == 1
    world.restart()
    world.cluster.before = lambda call: None
    world.source.history = curve  # by now there would be more to show
    await world.poller.resync()
    await world.write()
    assert written(root) == first
    await world.rounds(1, 31.0)
    assert "url" in world.status()["report"]
    # And killed after it was noted, but before status had it.
    world.edit_status(report=None)
    world.restart()
    await world.poller.resync()
    await world.write()
    await world.rounds(1, 31.0)
    assert "url" in world.status()["report"]
    assert world.counted("reports_written_total") == 0, "nothing was to be done"


@contextmanager
def no_rights(folder: Path) -> Iterator[None]:
    """The folder cannot be written to; root can write anywhere, so it is somebody else."""
    folder.chmod(0o555)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


async def test_a_volume_that_refuses_keeps_no_decision_from_being_made(
    on_volume: World, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = on_volume
    with no_rights(folder):
        create(world)
        await world.promote()
        await world.write()
        await world.write()  # its pause is not over
        assert world.phase() == "Succeeded"
        assert (pending(world), failed(world, "EACCES")) == (1, 1)
        (line,) = [r.getMessage() for r in caplog.records if "not written" in r.getMessage()]
        assert line.startswith("default/demo: the report demo-report-")
        assert "FilesRefused" in line
        assert "tried again in" in line
    world.seconds += 300
    await world.write()
    assert len(written(str(folder))) == 3
    assert pending(world) == 0


async def test_a_volume_that_comes_later_gets_what_has_waited(folder: Path) -> None:
    late = folder / "mounted"
    world = World(files=ReportFiles(FilesSettings(str(late))))
    create(world)
    await world.promote()
    await world.write()
    assert failed(world, "ENOENT") == 1
    late.mkdir()
    world.seconds += 300
    await world.write()
    assert len(written(str(late))) == 3


async def test_a_report_that_alone_is_refused_is_in_nobody_s_way(
    on_volume: World, folder: Path
) -> None:
    (folder / "default").mkdir()
    (folder / "default/demo").touch()  # where its folder is to be
    for name in ("demo", "other"):
        on_volume.create(name, stages=[{"name": "canary", "duration": "2m"}])
        await on_volume.promote(name)
    for _ in range(2):
        await on_volume.write()
        on_volume.seconds += 300
    assert pending(on_volume) == 1
    assert failed(on_volume, "ENOTDIR") > 0
    assert len(written(str(folder / "default/other"))) == 3
    (folder / "default/demo").unlink()
    await on_volume.write()
    assert pending(on_volume) == 0


async def test_a_server_that_is_away_gets_the_report_when_it_is_back(s3: Any) -> None:
    root = f"s3://{s3.make_bucket()}"
    world = World(files=ReportFiles(FilesSettings(root)))
    s3.stop()
    create(world)
    await world.promote()
    assert world.phase() == "Succeeded"
    await world.write()
    assert (pending(world), failed(world, "unreachable")) == (1, 1)
    s3.start()
    world.seconds += 300
    await world.write()
    assert len(written(root)) == 3
    assert (pending(world), world.counted("reports_written_total")) == (0, 1)


async def test_keys_are_read_at_each_attempt_and_a_bucket_says_why_it_refuses(
    s3: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    keys = {name: os.environ[name] for name in keys}
    root, secret = f"s3://{s3.make_bucket()}/audit", "not-the-secret-at-all"
    settings = FilesSettings(root, s3.url, "us-east-1", folder)
    (folder / "AWS_REGION").write_text("eu-nowhere-1")  # what the chart says goes before it
    world = World(files=ReportFiles(settings))
    create(world)
    await world.promote()
    await world.write()
    assert failed(world, "credentials") == 1
    (folder / "AWS_ACCESS_KEY_ID").write_text(keys["AWS_ACCESS_KEY_ID"] + "\n")
    (folder / "AWS_SECRET_ACCESS_KEY").write_text(secret)
    world.seconds += 300
    await world.write()
    assert failed(world, "SignatureDoesNotMatch") == 1
    assert secret not in caplog.text
    (folder / "AWS_SECRET_ACCESS_KEY").write_text(keys["AWS_SECRET_ACCESS_KEY"])
    world.seconds += 300
    await world.write()
    assert pending(world) == 0
    assert len(written(root)) == 3


async def test_a_browser_is_told_what_a_file_in_a_bucket_is(s3: Any) -> None:
    files = ReportFiles(FilesSettings(f"s3://{s3.make_bucket()}/p"))
    assert await files.put_once("a/report.html", b"x", "text/html; charset=utf-8")
    assert not await files.put_once("a/report.html", b"y", "text/html; charset=utf-8")
    found = obstore.get(await files._bucket(), "a/report.html")
    assert found.attributes["Content-Type"] == "text/html; charset=utf-8"
    assert found.bytes().to_bytes() == b"x"


async def test_a_storage_that_hangs_holds_nothing_up() -> None:
    class Hangs:
        def url(self, key: str) -> str:
            return f"/nowhere/{key}"

        async def put_once(self, key: str, data: bytes, content_type: str) -> bool:
            await asyncio.Event().wait()
            return True

    world = World(files=Hangs())
    assert world.writer is not None
    task = asyncio.create_task(world.writer.run())
    try:
        create(world)
        await world.promote()
        assert pending(world) == 1
        await roll_back(world, "v2")
        assert pending(world) == 2
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_object_that_is_deleted_meanwhile_takes_no_report_along(
    on_volume: World, folder: Path
) -> None:
    create(on_volume)
    await on_volume.promote()
    on_volume.cluster.drop(Kind.SIGNAL_CANARY, "demo")
    for item in config_maps(on_volume):
        on_volume.cluster.drop(Kind.CONFIG_MAP, item["metadata"]["name"])
    await on_volume.rounds(2)
    await on_volume.write()
    files = written(str(folder))
    assert len(files) == 3
    assert pending(on_volume) == 0
    (page,) = (text for key, text in files.items() if key.endswith(HTML_FILE))
    assert "not drawn: the SignalCanary is gone" in page


async def test_a_config_map_that_is_refused_does_not_keep_the_files_from_being_written(
    on_volume: World, folder: Path
) -> None:
    def refuse(call: str) -> None:
        if call.startswith("apply ConfigMap") and "-report-" in call:
            raise Refused("over quota")

    on_volume.cluster.before = refuse
    create(on_volume)
    await on_volume.promote()
    await on_volume.write()
    assert len(written(str(folder))) == 3


def test_the_root_is_a_path_or_a_bucket() -> None:
    from signalcanary.report_files import check_root

    assert check_root("s3://bucket/audit/") == "s3://bucket/audit"
    assert check_root("/reports") == "/reports"
    for wrong in ("reports", "s3://", "s3://b", "s3://bucket/a b", "https://bucket"):
        with pytest.raises(ValueError, match="write "):
            check_root(wrong)


# --------------------------------------------------------------------------- forgers, crowds


def keep_another(world: World, name: str, kept: dict[str, Any], report: Report) -> None:
    """A ConfigMap as anybody may make it, with a report that was not written yet."""
    metadata = {key: kept["metadata"][key] for key in ("labels", "ownerReferences")}
    metadata["annotations"] = {ENDED: kept["metadata"]["annotations"][ENDED]}
    data = {JSON_FILE: report.model_dump_json(by_alias=True, exclude_none=True)}
    world.cluster.put(Kind.CONFIG_MAP, name, metadata=metadata, data=data)


async def test_a_forged_report_is_not_written_outside_its_namespace_and_name(
    on_volume: World, folder: Path
) -> None:
    world = on_volume
    create(world)
    await world.promote()
    await world.write()
    before = written(str(folder))
    (kept,) = config_maps(world)
    report = Report.model_validate_json(kept["data"][JSON_FILE])
    for changes in ({"namespace": "other"}, {"name": "other"}, {"namespace": "../../x"}):
        keep_another(world, kept["metadata"]["name"], kept, report.model_copy(update=changes))
        world.restart()
        await world.write()
        assert failed(world, "Unreadable") == 1
        assert written(str(folder)) == before


async def test_more_than_fit_in_memory_are_found_again(on_volume: World, folder: Path) -> None:
    world, room, count = on_volume, 6, 15
    world.limits = Limits(pending=room)
    create(world)
    await world.promote()
    (kept,) = config_maps(world)
    report = Report.model_validate_json(kept["data"][JSON_FILE])
    for attempt in range(100, 100 + count):
        canary = report.canary.model_copy(update={"attempt": attempt})
        name = f"demo-report-{canary.name}-{attempt}"
        keep_another(world, name, kept, report.model_copy(update={"canary": canary}))
    world.restart()
    assert world.writer is not None
    await world.writer.step()
    assert pending(world) == room
    await world.write()
    assert pending(world) == 0
    pages = [key for key in written(str(folder)) if key.endswith(HTML_FILE)]
    assert len(pages) == count + 1


async def test_what_is_still_to_be_written_is_not_pruned(on_volume: World, folder: Path) -> None:
    world = on_volume
    with no_rights(folder):
        create(world)
        await world.promote()
        for n in range(LIMIT + 2):
            await roll_back(world, f"bad-{n}")
        assert len(config_maps(world)) == LIMIT + 3
        world.restart()
        await world.poller.resync()
    await world.write()
    assert len([key for key in written(str(folder)) if key.endswith(HTML_FILE)]) == LIMIT + 3
    await roll_back(world, "another")
    assert len(config_maps(world)) == LIMIT


async def test_a_new_root_gets_the_reports_that_are_kept(folder: Path) -> None:
    roots = [folder / "first", folder / "second"]
    for root in roots:
        root.mkdir()
    world = World(files=ReportFiles(FilesSettings(str(roots[0]))))
    create(world)
    await world.promote()
    await world.write()
    await world.rounds(1)
    world.files = ReportFiles(FilesSettings(str(roots[1])))
    world.restart()
    await world.poller.resync()
    await world.write()
    await world.rounds(1)
    assert [*written(str(roots[0]))] == [*written(str(roots[1]))]
    assert world.status()["report"]["url"].startswith(str(roots[1]))


# --------------------------------------------------------------------------- metrics over time


def curve(query: str, first: datetime, last: datetime) -> list[Any]:
    """What Prometheus has of any query."""
    values = [
        [at, str(0.04 + at % 7 / 100)]
        for at in range(int(first.timestamp()), int(last.timestamp()), 30)
    ]
    if not query.startswith("signal_evidence_bound"):
        return [{"metric": {}, "values": values}]
    return [
        {
            "metric": {"level": "0.0005", "side": side, "window": window},
            "values": [[at, str(float(value) + move)] for at, value in values],
        }
        for side, move in (("lower", -0.02), ("upper", 0.02))
        for window in ("now", "whole")
    ]


async def test_the_page_shows_the_metrics_over_time_if_the_source_has_them(
    on_volume: World, folder: Path
) -> None:
    asked: list[tuple[str, datetime, datetime]] = []

    def history(query: str, first: datetime, last: datetime) -> list[Any]:
        asked.append((query, first, last))
        return curve(query, first, last)

    on_volume.source.history = history
    create(on_volume)
    await on_volume.promote()
    await on_volume.write()
    (page,) = (text for key, text in written(str(folder)).items() if key.endswith(HTML_FILE))
    (kept,) = config_maps(on_volume)
    report = Report.model_validate_json(kept["data"][JSON_FILE])
    assert "The metrics over time" in page
    assert "not drawn" not in page
    assert "bound of late" in page
    assert {row.query for row in report.conditions} <= {query for query, *_ in asked}
    assert {(first, last) for _, first, last in asked} == {(report.started, report.ended)}
    assert report.started >= START


@pytest.mark.parametrize(
    ("answer", "said"),
    {
        "no answer": (
            SourceTimeout("no answer within 8s"),
            "could not be read: no answer within 8s",
        ),
        "no range": ([{"metric": {}}], "answered no values over time"),
        "forgotten": ([], "the metrics source has nothing of that time"),
    }.values(),
    ids=["no answer", "no range", "forgotten"],
)
async def test_the_page_says_why_it_does_not(
    on_volume: World, folder: Path, answer: Any, said: str
) -> None:
    def history(query: str, first: datetime, last: datetime) -> list[Any]:
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    on_volume.source.history = history
    create(on_volume)
    await on_volume.promote()
    await on_volume.write()
    (page,) = (text for key, text in written(str(folder)).items() if key.endswith(HTML_FILE))
    assert "The metrics over time are not drawn: " in page
    assert said in page
