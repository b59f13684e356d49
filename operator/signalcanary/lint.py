"""Checks manifests without a cluster, and says what to write instead.

The API server refuses wrong types, unknown fields and broken CEL rules; a person should hear
all of it before that, with the line it is on. The shapes come from the schema that the CRD is
generated from, the values from the models themselves, so this adds no rule of its own. Pure:
text in, findings out.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from pydantic import ValidationError

from signalcanary.api import (
    API_VERSION,
    GROUP,
    KIND,
    MAX_NAME_LENGTH,
    Condition,
    SignalCanarySpec,
    Tier,
)
from signalcanary.contract import format_duration
from signalcanary.crd import build_spec_schema

Path = tuple[str | int, ...]

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_METADATA: Final = frozenset(
    {"name", "namespace", "labels", "annotations", "finalizers", "generateName"}
)
_WRITE: Final = {
    "string": "a text",
    "number": "a number, for example 0.1",
    "integer": "a whole number, for example 100",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of fields",
}


@dataclass(frozen=True)
class Problem:
    """Something that must be changed."""

    line: int
    where: str
    message: str

    def describe(self, file: str) -> str:
        """As compilers write it, so that editors find the place."""
        where = f"{self.where}: " if self.where else ""
        return f"{file}:{self.line}: {where}{self.message}"


@dataclass(frozen=True)
class Checked:
    """One SignalCanary of a file.

    Attributes:
        spec: None if it has problems.
        after_line: of the file, where `spec.after` stands.
    """

    name: str
    namespace: str
    metadata: Mapping[str, Any]
    spec: SignalCanarySpec | None
    after_line: int = 1


def explain(spec: SignalCanarySpec) -> list[str]:
    """What a policy comes to where the manifest does not show it at a glance, in lines."""
    return [
        line
        for condition in spec.rollback.conditions
        if condition.tiers or condition.consecutive > 1 or _waits_unasked(condition)
        for line in _explain(condition, spec)
    ]


def _waits_unasked(condition: Condition) -> bool:
    """Whether it will surely be judged literally, and not by one look, without being written so."""
    debounces = {condition.debounce(has_evidence=found) for found in (True, False)}
    return not condition.is_guarded and len(debounces) > 1


def _explain(condition: Condition, spec: SignalCanarySpec) -> Iterator[str]:
    interval = spec.evaluation.interval
    debounce = condition.debounce(has_evidence=condition.is_guarded)
    text = f"{condition.subject}: rolls back if "
    text += condition.describe(debounce).removeprefix(f"{condition.subject} ")
    if debounce.consecutive > 1:
        soonest = max(debounce.for_, (debounce.consecutive - 1) * interval)
        soonest += spec.rollback.delay
        text += f", {format_duration(soonest)} after the first at the earliest (a look every "
        text += f"{format_duration(interval)})"
    if _waits_unasked(condition):
        text += "; it comes without bounds, so one look is not enough: write for or consecutive, "
        text += "or mode: literal to act at the first"
    yield text
    if condition.critical is not None:
        limit = condition.limit(Tier.CRITICAL)
        yield f"{condition.subject}: no stage is passed and nothing promoted while {limit}"
    if condition.warning is not None:
        yield f"{condition.subject}: told while {condition.limit(Tier.WARNING)}"


@dataclass(frozen=True)
class Report:
    """What a file holds and what is wrong with it."""

    found: tuple[Checked, ...] = ()
    problems: tuple[Problem, ...] = ()


class KubectlLoader(yaml.SafeLoader):
    """Reads YAML as kubectl does: 2026-05-04T08:00:00Z and 17:30 are texts, no dates and no
    numbers of base 60."""


_NO_COLON: Final = r"(?![^:]*:)"
KubectlLoader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(_NO_COLON + regexp.pattern, re.X))
        for tag, regexp in resolvers
        if tag != "tag:yaml.org,2002:timestamp"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def check(text: str) -> Report:
    """Check every SignalCanary of a YAML text; documents of other kinds are left alone."""
    try:
        nodes = list(yaml.compose_all(text, Loader=KubectlLoader))
        documents = list(yaml.load_all(text, Loader=KubectlLoader))
    except yaml.YAMLError as error:
        return Report(problems=(_yaml_problem(error),))
    found: list[Checked] = []
    problems: list[Problem] = []
    others = 0
    for document, node in zip(documents, nodes, strict=True):
        if document is None:
            continue
        if _is_of_another_kind(document):
            others += 1
            continue
        checked, wrong = _check_document(document, node)
        found += [checked] if checked else []
        problems += wrong
    if not found and not problems and not others:
        problems = [Problem(1, "", f"no {KIND} in this file: write kind: {KIND}")]
    return Report(tuple(found), tuple(problems))


def _is_of_another_kind(document: Any) -> bool:
    """Whether it is an object of someone else's; a misspelt kind of ours is not."""
    if not isinstance(document, dict):
        return False
    kind, version = document.get("kind"), str(document.get("apiVersion", ""))
    if not isinstance(kind, str) or kind == KIND or version.startswith(f"{GROUP}/"):
        return False
    return not difflib.get_close_matches(kind.lower(), [KIND.lower()], cutoff=0.8)


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    return Problem(mark.line + 1 if mark else 1, "", f"this is not YAML: {what}")


