"""The verb ``lint``: reads files, asks the metrics source if told to, and writes what is found."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from signalcanary.lint import Checked, Problem, check, explain
from signalcanary.lint_order import check_together
from signalcanary.outlook import describe as describe_schedule
from signalcanary.output import show

if TYPE_CHECKING:
    from signalcanary.preflight import Asked
    from signalcanary.sources import SourceConfig

OK: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2
UNREADABLE: Final = 4
"""The metrics source cannot be read: of the manifest nothing is known to be wrong."""
_SUFFIXES: Final = (".json", ".yaml", ".yml")


@dataclass
class _Canary:
    checked: Checked
    notes: list[str] = field(default_factory=list)
    expectations: list[str] = field(default_factory=list)
    asked: Asked | None = None


@dataclass
class _File:
    name: str
    problems: list[Problem] = field(default_factory=list)
    failure: str | None = None
    canaries: list[_Canary] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        asked = [one.asked for one in self.canaries if one.asked is not None]
        if self.failure or self.problems or any(one.has_problems for one in asked):
            return PROBLEMS
        return UNREADABLE if any(one.failure for one in asked) else OK


def run_lint(args: argparse.Namespace) -> int:
    """The verb; gives its exit code."""
    try:
        sources = _sources(args)
    except ValueError as error:
        print(f"signalcanary lint: {error}", file=sys.stderr)
        return USAGE
    files = [_read(path) for given in args.files for path in _manifests(given)]
    for file in files:
        for canary in file.canaries:
            _look_ahead(canary, args.speed)
            if args.live and canary.checked.spec is not None:
                canary.asked = _ask(canary.checked, args, sources)
    _look_beside(files)
    codes = {file.exit_code for file in files}
    code = next((c for c in (PROBLEMS, UNREADABLE) if c in codes), OK)
    text = "".join(f"{line}\n" for file in files for line in _lines(file))
    show({"ok": code == OK, "files": [_wire(file) for file in files]}, text, args.output)
    return code


def _sources(args: argparse.Namespace) -> Mapping[str, SourceConfig]:
    """The sources of a file, by name; those of one URL have any name.

    Raises:
        ValueError: there are none, or they cannot be used; the message says what to write.
    """
    if not args.live:
        if args.prometheus or args.sources:
            raise ValueError("--prometheus and --sources are for --live: write it too")
        return {}
    from signalcanary.sources import SourcesError, check_url, read_sources

    if args.prometheus is not None:
        try:
            check_url(args.prometheus)
        except ValueError as error:
            raise ValueError(f"--prometheus: {error}") from None
        return {}
    if args.sources is None:
        raise ValueError("--live needs --prometheus URL, or --sources FILE")
    try:
        return read_sources(args.sources)
    except SourcesError as error:
        raise ValueError(str(error)) from None


def _manifests(given: Path) -> list[Path]:
    """The files of a folder that `kubectl apply -f FOLDER` would take; of a file, itself."""
    if not given.is_dir():
        return [given]
    found = sorted(p for p in given.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    return found or [given]


def _read(path: Path) -> _File:
    name = str(path)
    if path.is_dir():
        return _File(
            name, failure=f"no manifest in this folder: none ends in {', '.join(_SUFFIXES)}"
        )
    try:
        text = sys.stdin.read() if name == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return _File(name, failure=str(getattr(error, "strerror", None) or error))
    report = check(text)
    return _File(name, list(report.problems), canaries=[_Canary(one) for one in report.found])


def _look_beside(files: list[_File]) -> None:
    """Say of each what it comes to beside the others."""
    places = [(file, canary) for file in files for canary in file.canaries]
    together = check_together([canary.checked for _, canary in places])
    for (file, canary), beside in zip(places, together, strict=True):
        file.problems += beside.problems
        canary.notes += beside.notes


def _look_ahead(canary: _Canary, speed: float) -> None:
    spec = canary.checked.spec
    if spec is None:
        return
    canary.notes = [*explain(spec), *describe_schedule(spec, datetime.now(UTC))]
    try:
        from signalcanary.expectation import describe
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "signalcanary_workloads":
            raise
        return  # the operator's image has no workloads, whose arithmetic it is
    canary.expectations = describe(spec, speed)


def _ask(checked: Checked, args: argparse.Namespace, sources: Mapping[str, SourceConfig]) -> Asked:
    from signalcanary.preflight import ask
    from signalcanary.sources import MAX_DEADLINE, SourceConfig

    if args.prometheus is not None:
        assert checked.spec is not None
        # A person waits for it, and nothing else does.
        config = SourceConfig(url=args.prometheus, deadline=MAX_DEADLINE)
        sources = {checked.spec.metrics_source: config}
    return asyncio.run(ask(checked, sources))


def _lines(file: _File) -> list[str]:
    if file.failure is not None:
        return [f"{file.name}: {file.failure}"]
    lines = [problem.describe(file.name) for problem in file.problems]
    if not file.problems:
        names = ", ".join(one.checked.name for one in file.canaries)
        lines.append(
            f"{file.name}: {names}: ok" if names else f"{file.name}: no SignalCanary in it"
        )
    for canary in file.canaries:
        told = [*canary.notes, *canary.expectations, *_live_lines(canary.asked)]
        lines += [f"  {canary.checked.name}: {line}" for line in told]
    return lines


def _live_lines(asked: Asked | None) -> list[str]:
    if asked is None:
        return []
    if asked.failure is not None:
        return [f"source {asked.source}: {asked.failure.reason}: {asked.failure.message}"]
    return [
        f"source {asked.source} answers, asked for revision {asked.revision}",
        *(f"{answer.finding}: {answer.message}" for answer in asked.answers),
    ]


def _wire(file: _File) -> dict[str, Any]:
    problems = [asdict(problem) for problem in file.problems]
    if file.failure is not None:
        problems = [{"line": 0, "where": "", "message": file.failure}]
    return {
        "file": file.name,
        "problems": problems,
        "found": [
            {
                "namespace": one.checked.namespace,
                "name": one.checked.name,
                "notes": [*one.notes, *one.expectations],
            }
            | ({} if one.asked is None else {"live": _live_wire(one.asked)})
            for one in file.canaries
        ],
    }


def _live_wire(asked: Asked) -> dict[str, Any]:
    return {
        "source": asked.source,
        "revision": asked.revision,
        "failure": asdict(asked.failure) if asked.failure is not None else None,
        "conditions": [
            {
                "condition": answer.condition.key,
                "symbol": answer.symbol,
                "finding": answer.finding.value,
                "verdict": answer.judgement.verdict.value,
                "reason": answer.judgement.reason,
                "value": answer.judgement.value,
                "message": answer.message,
            }
            for answer in asked.answers
        ],
    }
