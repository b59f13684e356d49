"""The chart's rules and monitors: real promtool, real names, a runbook for each alert."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[3] / "hack"))

from api_server import REPO, ApiServer

import dashboards
import grafana_kit
from grafana_kit import Panel
from signalcanary.api import SignalCanarySpec
from signalcanary.api.conditions import Tier
from signalcanary.evaluate import Verdict
from signalcanary.resources import Owner, WorkloadSettings, build_resources
from signalcanary.revisions import build_revision, refer_to
from signalcanary.rollout import Phase, RolloutState

FILES = sorted((REPO / "charts/signalcanary/files/rules").glob("*.yaml"))
TESTS = Path(__file__).parent / "alerts.yaml"
RUNBOOKS = (REPO / "docs/runbooks.md").read_text()
ON = ["--set=prometheus.url=http://prometheus:9090,monitoring.podMonitors.enabled=true"]
ON += ["--set=monitoring.rules.enabled=true,monitoring.rules.phaseA1=true"]


def rules() -> list[dict[str, Any]]:
    groups = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    run(promtool, "test", "rules", str(TESTS))


def test_every_alert_is_tested() -> None:
    fired = {
        expected["alertname"]
        for block in yaml.safe_load(TESTS.read_text())["tests"]
        for expected in block["alert_rule_test"]
        if expected.get("exp_alerts")
    }
    assert fired == {alert["alert"] for alert in ALERTS}


def test_every_alert_says_what_where_and_what_to_do() -> None:
    sections = re.findall(r"^### (\w+)\n\n\*\*Means\*\*", RUNBOOKS, re.MULTILINE)
    assert sorted(sections) == sorted({alert["alert"] for alert in ALERTS})
    for alert in ALERTS:
        name, annotations = alert["alert"], alert["annotations"]
        assert alert["labels"]["severity"] in ("info", "warning", "critical"), name
        assert annotations["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        assert annotations["summary"], name
        assert annotations["description"].endswith("."), name


def queries() -> Iterator[str]:
    """All that is asked of Prometheus: by rules, panels and variables of dashboards."""
    yield from (rule["expr"] for rule in rules())
    for dashboard in dashboards.DASHBOARDS.values():
        yield from dashboard.queries
        yield from (variable["definition"] for variable in dashboard.variables)


def exported() -> dict[str, set[str]]:
    """The labels of every series by its name, from the page that the collectors write."""
    text = (REPO / "docs/metrics.md").read_text()
    common = {"namespace", "signalcanary", "track", "revision"}
    rows = re.findall(r"^\| `(\w+)` \| \w+ \|[^|]*\|([^|]*)\|", text, re.MULTILINE)
    return {name: {*re.findall(r"`(\w+)`", labels), *common} for name, labels in rows}


def test_every_series_that_is_read_is_exported_with_the_labels_that_it_is_chosen_by() -> None:
    known = exported() | {rule["record"]: None for rule in rules() if "record" in rule}
    for query in queries():
        bare = re.sub(r'"[^"]*"|\b(by|on|ignoring) \([^)]*\)|\{[^}]*\}', "", query)
        read = set(re.findall(r"[a-z][a-z0-9_]*:[a-z0-9_:]+|\b[a-z0-9]+_[a-z0-9_]+\b", bare))
        read -= {"histogram_quantile", "label_values", "object_namespace", "label_replace"}
        read -= {"label_join", "max_over_time", "last_over_time"}
        assert read, query
        for name in read:
            assert name.removesuffix("_bucket") in known, (query, name)
        for name, selector in re.findall(r'([a-z0-9_:]+)\{((?:[^}"]|"[^"]*")*)\}', query):
            labels = set(re.findall(r'(\w+)(?:=|!=|=~|!~)"', selector))
            has = known[name.removesuffix("_bucket")]
            assert has is None or labels <= has, (query, labels - has)


def test_the_chart_renders_the_rules_as_they_are(
    api: ApiServer, promtool: str, tmp_path: Path
) -> None:
    where = "https://wiki.example/runbooks"
    items = api.template(*ON, f"--set=monitoring.rules.runbookUrl={where}")
    (item,) = [item for item in items if item["kind"] == "PrometheusRule"]
    text = "\n".join(file.read_text() for file in FILES)
    expected = text.replace("docs/runbooks.md", where)
    groups = [g for part in expected.split("\ngroups:\n")[1:] for g in yaml.safe_load(part)]
    by_name = {group["name"]: group for group in groups}
    assert {group["name"]: group for group in item["spec"]["groups"]} == by_name
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": item["spec"]["groups"]}))
    run(promtool, "check", "rules", "--lint-fatal", str(file))


def test_the_alarms_of_phase_a1_are_left_out_unless_they_are_wanted(api: ApiServer) -> None:
    def groups(*options: str) -> set[str]:
        items = api.template(*ON, *options)
        (item,) = [item for item in items if item["kind"] == "PrometheusRule"]
        return {group["name"] for group in item["spec"]["groups"]}

    assert groups() - groups("--set=monitoring.rules.phaseA1=false") == {"signalcanary-phase-a1"}


def test_the_monitors_find_the_pods(api: ApiServer) -> None:
    items = {f"{i['kind']}/{i['metadata']['name']}": i for i in api.template(*ON)}
    pods = [items["Deployment/signalcanary"]["spec"]["template"]]
    symbols = {"canary": ["BTCUSDT"], "full": ["BTCUSDT"]}
    spec = SignalCanarySpec.model_validate({"version": "v1", "symbols": symbols})
    revision = build_revision(spec, "workloads:1")
    ref = refer_to(revision, 1)
    state = RolloutState(phase=Phase.PROGRESSING, canary=ref)
    made = build_resources(
        Owner("trading", "demo", "uid"), spec, state, {ref.name: revision}, WorkloadSettings()
    )
    pods += [item["spec"]["template"] for item in made if item["kind"] == "StatefulSet"]
    monitors = [item for name, item in items.items() if name.startswith("PodMonitor/")]
    assert len(pods) == 3
    for pod in pods:
        (monitor,) = [m["spec"] for m in monitors if selects(m["spec"]["selector"], pod)]
        ports = [port["name"] for c in pod["spec"]["containers"] for port in c["ports"]]
        assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= set(ports)
    alone = api.template(*ON, "--set=watchNamespace=trading")
    selected = [i["spec"].get("namespaceSelector") for i in alone if i["kind"] == "PodMonitor"]
    assert {"matchNames": ["trading"]} in selected


def selects(selector: dict[str, Any], pod: dict[str, Any]) -> bool:
    labels = pod["metadata"]["labels"]
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", ())
    )


def test_the_dashboards_are_in_step_with_their_panels() -> None:
    for name, dashboard in dashboards.DASHBOARDS.items():
        text = dashboards.render(dashboard)
        assert (dashboards.FOLDER / name).read_text() == text, "run make dashboards"


def panels() -> Iterator[tuple[str, Panel]]:
    for name, dashboard in dashboards.DASHBOARDS.items():
        yield from ((name, panel) for panel in dashboard.shown)


def test_every_panel_asks_a_question_and_says_what_is_well_what_nothing_means_and_the_unit() -> (
    None
):
    for _, panel in panels():
        assert re.search(r"\?( \(.+\)| Choose .+)?$|^Breached if ", panel.title), panel.title
        assert panel.help.endswith("."), panel.title
        assert panel.no_value, panel.title
        assert panel.unit, panel.title
        assert not panel.runbook or f"\n### {panel.runbook}\n" in RUNBOOKS, panel.runbook
    titles = [(name, panel.title) for name, panel in panels()]
    assert len(titles) == len(set(titles))


def test_nothing_is_green_where_nothing_is_shown() -> None:
    """A number without a value has the colour of the least; a timeline has no word for nothing."""
    for _, panel in panels():
        if panel.kind == "stat":
            assert panel.defaults["thresholds"]["steps"][0]["color"] != "green", panel.title
            assert not any("or vector(0)" in q for q in panel.queries.values()) or (
                panel.title == "One leader?"
            ), panel.title
        if panel.kind == "state-timeline":
            assert all(" or on () label_replace(" in q for q in panel.queries.values()), panel.title


def test_every_label_of_a_legend_is_one_that_the_query_keeps() -> None:
    for name, dashboard in dashboards.DASHBOARDS.items():
        shown = [(legend, q) for _, p in panels() if _ == name for legend, q in p.queries.items()]
        shown += [(annotation.title, annotation.query) for annotation in dashboard.annotations]
        for legend, query in shown:
            kept = {
                label for by in re.findall(r"\bby \(([^)]*)\)", query) for label in by.split(", ")
            }
            assert set(re.findall(r"{{(\w+)}}", legend)) <= kept, (legend, query)


def test_every_phase_verdict_and_tier_has_its_colour() -> None:
    assert set(grafana_kit.PHASES) == set(Phase)
    assert list(grafana_kit.VERDICTS) == list(Verdict)
    assert list(grafana_kit.TIERS) == list(Tier)
    reds = {name for name, colour in grafana_kit.PHASES.items() if "red" in colour}
    assert reds == {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


def test_every_link_leads_to_a_dashboard_with_the_variables_and_the_labels_that_it_names() -> None:
    variables = {
        dashboard.uid: {"datasource", *(variable["name"] for variable in dashboard.variables)}
        for dashboard in dashboards.DASHBOARDS.values()
    }
    for name in dashboards.DASHBOARDS:
        rendered = json.loads((dashboards.FOLDER / name).read_text())
        found = re.findall(r'"url": "([^"]+)"', json.dumps(rendered["links"]))
        for panel in rendered["panels"]:
            asked = " ".join(target["expr"] for target in panel.get("targets", ()))
            for url in re.findall(r'"url": "([^"]+)"', json.dumps(panel)):
                found.append(url)
                labels = set(re.findall(r"\$\{__(?:field\.labels|data\.fields)\.(\w+)\}", url))
                kept = {x for by in re.findall(r"\bby \(([^)]*)\)", asked) for x in by.split(", ")}
                assert labels, url
                assert labels <= kept, (panel["title"], url)
        assert found, f"{name} leads nowhere"
        for url in found:
            uid, _, options = url.removeprefix("/d/").partition("?")
            assert set(re.findall(r"var-(\w+)=", options)) <= variables[uid], url


def test_the_panels_lie_side_by_side_and_use_the_variables_that_there_are() -> None:
    for name in dashboards.DASHBOARDS:
        text = (dashboards.FOLDER / name).read_text()
        dashboard = json.loads(text)
        known = {variable["name"] for variable in dashboard["templating"]["list"]}
        used = set(re.findall(r"\$\{?(?!__)(\w+)", text))
        assert used <= known, used - known
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            grid = panel["gridPos"]
            columns = range(grid["x"], grid["x"] + grid["w"])
            cells = {(x, y) for x in columns for y in range(grid["y"], grid["y"] + grid["h"])}
            assert columns.stop <= grafana_kit.WIDTH
            assert not taken & cells, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_chart_brings_the_dashboards(api: ApiServer) -> None:
    items = api.template(*ON, "--set=monitoring.dashboards.enabled=true")
    maps = [i for i in items if "grafana_dashboard" in i["metadata"].get("labels", {})]
    texts = [text for item in maps for text in item["data"].values()]
    expected = [(dashboards.FOLDER / name).read_text() for name in dashboards.DASHBOARDS]
    assert sorted(map(str.strip, texts)) == sorted(map(str.strip, expected))
    names = [item["metadata"]["name"] for item in api.template(*ON)]
    assert not any("dashboard" in name for name in names)


def test_panels_lead_to_their_runbooks_where_these_are_on_the_web(api: ApiServer) -> None:
    where = "https://wiki.example/runbooks"
    web = f"--set=monitoring.dashboards.enabled=true,monitoring.rules.runbookUrl={where}"
    items = api.template(*ON, web)
    maps = [i for i in items if "grafana_dashboard" in i["metadata"].get("labels", {})]
    brought = [json.loads(text) for item in maps for text in item["data"].values()]
    led = {url for one in brought for panel in one["panels"] for url in urls_of(panel)}
    assert led == {f"{where}#{panel.runbook.lower()}" for _, panel in panels() if panel.runbook}
    for one in brought:
        (file,) = [n for n, d in dashboards.DASHBOARDS.items() if d.uid == one["uid"]]
        assert where in [link["url"] for link in one.pop("links")]
        expected = json.loads((dashboards.FOLDER / file).read_text())
        for panel in one["panels"]:
            panel.pop("links", None)
        del expected["links"]
        assert one == expected, "nothing else was changed on the way"


def urls_of(panel: dict[str, Any]) -> list[str]:
    return [link["url"] for link in panel.get("links", ())]
