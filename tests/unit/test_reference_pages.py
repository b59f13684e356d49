"""docs/reference-crd.md and docs/reference-chart.md are written from the schemas themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from signalcanary.crd import build_crd

REPO = Path(__file__).parents[2]
CHART = REPO / "charts/signalcanary"
DASH = "–"

CRD_HEAD = """\
# Fields of a SignalCanary

Written by `make docs` from the CustomResourceDefinition. The same is said by
`kubectl explain signalcanary.spec --recursive`. A field in **bold** must be given where the object
that it is of is given. Durations are written as Kubernetes writes them: `90s`, `1h30m`. `NAME`
stands for a key of your choice.

What is checked besides types and bounds stands below each table; the API server says it when it
refuses an object. Verdicts and phases are explained in [lifecycle.md](lifecycle.md) and
[judgement.md](judgement.md), metrics in [metrics.md](metrics.md).
"""

CHART_HEAD = """\
# Values of the chart

Written by `make docs` from `values.schema.json` and `values.yaml` of the chart. What to look at
first, high availability, rights and upgrades: [install.md](install.md). A value in **bold** must be
given where the object that it is of is given. `NAME` stands for a key of your choice. A value that
the chart does not know is refused.
"""

Schema = dict[str, Any]


class Section(NamedTuple):
    """An object with fields: its path, its schema, and its default, `...` where there is none."""

    path: str
    schema: Schema
    default: Any


def fields_of(schema: Schema) -> Schema | None:
    """The schema whose properties are told in a section of their own, if there is such."""
    if schema.get("properties"):
        return schema
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict) and inner.get("properties"):
            return inner
    return None


def properties_of(schema: Schema) -> Schema:
    """A schema's fields, without those that it forbids."""
    return {name: field for name, field in schema["properties"].items() if field is not False}


def default_of(name: str, schema: Schema, of_parent: Any) -> Any:
    """A field's default: what its parent's default says of it, else its own."""
    if isinstance(of_parent, dict) and name in of_parent:
        return of_parent[name]
    return schema.get("default", ...)


def sections(path: str, schema: Schema, default: Any) -> Iterator[Section]:
    yield Section(path, schema, default)
    for name, field in properties_of(schema).items():
        inner = fields_of(field)
        if inner is None:
            continue
        below = path_of(path, name, field)
        own = default_of(name, field, default) if inner is field else ...
        yield from sections(below, inner, own)


def path_of(path: str, name: str, schema: Schema) -> str:
    """Where a field's own fields are: of a list of each item, of a map of each value."""
    end = "" if fields_of(schema) is schema else "[]" if "items" in schema else ".NAME"
    return f"{path}.{name}{end}".lstrip(".")


def bounds(schema: Schema) -> str:
    """A schema's bounds in words, in brackets with a space before them."""
    told = ["not empty"] if schema.get("minLength") == 1 else []
    schema = {key: value for key, value in schema.items() if (key, value) != ("minLength", 1)}
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", " items"),
        ("minLength", "maxLength", " characters"),
    ):
        above = "more than " if schema.get("exclusiveMinimum") and not unit else "at least "
        below = "less than " if schema.get("exclusiveMaximum") and not unit else "at most "
        parts = [f"{above}{schema[low]:g}"] if low in schema else []
        parts += [f"{below}{schema[high]:g}"] if high in schema else []
        if parts:
            told.append(" and ".join(parts) + unit)
    return f" ({', '.join(told)})" if told else ""


def type_of(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(f"`{choice}`" for choice in schema["enum"])
    kind = schema.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if schema.get("format") == "date-time":
        kind = "time"
    if kind == "array":
        return f"list{bounds(schema)} of {type_of(schema['items'])}"
    return f"{kind}{bounds(schema)}"


def shown(value: Any) -> str:
    """A default as YAML would have it in one line."""
    if value is ... or value is None:
        return DASH
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading of a path."""
    return heading.lower().replace(".", "").replace("[]", "")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "∣")


def told(section: Section) -> Iterator[str]:
    """The lines of one section."""
    schema = section.schema
    yield f"## {section.path}" if section.path else "## At the top"
    yield ""
    if schema.get("description"):
        yield from (schema["description"], "")
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in properties_of(schema).items():
        bold = "**" if name in schema.get("required", ()) else ""
        default = default_of(name, field, section.default)
        has_section = fields_of(field) is not None and "items" not in field
        text = DASH if has_section and default not in ({}, []) else shown(default)
        meaning = cell(field.get("description", ""))
        kind = type_of(field)
        if fields_of(field) is not None:
            kind = f"[{kind}](#{anchor(path_of(section.path, name, field))})"
        yield f"| {bold}`{name}`{bold} | {kind} | {cell(text)} | {meaning} |"
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    rules += [
        f"`{name}`: {rule['message']}"
        for name, field in properties_of(schema).items()
        for inner in ([field] if fields_of(field) is not field else [])
        for rule in inner.get("x-kubernetes-validations", ())
    ]
    if rules:
        yield from ("", *(f"- {' '.join(rule.split())}" for rule in rules))
    yield ""


def render(head: str, parts: Iterator[Section]) -> str:
    lines = [head, *(line for part in parts for line in told(part))]
    return "\n".join(lines).rstrip() + "\n"


def crd_page() -> str:
    (version,) = build_crd()["spec"]["versions"]
    top = version["schema"]["openAPIV3Schema"]["properties"]

    def parts() -> Iterator[Section]:
        for name in ("spec", "status"):
            yield from sections(name, top[name], ...)

    columns = ["## Columns of kubectl get", "", "| column | meaning |", "|---|---|"]
    columns += [
        f"| {column['name']}{' (`-o wide`)' if column.get('priority') else ''} "
        f"| {cell(column['description'])} |"
        for column in version["additionalPrinterColumns"]
    ]
    return render(CRD_HEAD, parts()) + "\n" + "\n".join(columns) + "\n"


def chart_page() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return render(CHART_HEAD, sections("", schema, values))


PAGES = {"reference-crd.md": crd_page, "reference-chart.md": chart_page}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_in_step_with_the_schema(name: str) -> None:
    page, text = REPO / "docs" / name, PAGES[name]()
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        page.write_text(text)
    assert page.read_text() == text, "run make docs"


@pytest.mark.parametrize("name", PAGES)
def test_every_field_says_what_it_is_for(name: str) -> None:
    rows = [line for line in PAGES[name]().splitlines() if line.startswith(("| `", "| **`"))]
    assert len(rows) > 80
    assert [row for row in rows if row.endswith("|  |")] == []