@dataclass
class _Findings:
    """Collects problems of one document, at most one a place."""

    node: Any
    by_path: dict[Path, Problem] = field(default_factory=dict)

    def add(self, path: Path, message: str) -> None:
        self.by_path.setdefault(path, Problem(_line(self.node, path), _dotted(path), message))

    def concerns(self, path: Path) -> bool:
        """Whether this place, one around it or one within it was found wrong already."""
        return any(
            path[: len(known)] == known or known[: len(path)] == path for known in self.by_path
        )


def _check_document(document: Any, node: Any) -> tuple[Checked | None, list[Problem]]:
    findings = _Findings(node)
    for path, key, line in _repeated_keys(node):
        findings.by_path[(*path, key)] = Problem(
            line, _dotted((*path, key)), "stands here twice: keep one of them"
        )
    if not isinstance(document, dict):
        findings.add((), f"write an object: apiVersion: {API_VERSION}, kind: {KIND}, …")
        return None, list(findings.by_path.values())
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.get(key) != expected:
            findings.add((key,), f"write {key}: {expected}")
    for key in sorted(
        set(document) - {"apiVersion", "kind", "metadata", "spec", "status"}, key=str
    ):
        findings.add((key,), _unknown(str(key), ["metadata", "spec"]))
    metadata = _check_metadata(document.get("metadata"), findings)
    spec = _check_spec(document.get("spec"), findings)
    problems = sorted(findings.by_path.values(), key=lambda p: (p.line, p.where))
    checked = Checked(
        str(metadata.get("name", "")),
        str(metadata.get("namespace", "default")),
        {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)},
        None if problems else spec,
        _line(node, ("spec", "after")),
    )
    return checked, problems


def _check_metadata(metadata: Any, findings: _Findings) -> Mapping[str, Any]:
    if not isinstance(metadata, dict):
        findings.add(("metadata",), "is missing: write metadata: {name: my-signal}")
        return {}
    for key in sorted(set(metadata) - _METADATA, key=str):
        findings.add(("metadata", key), _unknown(str(key), sorted(_METADATA)))
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        findings.add(
            ("metadata", "name"),
            f"write a name of at most {MAX_NAME_LENGTH} lower-case letters, digits and '-', "
            "for example ofi-cvd-fusion",
        )
    for key in ("labels", "annotations"):
        values = metadata.get(key)
        if values is not None and not (
            isinstance(values, dict) and all(isinstance(v, str) for v in values.values())
        ):
            findings.add(("metadata", key), 'write texts only, for example {team: "quant"}')
    return metadata


def _check_spec(spec: Any, findings: _Findings) -> SignalCanarySpec | None:
    schema = build_spec_schema()
    if not isinstance(spec, dict):
        findings.add(("spec",), "is missing: write at least version and symbols")
        return None
    _check_shape(spec, schema, ("spec",), findings)
    try:
        return SignalCanarySpec.model_validate(spec)
    except ValidationError as error:
        # Innermost first: what is wrong with an item is also why its list seems too short.
        for detail in sorted(error.errors(include_url=False), key=lambda d: -len(d["loc"])):
            path = ("spec", *detail["loc"])
            if not findings.concerns(path):
                findings.add(path, _words(detail, _schema_at(schema, path[1:])))
    return None


