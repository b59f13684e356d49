"""docs/cli.md is written from the parser itself, so that it cannot say what is not so."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from signalcanary.cli import build_parser
from signalcanary.console.options import HAND_VERBS
from signalcanary.exit_codes import describe_exit_codes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"

HEAD = """\
# The command line

Written by `make docs` from the parser itself. `signalcanary VERB --help` says the same.

`pip install 'signalcanary[console]'` brings what the verbs for a cluster need. As
`kubectl-signalcanary` is on the path too, each of them is also `kubectl signalcanary VERB`. They
find the cluster as kubectl does, by `--kubeconfig`, `--context` and `--namespace`; `status`,
`explain`, `history`, `watch` and `report` only read, with the rights of the ClusterRole `view`.

```console
$ signalcanary status -A                          # how all of them stand
$ signalcanary explain ofi-cvd-fusion             # why, and what would have changed it
$ signalcanary watch ofi-cvd-fusion               # a live screen; lines where there is no terminal
$ signalcanary dashboard -A                       # a local web page of all of it (dashboard.md)
$ signalcanary status ofi-cvd-fusion || echo $?   # 3: degraded, 4: held
$ kubectl port-forward -n monitoring svc/prometheus 9090 &
$ signalcanary report ofi-cvd-fusion -o html --prometheus http://127.0.0.1:9090 --file report.html
```

In tables `VALUE` is the figure of the test window, which swings by chance, and `SURELY` where the
true one lies, but for the chance that `rollback.errorRate` allows and however often one looks: by
all rows since the start or, of what is breached, by the rows of late. `EFFECTIVE` is how many
independent rows the `ROWS` are worth, as labels overlap; `WORST` the worst verdict of all symbols.

Health is one word: `Healthy`; `Progressing`; `Held`, where a rollout does not go on until somebody
or something does what it waits for; `Degraded`, where it is being or was taken back, or a condition
is breached right now.

**Reports.** When a rollout ends the operator keeps its report, as JSON and as Markdown, in the
ConfigMap `NAME-report-REVISION-ATTEMPT`, which goes with the object; of each object the last ten.
[report.schema.json](report.schema.json) is its schema: fields are added, none is changed. The HTML
file needs nothing else: no network, no script, no font. Files that outlive the object, on a volume
or in a bucket: [reports.md](reports.md); `report NAME --list` says where they are.

![The calibration curve of a canary that was rolled back, and its ROC curves](pictures/report.png)

The operator keeps the curves with it, as of the decision, of at most eight symbols (those with
conditions that were not Ok first): the calibration curve, and the ROC curve of each slice, of the
canary and of what was stable beside it. They come from series that analysis exports
(`signal_reliability_…`, `signal_roc_true_positive_ratio`: [metrics.md](metrics.md)). With
`--prometheus` or `--sources` they are read anew, for any rollout that the source still remembers,
and the HTML file draws the metrics over time, too. What cannot be shown is said with its reason.

Each bin of the calibration curve comes with its rows, what they are worth in independent rows, and
a 95 % interval of the true share (Wilson's, on the independent rows). It holds for one look, so it
is for eyes: nothing is judged by it ([why](designs/004-evidence.md)). The bins are those of the
judged ECE, and explain it to the last digit if they are of the same rows: a report of analysis may
be some seconds older than its values.

**Completion.** `source <(signalcanary completion bash)`; for zsh put the output of `signalcanary
completion zsh` into a file `_signalcanary` on the `fpath`; for fish
`signalcanary completion fish > ~/.config/fish/completions/signalcanary.fish`.
"""


def verbs_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    (verbs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for choice in verbs._choices_actions:
        yield choice.dest, choice.help or "", verbs.choices[choice.dest]


def row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """One argument, as a row of a table."""
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    shown = action.metavar or ("" if action.option_strings else action.dest.upper())
    name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{shown}`"
    if action.option_strings and action.nargs != 0:
        name += f" {shown}" if shown else f": {choices}" if choices else f" {action.dest.upper()}"
    elif choices:
        name += f": {choices}"
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    return f"| {name} | {text} |"


def page() -> str:
    codes = describe_exit_codes().rstrip().splitlines()[1:]
    lines = [HEAD, "## Exit codes", "", "```text", *codes, "```"]
    for name, text, parser in verbs_of(build_parser()):
        lines += ["", f"## signalcanary {name}", "", f"{text[0].upper()}{text[1:]}.", ""]
        shown = [a for a in parser._actions if a.dest != "help" and a.help is not argparse.SUPPRESS]
        if shown:
            lines += ["| argument | |", "|---|---|"]
            lines += [row(action, parser) for action in shown]
    return "\n".join(lines) + "\n"


def test_the_page_is_in_step_with_the_parser() -> None:
    text = page()
    if os.environ.get("SIGNALCANARY_WRITE_DOCS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run make docs"


def test_help_of_a_verb_has_its_own_exit_codes_and_no_others() -> None:
    helps = {
        name: " ".join(parser.format_help().split()) for name, _, parser in verbs_of(build_parser())
    }
    assert "held: it waits for a person" in helps["status"]
    assert " 3 rolled back" not in helps["lint"]
    assert " 3 rolled back" in helps["watch"]
    assert "the metrics source cannot be read" in helps["lint"]
    assert "--fail-on-rollback, or too many" in helps["backtest"]
    assert "--fail-on-rollback" not in helps["run"]
    for verb in HAND_VERBS:
        assert "refused, or not answered" in helps[verb]


def test_every_verb_and_every_argument_says_what_it_is_for() -> None:
    for name, text, parser in verbs_of(build_parser()):
        assert text, name
        for action in parser._actions:
            assert action.help or action.choices or action.metavar, (name, action.dest)
