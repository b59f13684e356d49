"""How a table of panels becomes Grafana's JSON. Pure: no file is read or written here.

Colours mean one thing on both dashboards: green is well, blue is under way, yellow is undecided or
waits, orange is something that is missing, purple is something that cannot be seen, and red is a
breach, or what stands still. Symbols are shades of their track's colour: blue of the canary, green
and dotted of stable; what is dashed is a threshold where it is red, and a bound where it is grey.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
VERDICTS = {
    # Ordered as in evaluate.Verdict.
    "Ok": "green",
    "Unproven": "light-yellow",
    "Inconclusive": "light-blue",
    "NoData": "light-orange",
    "Error": "purple",
    "Breached": "red",
}
PHASES = {
    # Those of rollout.Phase.
    "Waiting": "light-yellow",
    "Verifying": "super-light-blue",
    "Pending": "super-light-blue",
    "Warming": "light-blue",
    "Progressing": "blue",
    "Promoting": "light-green",
    "Soaking": "semi-dark-green",
    "Succeeded": "green",
    "RollingBack": "red",
    "VerifyingRollback": "orange",
    "RolledBack": "dark-red",
}
DULL = "#3d4451"
"""Of what is neither well nor ill."""
UNSEEN = "purple"
"""Of what the operator, or Prometheus, does not show."""
TIERS = {"Normal": "green", "Warning": "yellow", "Critical": "orange", "Rollback": "red"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        queries: PromQL by legend, as Grafana writes it: {{label}}.
        help: what is well and what is not, and what to do; its description.
        no_value: what it means when nothing comes back.
        may_be_empty: whether all is well when nothing comes back.
        repeat: a variable; one panel for each of its values.
        runbook: the alert that fires on the same thing; its section of docs/runbooks.md.
        instant: only what is true at the end of the range; of tables and numbers.
    """

    title: str
    queries: Mapping[str, str]
    help: str
    no_value: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    may_be_empty: bool = False
    repeat: str = ""
    runbook: str = ""
    instant: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()

    @property
    def description(self) -> str:
        return f"{self.help} Runbook: {self.runbook}." if self.runbook else self.help


@dataclass(frozen=True)
class Annotation:
    """Something that happened, drawn on every time axis; a band where it lasted.

    Attributes:
        query: above 0 while it is so.
        title: as a legend.
    """

    name: str
    query: str
    title: str
    colour: str


@dataclass(frozen=True)
class Dashboard:
    """One dashboard.

    Attributes:
        panels: from left to right; a string begins a row.
        since: the beginning of what is shown at first, as Grafana writes it.
    """

    title: str
    uid: str
    description: str
    panels: tuple[Panel | str, ...]
    annotations: tuple[Annotation, ...]
    links: tuple[Json, ...]
    variables: tuple[Json, ...] = ()
    since: str = "now-6h"
    refresh: str = "30s"

    @property
    def shown(self) -> tuple[Panel, ...]:
        """Its panels without the headings of rows."""
        return tuple(panel for panel in self.panels if isinstance(panel, Panel))

    @property
    def queries(self) -> tuple[str, ...]:
        """All that it asks of Prometheus but its variables."""
        asked = [query for panel in self.shown for query in panel.queries.values()]
        return (*asked, *(annotation.query for annotation in self.annotations))


# --------------------------------------------------------------------------- values as words


def mapped(names: Mapping[str, str], since: int = 0) -> Json:
    """Numbers from one on shown as words, each in its colour."""
    options = {
        str(since + n): {"text": name, "color": colour, "index": n}
        for n, (name, colour) in enumerate(names.items())
    }
    return {"mappings": [{"type": "value", "options": options}]}


def all_called(word: str, colours: Sequence[str]) -> Json:
    """Numbers from 1 shown as one word, each in its colour."""
    options = {
        str(code): {"text": word, "color": colour, "index": code}
        for code, colour in enumerate(colours, 1)
    }
    return {"mappings": [{"type": "value", "options": options}]}


def said(zero: tuple[str, str], colour: str, other: str = "") -> Json:
    """0 as a word in its colour, and every other number in another.

    Args:
        other: what the others are called, from 1 to 99; nothing is the number itself.
    """
    word, its_colour = zero
    its = {"text": word, "color": its_colour, "index": 0}
    mappings: list[Json] = [{"type": "value", "options": {"0": its}}]
    if other:
        result = {"text": other, "color": colour, "index": 1}
        options = {"from": 1, "to": 99, "result": result}
        mappings.append({"type": "range", "options": options})
    return {"mappings": mappings, **steps({None: UNSEEN, 1: colour})}


def words(names: Mapping[str, str]) -> Json:
    """A text in the colour of what it says."""
    options = {name: {"color": c, "index": n} for n, (name, c) in enumerate(names.items())}
    return {"id": "mappings", "value": [{"type": "value", "options": options}]}