def _check_shape(value: Any, schema: Mapping[str, Any], path: Path, findings: _Findings) -> None:
    """Types and unknown fields, as strictly as the API server takes them."""
    kind = schema["type"]
    if value is None and path != ("spec",):
        findings.add(path, f"is empty: write {_WRITE[kind]}, or take the line out")
        return
    if isinstance(value, float) and not math.isfinite(value):
        findings.add(path, f"is {value}, which no value can be compared with: write a number")
        return
    if not _is_a(kind, value):
        findings.add(path, f"is {_named(value)}; {_instead(kind, value, schema)}")
        return
    if kind == "object":
        known = schema.get("properties", {})
        for key, child in value.items():
            if key in known:
                _check_shape(child, known[key], (*path, key), findings)
            else:
                findings.add((*path, key), _unknown(str(key), list(known)))
        for key in schema.get("required", ()):
            if key not in value:
                findings.add((*path, key), f"is missing: {_first_words(known[key])}")
    elif kind == "array":
        for index, child in enumerate(value):
            _check_shape(child, schema["items"], (*path, index), findings)


def _is_a(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    return isinstance(value, types[kind])


def _instead(kind: str, value: Any, schema: Mapping[str, Any]) -> str:
    """What to write in the place of a value of the wrong type."""
    rule = next((r["message"] for r in schema.get("x-kubernetes-validations", ())), "")
    if str(rule).startswith("write a duration"):
        return str(rule)
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return f'put it in quotes: "{value}"'
    return f"write {_WRITE[kind]}"


def _named(value: Any) -> str:
    if isinstance(value, dict):
        return "a block of fields"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"{value}".lower()
    return f"the text {value!r}" if isinstance(value, str) else f"the number {value}"


def _unknown(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    lower = {name.lower(): name for name in known}
    guess = close[0] if close else lower.get(key.replace("_", "").lower())
    if guess:
        return f"unknown field: did you mean {guess}?"
    return f"unknown field: write one of {', '.join(sorted(known))}"


def _first_words(schema: Mapping[str, Any]) -> str:
    text = str(schema.get("description", "write it")).rstrip(".")
    return text[:1].lower() + text[1:]


def _words(detail: Any, schema: Mapping[str, Any]) -> str:
    """A finding of the models in words that say what to write."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("string_pattern_mismatch", "string_too_long", "string_too_short"):
        for rule in schema.get("x-kubernetes-validations", ()):
            return str(rule["message"])
    if kind in ("literal_error", "enum"):
        return f"write {context.get('expected', 'one of the known words')}"
    if kind == "too_short":
        return "is empty: write at least one"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return message if kind == "value_error" else message[:1].lower() + message[1:]


def _schema_at(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    for step in path:
        below = schema.get("items") if isinstance(step, int) else schema.get("properties", {})
        schema = (below if isinstance(step, int) else (below or {}).get(step)) or {}
    return schema


# --------------------------------------------------------------------------- places


def _dotted(path: Path) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _line(node: Any, path: Path) -> int:
    """The line of a place, or of the nearest thing around it that exists."""
    line: int = node.start_mark.line + 1
    for step in path:
        below = _below(node, step)
        if below is None:
            return line
        line, node = below
    return line


def _below(node: Any, step: str | int) -> tuple[int, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        child = node.value[step]
        return child.start_mark.line + 1, child
    return None


def _repeated_keys(
    node: Any, path: Path = (), around: tuple[int, ...] = ()
) -> Iterator[tuple[Path, str, int]]:
    """Keys that stand twice in one block, of which YAML silently takes the last."""
    if id(node) in around:
        return  # an alias of a block that it stands in
    around = (*around, id(node))
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield path, key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated_keys(value, (*path, key.value), around)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _repeated_keys(child, (*path, index), around)
