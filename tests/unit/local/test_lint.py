"""What the linter says of what people write."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from signalcanary.api import MAX_NAME_LENGTH
from signalcanary.cli import main
from signalcanary.lint import check
from signalcanary.lint_order import Together, check_together
from signalcanary.outlook import describe

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    if "kind: SignalCanary" in path.read_text()
]
GOOD = """\
apiVersion: signalcanary.dev/v1alpha1
kind: SignalCanary
metadata:
  name: ofi
spec:
  version: v1
  symbols:
    canary: [BTCUSDT]
    full: [BTCUSDT, ETHUSDT]
"""


def problems(text: str) -> list[str]:
    return [problem.describe("f") for problem in check(text).problems]


@pytest.mark.parametrize("path", EXAMPLES, ids=[p.stem for p in EXAMPLES])
def test_every_example_is_a_good_manifest(path: Path) -> None:
    assert problems(path.read_text()) == []


def test_there_are_examples() -> None:
    assert {"quickstart", "v1", "v2", "v3"} <= {path.stem for path in EXAMPLES}


def test_a_good_manifest_gives_its_spec_with_all_defaults() -> None:
    (one,) = check(GOOD).found
    assert (one.name, one.namespace) == ("ofi", "default")
    assert one.spec is not None
    assert one.spec.symbols.full == ("BTCUSDT", "ETHUSDT")
    assert len(one.spec.rollback.conditions) == 3


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        pytest.param(
            "  signal: {fusion: {active: {ofi: .nan, cvd: 0.3}}}",
            "f:10: spec.signal.fusion.active.ofi: is nan",
            id="not a number",
        ),
        pytest.param(
            "  rollback: {conditions: [{metric: platt_ece, above: .inf}]}",
            "f:10: spec.rollback.conditions[0].above: is inf",
            id="infinity",
        ),
        pytest.param(
            "  signal: {fusion: {active: {ofi: 0.7, cvd: 0.7}}}",
            "f:10: spec.signal.fusion.active: the weights ofi and cvd must sum to 1, not 1.4",
            id="weights",
        ),
        pytest.param(
            "  signal: {cvd: {mad_multiplier: 2}}",
            "f:10: spec.signal.cvd.mad_multiplier: unknown field: did you mean madMultiplier?",
            id="snake case",
        ),
        pytest.param(
            "  stagez: []", "f:10: spec.stagez: unknown field: did you mean stages?", id="typo"
        ),
        pytest.param(
            "  zzz: 1",
            "f:10: spec.zzz: unknown field: write one of after, evaluation,",
            id="unknown",
        ),
        pytest.param(
            "  stages: [{name: a, duration: 5 min}]",
            "f:10: spec.stages[0].duration: '5 min' is not a duration: write a duration such as",
            id="duration in words",
        ),
        pytest.param(
            "  stages: [{name: a, duration: 300}]",
            "f:10: spec.stages[0].duration: is the number 300; write a duration such as",
            id="duration without unit",
        ),
        pytest.param(
            "  stages: []", "f:10: spec.stages: is empty: write at least one", id="no stage"
        ),
        pytest.param("  stages:", "f:10: spec.stages: is empty: write a list", id="null"),
        pytest.param(
            "  stages: [{name: a}]", "f:10: spec.stages[0].duration: is missing", id="missing"
        ),
        pytest.param(
            "  rollback: {conditions: [{metric: platt_ecee, above: 1}]}",
            "f:10: spec.rollback.conditions[0]: unknown metric 'platt_ecee': write one of",
            id="metric",
        ),
        pytest.param(
            "  rollback: {conditions: [{metric: platt_ece}]}",
            "f:10: spec.rollback.conditions[0]: platt_ece: write exactly one of above and below",
            id="no bound",
        ),
        pytest.param(
            "  rollback: {conditions: [{metric: platt_ece, below: 0.05}]}",
            "f:10: spec.rollback.conditions[0]: platt_ece: this metric is bad when it is high: "
            "write above",
            id="the good direction",
        ),
        pytest.param(
            "  rollback: {conditions: [{metric: slice_auc_active_period, above: 0.55}]}",
            "f:10: spec.rollback.conditions[0]: slice_auc_active_period: a high AUC is good: "
            "write below",
            id="the good direction of an AUC",
        ),
        pytest.param(
            "  signal: {cvd: {autoFlip: 'yes'}}",
            "f:10: spec.signal.cvd.autoFlip: is the text 'yes'; write true or false",
            id="not a boolean",
        ),
        pytest.param(
            "  evaluation: {onNoData: Shrug}",
            "f:10: spec.evaluation.onNoData: write 'Rollback' or 'Hold'",
            id="enum",
        ),
        pytest.param("  version: v2", "f:10: spec.version: stands here twice", id="twice"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_write(addition: str, expected: str) -> None:
    found = problems(f"{GOOD}{addition}\n")
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("v1\n", "2.0\n", 'f:6: spec.version: is the number 2.0; put it in quotes: "2.0"'),
        (
            "name: ofi",
            "name: My_Signal",
            f"f:4: metadata.name: write a name of at most {MAX_NAME_LENGTH}",
        ),
        ("/v1alpha1", "/v2", "f:1: apiVersion: write apiVersion: signalcanary.dev/v1alpha1"),
        (
            "canary: [BTCUSDT]",
            "canary: [btcusdt]",
            "f:8: spec.symbols.canary[0]: write a symbol as the exchange does",
        ),
        (
            "canary: [BTCUSDT]",
            "canary: [XRPUSDT]",
            "f:7: spec.symbols: every symbol in canary must also be in full: add XRPUSDT",
        ),
    ],
)
def test_a_wrong_value_is_told_as_the_api_server_would(old: str, new: str, expected: str) -> None:
    found = problems(GOOD.replace(old, new))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("version: v1", "version: 2.0").replace("[BTCUSDT]", "[btcusdt]")
    found = problems(f"{text}  foo: 1\n")
    assert [line.split(":")[1] for line in found] == ["6", "8", "10"]


def test_documents_of_other_kinds_are_left_alone() -> None:
    other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: quant}\n---\n"
    report = check(f"{other}{GOOD}---\n{GOOD.replace('ofi', 'cvd')}---\n")
    assert report.problems == ()
    assert [one.name for one in report.found] == ["ofi", "cvd"]


def test_a_file_of_other_kinds_alone_is_no_mistake() -> None:
    report = check("apiVersion: apps/v1\nkind: Deployment\n")
    assert (report.found, report.problems) == ((), ())


def test_a_mistake_in_the_second_document_has_the_line_of_the_file() -> None:
    assert problems(f"{GOOD}---\n{GOOD}  foo: 1\n")[0].startswith("f:20: spec.foo:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "kind: SignalCanry",
        "apiVersion: signalcanary.dev/v1alpha1\nkind: Foo",
        "a: [",
        "- 1",
        "just words",
        "kind: SignalCanary",
        "a: 2026-13-45",
        "{a: 1, [b]: 2}",
        "? {a: 1}\n: 2\n",
        "\x00",
        "kind: [a]",
        "kind: SignalCanary\nspec: &x {symbols: *x}",
        "a: &x [*x]\nkind: SignalCanary",
        "a: !!python/object:os.system {}",
        "kind: SignalCanary\nspec: {1: 2}\nmetadata: {1: 2}\n2: 3",
        "kind: SignalCanary\nspec: {symbols: {canary: {a: b}}}\nmetadata: [1]",
    ],
)
def test_whatever_is_written_ends_in_words_not_in_a_traceback(text: str) -> None:
    found = problems(text)
    assert found
    assert all(line.startswith("f:") for line in found)


SCHEDULED = (
    GOOD
    + """\
  schedule:
    startAt: 2026-12-04T08:00:00Z
    timeZone: Europe/London
    allowed: [{days: [Mon, Tue, Wed, Thu, Fri], from: 09:00, to: 17:30}]
    blackouts: [{start: 2026-12-07T00:00:00Z, end: 2026-12-08T00:00:00Z}]
  stages:
  - {name: shadow, duration: 1h}
  - {name: canary, duration: 48h}