def steps(colours: Mapping[float | None, str]) -> Json:
    """From which value on which colour; None is from the least."""
    rows = [{"value": value, "color": colour} for value, colour in colours.items()]
    return {"thresholds": {"mode": "absolute", "steps": rows}}


def line_at(value: float, colour: str = "red") -> Json:
    """A dashed line at a bound, which is in sight even where all values are far from it."""
    custom = {"thresholdsStyle": {"mode": "dashed"}, "axisSoftMax": value * 1.1, "axisSoftMin": 0}
    return {**steps({None: "transparent", value: colour}), "custom": custom}


def grey_line_at(value: float, **custom: Any) -> Json:
    """A dashed line at what nothing, or chance, would give."""
    style = {"thresholdsStyle": {"mode": "dashed"}}
    return {**steps({None: "transparent", value: "#8e8e8e"}), "custom": style | custom}


# --------------------------------------------------------------------------- series by name


def _override(matcher: str, options: str, properties: Mapping[str, Any]) -> Json:
    rows = [{"id": name, "value": value} for name, value in properties.items()]
    return {"matcher": {"id": matcher, "options": options}, "properties": rows}


def fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


def column(name: str, **properties: Any) -> Json:
    """Of a table; dots of a property's name are written as two underscores."""
    return _override("byName", name, {k.replace("__", "."): v for k, v in properties.items()})


def coloured(names: Mapping[str, str]) -> tuple[Json, ...]:
    """Series by the beginning of their names, each in its colour."""
    return tuple(
        _override("byRegexp", f"/^{name}\\b/", {"color": fixed(c)}) for name, c in names.items()
    )


def threshold_line(pattern: str) -> Json:
    style = {"fill": "dash", "dash": [8, 6]}
    properties = {"custom.lineStyle": style, "custom.lineWidth": 2, "color": fixed("red")}
    return _override("byRegexp", pattern, properties)


def in_grey(pattern: str, *, is_named: bool = False) -> Json:
    """Thin, grey and dashed; a bound or what chance would give. Not in the legend but by wish."""
    hidden = {"legend": not is_named, "tooltip": False, "viz": False}
    properties = {
        "custom.lineStyle": {"fill": "dash", "dash": [4, 4]},
        "custom.lineWidth": 1,
        "color": fixed("#8e8e8e"),
        "custom.hideFrom": hidden,
    }
    return _override("byRegexp", pattern, properties)


# Shades of one colour, so that a track can be told from the other, and neither from a breach.
BY_TRACK = (
    _override("byRegexp", "/^canary/", {"color": {"mode": "shades", "fixedColor": "blue"}}),
    _override(
        "byRegexp",
        "/^stable/",
        {
            "color": {"mode": "shades", "fixedColor": "green"},
            "custom.lineStyle": {"fill": "dot", "dash": [2, 5]},
        },
    ),
)
SHADES = {"color": {"mode": "shades", "fixedColor": "blue"}}
SHADES_OF_RED = {"color": {"mode": "shades", "fixedColor": "red"}}
STACKED = {"custom": {"stacking": {"mode": "normal"}, "fillOpacity": 60, "lineWidth": 0}}
BARS = {"custom": {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0}, "decimals": 0, "min": 0}


def to_rollout(namespace: str, name: str) -> Json:
    """A link to the dashboard of one rollout, with the same time range."""
    url = (
        "/d/signalcanary-rollout?var-datasource=${datasource}"
        f"&var-namespace={namespace}&var-signalcanary={name}&${{__url_time_range}}"
    )
    return {"title": "This rollout", "url": url, "targetBlank": False}


# --------------------------------------------------------------------------- kinds of panels


def timeline(title: str, queries: Mapping[str, str], **more: Any) -> Panel:
    """Bands in the colours of states."""
    return Panel(title, queries, kind="state-timeline", unit="none", **more)


def number(title: str, queries: Mapping[str, str], *, names: bool = False, **more: Any) -> Panel:
    """One number, or a name, in the colour of what it means.

    Args:
        names: show the legend in place of the value.
    """
    given = {"width": 4, "height": 4, "instant": True} | more
    if names:
        given["options"] = {"textMode": "name"}
    return Panel(title, queries, kind="stat", **given)


def table(title: str, queries: Mapping[str, str], **more: Any) -> Panel:
    return Panel(title, queries, kind="table", instant=True, **more)


FIRST = "Track and symbol"


def matrix(title: str, query: str, row: str, across: str, **more: Any) -> Panel:
    """A table with tracks and symbols, of the label `row`, downwards and another label across."""
    pivot = {"columnField": across, "rowField": row, "valueField": "Value"}
    made = (
        {"id": "groupingToMatrix", "options": pivot},
        {"id": "organize", "options": {"renameByName": {f"{row}\\{across}": FIRST}}},
    )
    plain = column(FIRST, custom__cellOptions={"type": "auto"})
    return table(title, {"": query}, transformations=made, overrides=(plain,), **more)


