"""What is mistyped is refused, and the error says what may have been meant."""

from __future__ import annotations

import pytest

from signalcanary.cli import main


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("statsu", "there is no verb statsu: did you mean status?"),
        ("promte demo", "there is no verb promte: did you mean promote?"),
        ("rolback demo --to=v1", "there is no verb rolback: did you mean rollback"),
        ("--verson", "instead of --verson did you mean --version?"),
        ("status --namespce trading", "instead of --namespce did you mean --namespace?"),
        ("report demo --outptu=html", "instead of --outptu did you mean --output?"),
        ("promote demo --resaon=tested", "instead of --resaon did you mean --reason?"),
        ("backtest f --dta x --strat y", "instead of --strat did you mean --start?"),
        ("operator --metrics-sorces=f", "did you mean --metrics-sources?"),
        # Nothing is like it: all that there are.
        ("zzz", "invalid choice: 'zzz'"),
        ("status --zzz", "unrecognized arguments: --zzz\n"),
        ("status one two", "unrecognized arguments: two\n"),
    ],
)
def test_a_mistyped_line_ends_with_code_2_and_what_was_meant(
    line: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGNALCANARY_WORKLOADS_IMAGE", "w")
    monkeypatch.setenv("SIGNALCANARY_PROMETHEUS_URL", "http://prometheus:9090")
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert hint in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_the_beginning_of_an_option_is_still_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--vers"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("signalcanary ")
