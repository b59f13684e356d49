"""The verbs that read a cluster, against a real API server: what they print, and the codes that
scripts go by."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import ADMIN, OPERATOR, ApiServer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "console"))

from console_kit import Story, progressing, rolled_back

from signalcanary.cli import main
from signalcanary.report import REPORT_URL, Report, build_config_map, build_report
from signalcanary.resources import Owner, build_controller_revision
from signalcanary.revisions import build_revision


def put(api: ApiServer, namespace: str, story: Story, name: str = "demo") -> dict[str, Any]:
    """An object with the status that a rollout has left."""
    item = story.item()
    meta = {"name": name, "namespace": namespace}
    made = api.apply({**{k: item[k] for k in ("apiVersion", "kind", "spec")}, "metadata": meta})
    path = f"/apis/{item['apiVersion']}/namespaces/{namespace}/signalcanaries/{name}/status"
    # The generation of a new object is 1.
    status = item["status"] | {"observedGeneration": 1} if item["status"] else {}
    api.must("PATCH", path, {"status": status}, kind="merge-patch+json")
    result: dict[str, Any] = made
    return result


@pytest.fixture
def say(api: ApiServer, namespace: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        where = (f"--kubeconfig={api.kubeconfig(ADMIN)}", f"--namespace={namespace}")
        code = main([verb, *arguments, *where])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_rolled_back_canary_is_told_explained_and_remembered(
    api: ApiServer, namespace: str, say: Any
) -> None:
    story = rolled_back()
    made = put(api, namespace, story)
    owner = Owner(namespace, "demo", made["metadata"]["uid"])
    api.apply(build_controller_revision(owner, story.target, build_revision(story.spec, "img:1")))
    code, out, _ = say("status", "demo")
    assert (code, out.splitlines()[0]) == (3, f"{namespace}/demo  Degraded: RolledBack")
    code, out, _ = say("explain", "demo")
    assert code == 3
    # The API server has kept every field: what is not in the CRD it would have dropped.
    assert "0.2 on 1,800 rows, worth 430 independent ones" in out
    assert "breached    for 2m of the 2m it may" in out
    code, out, _ = say("history", "demo")
    assert code == 0
    assert "RolledBack (ConditionBreached)  v2" in out
    assert "img:1" in out


def test_one_that_goes_on_is_0_and_the_worst_of_all_counts(
    api: ApiServer, namespace: str, say: Any
) -> None:
    assert say("status")[:2] == (
        0,
        f"there is no SignalCanary in namespace {namespace}: choose another by -n, or -A\n",
    )
    put(api, namespace, Story(), "unseen")
    assert say("status")[0] == 4
    put(api, namespace, rolled_back(), "bad")
    code, out, _ = say("status", "-o", "json")
    document = json.loads(out)
    assert code == document["exitCode"] == 3
    assert {(i["name"], i["health"]) for i in document["items"]} == {
        ("bad", "Degraded"),
        ("unseen", "Held"),
    }
    code, out, _ = say("explain", "bad", "-o=yaml")
    assert yaml.safe_load(out)["decision"]["reason"] == "ConditionBreached"


@pytest.mark.parametrize("verb", ["status", "explain", "history"])
def test_a_mistake_is_one_line_and_1(say: Any, verb: str) -> None:
    code, out, err = say(verb, "nope")
    assert (code, out) == (1, "")
    assert err.startswith(f"signalcanary {verb}: there is no SignalCanary nope in namespace")
    assert err.count("\n") == 1


def test_a_status_of_another_version_is_said_to_be_one(
    api: ApiServer, namespace: str, say: Any
) -> None:
    story = progressing()
    story.status["phase"] = "Dreaming"
    put(api, namespace, story)
    code, _, err = say("status")
    assert code == 1
    assert "was written by another version of the operator" in err


def test_a_report_is_made_of_the_object_and_an_earlier_one_of_what_is_kept(
    api: ApiServer, namespace: str, say: Any, tmp_path: Path
) -> None:
    story = rolled_back()
    made = put(api, namespace, story)
    code, out, _ = say("report", "demo")
    assert (code, out.splitlines()[0]) == (0, "# v2: rolled back")
    report = build_report({**story.item(), "metadata": made["metadata"]})
    owner = Owner(namespace, "demo", made["metadata"]["uid"])
    # As the operator writes it, with the operator's rights.
    api.apply(build_config_map(owner, report), user=OPERATOR)
    kept = f"{report.canary.name}-{report.canary.attempt}"
    code, out, _ = say("report", "demo", f"--kept={kept}", "-o=json")
    assert (code, Report.model_validate_json(out)) == (0, report)
    code, out, _ = say("report", "demo", "--list")
    assert (code, out.splitlines()[1].split()[-1]) == (0, "–")
    url = "s3://audit/signals/demo/20260501T000000Z-x-1-RolledBack/report.html"
    path = f"/api/v1/namespaces/{namespace}/configmaps/demo-report-{kept}"
    noted = {"metadata": {"annotations": {REPORT_URL: url}}}
    api.must("PATCH", path, noted, kind="merge-patch+json", user=OPERATOR)
    code, out, _ = say("report", "demo", "--list")
    assert (code, out.splitlines()[0].split()[0]) == (0, "DECIDED")
    assert out.splitlines()[1].split()[3:] == [
        *(kept, "v2", "RolledBack", f"demo-report-{kept}", url)
    ]
    code, _, err = say("report", "demo", "--kept=none")
    assert (code, err.count("\n")) == (1, 1)
    assert f"choose one by --kept: {kept}" in err
    file = tmp_path / "report.html"
    assert say("report", "demo", "-o=html", f"--file={file}")[0] == 0
    text = file.read_text()
    assert "give --prometheus URL" in text
    assert "give --prometheus URL, or --sources FILE" in text