"""
)


def test_times_are_read_as_kubectl_reads_them() -> None:
    """To YAML 1.1 17:30 is a number of base 60, and an instant a date; kubectl has texts."""
    (checked,) = check(SCHEDULED).found
    assert checked.spec is not None
    assert checked.spec.to_wire()["schedule"]["allowed"][0]["to"] == "17:30"
    assert checked.spec.to_wire()["schedule"]["startAt"] == "2026-12-04T08:00:00Z"


def test_a_schedule_is_laid_out_and_one_that_can_never_end_is_said_to() -> None:
    (checked,) = check(SCHEDULED).found
    assert checked.spec is not None
    now = datetime(2026, 11, 21, tzinfo=UTC)
    told = [
        line.removeprefix("at the earliest, by the schedule: ")
        for line in describe(checked.spec, now)
    ]
    assert told == [
        "starts: Fri 2026-12-04 09:00 UTC",
        "begins stage shadow: Fri 2026-12-04 11:30:10 UTC",
        "begins stage canary: Fri 2026-12-04 12:30:10 UTC",
        "is promoted: Tue 2026-12-08 09:00 UTC, 44h29m after it could",
    ]
    saturdays = "48h, schedule: {allowed: [{days: [Sat], from: 10:00, to: 12:00}]}"
    (checked,) = check(SCHEDULED.replace("48h", saturdays)).found
    assert checked.spec is not None
    last = describe(checked.spec, now)[-1]
    assert "is promoted: NEVER, as its windows and stage canary's do not open" in last
    (checked,) = check(GOOD).found
    assert checked.spec is not None
    assert describe(checked.spec, now) == []


# --------------------------------------------------------------------------- several at once


def manifest(name: str, *lines: str, namespace: str = "default") -> str:
    text = GOOD.replace("name: ofi", f"name: {name}\n  namespace: {namespace}")
    return text + "".join(f"  {line}\n" for line in lines)


def beside(*texts: str) -> list[Together]:
    return check_together([one for text in texts for one in check(text).found])


def test_a_ring_over_several_files_is_an_error_in_each_that_names_it() -> None:
    found = beside(
        manifest("a", "after: [b]"),
        manifest("b", "group: {name: g}", "after: [c, d]"),
        manifest("c", "after: [a]"),
        manifest("d"),
    )
    said = [[p.describe("f") for p in one.problems] for one in found]
    ring = "spec.after: the order goes in a ring"
    assert said == [
        [f"f:11: {ring}: a after b after c after a: take one of them out"],
        [f"f:12: {ring}: b after c after a after b: take one of them out"],
        [f"f:11: {ring}: c after a after b after c: take one of them out"],
        [],
    ]


def test_a_ring_is_of_one_namespace() -> None:
    a, b = manifest("a", "after: [b]"), manifest("b", "after: [a]", namespace="other")
    assert [one.problems for one in beside(a, b)] == [(), ()]
    assert "which is in none of these files" in beside(a, b)[0].notes[0]


def test_itself_is_the_smallest_ring() -> None:
    (one,) = beside(manifest("a", "after: [a]"))
    assert one.problems[0].message.startswith("the order goes in a ring: a after a")


def test_what_is_missing_is_told_and_no_mistake() -> None:
    one, other = beside(manifest("a", "after: [b, features]"), manifest("b", "group: {name: desk}"))
    assert one.notes == (
        "comes after features, which is in none of these files: it does not start before "
        "namespace default has a features that is Succeeded",
    )
    assert other.notes == (
        "group desk: nobody else in these files is of it: it goes with those of namespace default "
        "that are",
    )
    assert not one.problems + other.problems


def test_a_file_with_mistakes_is_there_all_the_same() -> None:
    found = beside(manifest("a", "after: [b]"), manifest("b", "stagez: []"))
    assert found == [Together((), ()), Together((), ())]


def test_one_pace_holds_for_a_group() -> None:
    one, other = beside(
        manifest("a", "group: {name: g}"), manifest("b", "group: {name: g, pace: InTurn}")
    )
    assert one.notes == ("group g: b says pace: InTurn, which holds for all of it",)
    assert other.notes == ()


def test_a_folder_is_what_kubectl_would_apply_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "manifests"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.yml").write_text(manifest("b", "after: [a]"))
    (folder / "a.yaml").write_text(manifest("a", "after: [b]"))
    (folder / "README.md").write_text("none")
    (folder / "deeper" / "c.yaml").write_text("none")
    (tmp_path / "empty").mkdir()
    assert main(["lint", str(folder), str(tmp_path / "empty")]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  ")]
    ring = "the order goes in a ring"
    assert said == [
        f"{folder}/a.yaml:11: spec.after: {ring}: a after b after a: take one of them out",
        f"{folder}/b.yml:11: spec.after: {ring}: b after a after b: take one of them out",
        f"{tmp_path}/empty: no manifest in this folder: none ends in .json, .yaml, .yml",
    ]