# --------------------------------------------------------------------------- JSON

_LEGEND = {
    # One line a series with its last value, the largest first: it scrolls, so that twelve symbols
    # leave the graph its room.
    "table": {
        "displayMode": "table",
        "placement": "right",
        "calcs": ["lastNotNull"],
        "sortBy": "Last *",
        "sortDesc": True,
        "width": 320,
    },
    "list": {"displayMode": "list", "placement": "bottom", "calcs": []},
}
_SHOWN: dict[str, Json] = {
    "timeseries": {
        "legend": _LEGEND["table"],
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "auto",
        "rowHeight": 0.8,
        "alignValue": "left",
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "single"},
    },
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value",
        "text": {"titleSize": 16, "valueSize": 24},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
}
LISTED = {"legend": _LEGEND["list"]}
LONGEST = {"legend": {**_LEGEND["table"], "width": 480, "calcs": ["max"], "sortBy": "Max"}}


def _defaults(panel: Panel) -> Json:
    custom = {"timeseries": {"lineWidth": 1.5, "showPoints": "auto", "spanNulls": False}}
    custom |= {"state-timeline": {"fillOpacity": 80, "lineWidth": 0}}
    given = dict(panel.defaults)
    merged = {**custom.get(panel.kind, {}), **given.pop("custom", {})}
    return {
        "unit": panel.unit,
        "noValue": panel.no_value,
        **given,
        **({"custom": merged} if merged else {}),
    }


def _target(panel: Panel, n: int, legend: str, query: str) -> Json:
    is_table = panel.kind == "table"
    return {
        "refId": chr(ord("A") + n),
        "datasource": DATASOURCE,
        "expr": query,
        "legendFormat": legend or "__auto",
        **({"instant": True, "range": False} if panel.instant else {"range": True}),
        **({"format": "table"} if is_table else {}),
    }


def render_panel(panel: Panel, ident: int, x: int, y: int) -> Json:
    return {
        "id": ident,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [_target(panel, n, *item) for n, item in enumerate(panel.queries.items())],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(panel.overrides)},
        "options": {**_SHOWN[panel.kind], **panel.options},
        **({"transformations": list(panel.transformations)} if panel.transformations else {}),
        **(
            {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": WIDTH // panel.width}
            if panel.repeat
            else {}
        ),
    }


def _laid_out(panels: Sequence[Panel | str]) -> list[Json]:
    """From left to right, in rows by their headings."""
    out: list[Json] = []
    x = y = highest = 0
    for panel in panels:
        is_row = isinstance(panel, str)
        if is_row or x + panel.width > WIDTH or panel.repeat:
            x, y, highest = 0, y + highest, 0
        if isinstance(panel, str):
            grid = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            row = {"id": len(out) + 1, "type": "row", "title": panel, "gridPos": grid}
            out.append(row | {"collapsed": False, "panels": []})
            y += 1
            continue
        out.append(render_panel(panel, len(out) + 1, x, y))
        x, highest = x + (WIDTH if panel.repeat else panel.width), max(highest, panel.height)
    return out


def _render_annotation(annotation: Annotation) -> Json:
    return {
        "name": annotation.name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": annotation.colour,
        "target": {"expr": annotation.query, "refId": "Anno", "range": True, "interval": ""},
        "titleFormat": annotation.title,
        "textFormat": "",
        "tagKeys": "",
    }


def variable(name: str, label: str, query: str, *, many: bool = False) -> Json:
    many_fields = {"multi": True, "includeAll": True, "allValue": ".*"} if many else {}
    everything = {"current": {"text": ["All"], "value": ["$__all"]}} if many else {}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        **many_fields,
        **everything,
    }


SOURCE = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def link(title: str, uid: str) -> Json:
    """To another dashboard, with the same time range and Prometheus."""
    url = f"/d/{uid}?var-datasource=${{datasource}}"
    return {
        "title": title,
        "type": "link",
        "icon": "dashboard",
        "url": url,
        "keepTime": True,
        "includeVars": False,
        "targetBlank": False,
        "tooltip": "",
        "tags": [],
    }


def render(dashboard: Dashboard) -> str:
    """A dashboard's JSON."""
    document = {
        "title": dashboard.title,
        "description": dashboard.description,
        "uid": dashboard.uid,
        "tags": ["signalcanary"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": dashboard.since, "to": "now"},
        "refresh": dashboard.refresh,
        "links": list(dashboard.links),
        "templating": {"list": [SOURCE, *dashboard.variables]},
        "annotations": {"list": [_render_annotation(one) for one in dashboard.annotations]},
        "panels": _laid_out(dashboard.panels),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
