"""The command line: ``signalcanary VERB``.

Each verb imports what it needs when it is asked for: help must come at once, and must not fail
because an extra is not installed. A user's mistake ends in a sentence, never in a traceback.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from signalcanary import __version__
from signalcanary.console.options import HAND_VERBS, add_hand_options
from signalcanary.exit_codes import describe_exit_codes
from signalcanary.mistyped import parse

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_START: Final = """\
to begin with:
  signalcanary demo              no cluster, two minutes: a promotion and a rollback
  signalcanary lint FILE         what is wrong with a manifest, and what it can prove
  signalcanary status -A         how all rollouts of a cluster stand

"""

_EXTRA: Final = {
    "lint": "operator",
    "demo": "local",
    "run": "local",
    "operator": "operator",
    "signals": "signals",
    "backtest": "backtest",
    "status": "console",
    "watch": "console",
    "dashboard": "console",
    "report": "console",
    "explain": "console",
    "completion": "console",
    "history": "console",
    "notify-test": "operator",
    **dict.fromkeys(HAND_VERBS, "console"),
}
"""What to install for a verb; the others need nothing."""


_USED_BY_CHILDREN: Final = ("msgspec", "numpy", "pyarrow", "rich", "websockets")
"""Packages that would be missed only later, by a process that says so less clearly."""


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    return _build()[0]


def _build() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of the verbs."""
    parser = argparse.ArgumentParser(
        prog="signalcanary",
        description="Rolls a trading-signal configuration out beside the stable one, judges it "
        "on live evidence, and promotes it or takes it back.",
        epilog=_START + describe_exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog=describe_exit_codes(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    from signalcanary.console.options import add_output_option

    demo = add("demo", "watch a good signal be promoted and a bad one rolled back (2 min)")
    _add_local_options(demo)

    run = add("run", "roll a manifest out on this machine, without a cluster")
    run.add_argument("file", type=Path, metavar="FILE", help="manifest with one SignalCanary")
    run.add_argument(
        "--exchange",
        choices=("synthetic", "none"),
        default="none",
        help="synthetic: start a local exchange and use it instead of the manifest's source; "
        "none: use the manifest's source (default)",
    )
    run.add_argument(
        "--until",
        choices=("settled", "forever"),
        default="settled",
        help="settled: end when it is promoted or rolled back (default); forever: go on, and "
        "take the file up again whenever it changes",
    )
    run.add_argument(
        "--speed",
        type=_positive,
        default=120.0,
        help="event time over wall time of the synthetic exchange (default: %(default)s)",
    )
    _add_local_options(run)

    lint = add("lint", "check manifests and say what to write instead")
    _add_lint_options(lint)
    add_output_option(lint)

    signals = add("signals", "print the signals that are published at an address")
    signals.add_argument(
        "address",
        metavar="ADDRESS",
        help="HOST or HOST:PORT, for example ofi-cvd-fusion-signals.trading:9101",
    )
    signals.add_argument(
        "--symbol", action="append", default=[], help="only this one; may be repeated"
    )
    signals.add_argument(
        "--track",
        action="append",
        choices=("stable", "canary"),
        help="may be repeated (default: stable)",
    )
    signals.add_argument(
        "-o",
        dest="output",
        choices=("lines", "json"),
        default="lines",
        help="lines for people (default), or the messages as they came, one a line",
    )
    signals.add_argument(
        "--count", type=_count, default=0, metavar="N", help="end after N signals (default: never)"
    )

    backtest = add("backtest", "replay a manifest's policy on recorded data, and say what it does")
    _add_backtest_options(backtest)

    notify = add("notify-test", "send a test message to receivers of notifications")
    notify.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="the file of notifications (docs/notifications.md)",
    )
    notify.add_argument(
        "--receiver",
        action="append",
        default=[],
        metavar="NAME",
        help="may be repeated (default: all of them)",
    )

    _add_console_verbs(add)
    for name, text in HAND_VERBS.items():
        add_hand_options(add(name, text), name)

    completion = add("completion", "print what makes a shell complete the command line")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))

    add("crd", "print the CustomResourceDefinition, for kubectl apply -f -")
    verbs.add_parser("operator", help="run the operator (see: operator --help)", add_help=False)
    return parser, verbs.choices


def _add_lint_options(lint: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    lint.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="manifest, or folder of manifests; - is stdin",
    )
    lint.add_argument(
        "--live",
        action="store_true",
        help="ask the metrics source each condition's metric or query, as the operator would",
    )
    lint.add_argument(
        "--speed",
        type=_positive,
        metavar="N",
        default=1.0,
        help="market time over wall-clock time, for what stages can prove; a replay's, for "
        "example 120 (default: 1)",
    )
    where = lint.add_mutually_exclusive_group()
    where.add_argument(
        "--prometheus", metavar="URL", help="with --live: of the source that the manifests name"
    )
    where.add_argument(
        "--sources",
        type=Path,
        metavar="FILE",
        help="with --live: the operator's file of metrics sources (docs/metrics-sources.md)",
    )


def _add_console_verbs(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The verbs that read a cluster."""
    from signalcanary.console.options import add_cluster_options, add_output_option

    status = add("status", "how one or all SignalCanaries of a cluster stand")
    status.add_argument("name", nargs="?", metavar="NAME", help="(default: all)")
    add_output_option(status)
    add_cluster_options(status, all_namespaces=True)

    watch = add("watch", "follow a SignalCanary of a cluster on a live screen")
    watch.add_argument("name", metavar="NAME")
    watch.add_argument(
        "--until",
        choices=("forever", "settled"),
        default="forever",
        help="forever: until Ctrl-C (default); settled: end when it is promoted or rolled back",
    )
    _add_plain_option(watch)
    add_cluster_options(watch)

    dashboard = add(
        "dashboard", "a local web page of all rollouts, live, with the verbs to steer them"
    )
    dashboard.add_argument(
        "--port", type=_port, default=0, metavar="PORT", help="of 127.0.0.1 (default: a free one)"
    )
    dashboard.add_argument(
        "--prometheus",
        metavar="WHERE",
        help="draw values from before the page was opened: URL, or NAMESPACE/SERVICE:PORT to be "
        "asked through the API server",
    )
    add_cluster_options(dashboard, all_namespaces=True)

    report = add("report", "the report of a rollout: what was tried, how it ended, and why")
    report.add_argument("name", metavar="NAME")
    report.add_argument(
        "-o",
        "--output",
        choices=("md", "json", "html"),
        default="md",
        help="Markdown (default), JSON (docs/report.schema.json), or one HTML file with drawings",
    )
    report.add_argument(
        "--kept",
        metavar="REVISION-ATTEMPT",
        help="of an earlier rollout, as the operator has kept it (default: the last one)",
    )
    report.add_argument(
        "--list",
        action="store_true",
        dest="is_list",
        help="which reports are kept, and where their files are (docs/reports.md)",
    )
    report.add_argument("--file", type=Path, metavar="FILE", help="write it there")
    source = report.add_mutually_exclusive_group()
    source.add_argument(
        "--prometheus",
        metavar="URL",
        help="read from there the curves as of the decision and, for html, the metrics over time",
    )
    source.add_argument(
        "--sources",
        type=Path,
        metavar="FILE",
        help="read them from a source of the operator's file of metrics sources, with its "
        "credentials (docs/metrics-sources.md)",
    )
    report.add_argument(
        "--source", metavar="NAME", help="which of them (default: the object's metricsSource)"
    )
    report.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="html: read the metrics over time from an export or a table (docs/backtest.md)",
    )
    add_cluster_options(report)

    for name, text in (
        ("explain", "why a SignalCanary stands where it does, and why it was decided so"),
        ("history", "what has happened to a SignalCanary, and its revisions"),
    ):
        verb = add(name, text)
        verb.add_argument("name", metavar="NAME")
        add_output_option(verb)
        add_cluster_options(verb)


def _add_local_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep data, logs and the object here; a run goes on from it (default: a temporary "
        "folder, removed at the end)",
    )
    parser.add_argument(
        "--seed", type=int, default=11, help="of the synthetic market (default: %(default)s)"
    )
    _add_plain_option(parser)


def _add_plain_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plain",
        action="store_true",
        help="timestamped lines instead of a screen; so does NO_COLOR, or not being a terminal",
    )


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError("must be at most 65535; 0 is a free one")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _add_backtest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="manifest; - is stdin")
    parser.add_argument("--name", help="which SignalCanary of the manifest, if it holds several")
    data = parser.add_argument_group("recorded data (docs/backtest.md has the formats)")
    where = data.add_mutually_exclusive_group()
    where.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="an export (.json, .json.gz), or a table (.parquet, .csv) with the columns time, "
        "metric, symbol, value, samples",
    )
    where.add_argument("--prometheus", metavar="URL", help="read from a Prometheus server")
    where.add_argument(
        "--sources",
        type=Path,
        metavar="FILE",
        help="read from a source of the operator's file of metrics sources, with its credentials "
        "(docs/metrics-sources.md)",
    )
    data.add_argument(
        "--source", metavar="NAME", help="which of them (default: the manifest's metricsSource)"
    )
    data.add_argument("--start", metavar="TIME", help="2026-05-01T08:00:00Z, or now-48h")
    data.add_argument("--end", metavar="TIME", default="now", help="(default: now)")
    data.add_argument(
        "--step",
        type=_duration,
        metavar="DURATION",
        default="10s",
        help="between two samples; best the manifest's evaluation.interval (default: %(default)s)",
    )
    data.add_argument(
        "--export", type=Path, metavar="FILE", help="write what the server says, and no more"
    )
    data.add_argument(
        "--revision", help="which recorded revision (default: the manifest's, or the only one)"
    )
    null = parser.add_argument_group(
        "error rates: --null draws histories instead, from a simulated signal, or in blocks from "
        "recorded data if it is given"
    )
    null.add_argument(
        "--null",
        action="store_true",
        help="estimate how often a healthy canary is rolled back in 48 h",
    )
    null.add_argument("--runs", type=_count, default=400, metavar="N", help="(default: 400)")
    null.add_argument("--seed", type=int, default=1, help="(default: 1)")
    null.add_argument("--auc", type=float, default=0.58, help="of the signal (default: 0.58)")
    null.add_argument(
        "--ar", type=float, default=0.9, help="its autocorrelation a second (default: 0.9)"
    )
    null.add_argument(
        "--horizon", type=_duration, metavar="DURATION", help="(default: the manifest's label)"
    )
    null.add_argument(
        "--fitted",
        action="store_true",
        help="probabilities of Platt fits, with their errors, instead of the true ones",
    )
    null.add_argument(
        "--decay",
        action="append",
        default=[],
        metavar="WHAT",
        help="also the delay until this is found: auc=0.50, ece=0.15, flip; may be repeated",
    )
    null.add_argument("--hours", type=_positive, default=48.0, help="of each history (default: 48)")
    null.add_argument(
        "--look", type=_duration, default="60s", metavar="DURATION", help="(default: 60s)"
    )
    null.add_argument(
        "--block", type=_duration, metavar="DURATION", help="of data (default: 4 test windows)"
    )
    null.add_argument(
        "--max-false-rollbacks",
        type=float,
        metavar="RATE",
        help="exit with 1 if the rate may be greater: by its upper 95 %% limit",
    )
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text")
    out.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture: .svg, .png or .pdf")
    out.add_argument("--fail-on-rollback", action="store_true", help="exit with 1 on a rollback")


def _duration(text: str) -> timedelta:
    from signalcanary.contract import parse_duration

    try:
        value = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if value <= timedelta(0):
        raise argparse.ArgumentTypeError("must be longer than 0s")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["operator"]:
        # Its options are its own.
        return _guarded("operator", lambda: _operator(arguments[1:]))
    parser, verbs = _build()
    args = parse(parser, arguments, verbs)
    verb: str = args.verb
    return _guarded(verb, lambda: _VERBS[verb](args))


def _guarded(verb: str, run: Callable[[], int]) -> int:
    try:
        return run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("signalcanary") or verb not in _EXTRA:
            raise
        print(
            f"signalcanary {verb} needs {missing}, which is not installed: "
            f"pip install 'signalcanary[{_EXTRA[verb]}]'",
            file=sys.stderr,
        )
        return USAGE
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has had enough of it.
        sys.stderr.close()
        return FAILED


def _demo(args: argparse.Namespace) -> int:
    from signalcanary.local.demo import run_demo

    return _run_locally(args.data, lambda data: run_demo(data, args.plain, args.seed))


def _run(args: argparse.Namespace) -> int:
    from signalcanary.local.run import RunOptions, run_file

    def main(data: Path) -> Awaitable[int]:
        options = RunOptions(
            args.file, args.exchange, args.until, data, args.plain, args.speed, args.seed
        )
        return run_file(options)

    return _run_locally(args.data, main)


def _run_locally(data: Path | None, main: Callable[[Path], Awaitable[int]]) -> int:
    for package in _USED_BY_CHILDREN:
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)

    from signalcanary.local.run import RunError, run_until_done

    async def in_folder() -> int:
        # The folder is removed in here, where a second Ctrl-C cannot leave half of it behind.
        with ExitStack() as stack:
            folder = data
            if folder is None:
                temporary = tempfile.TemporaryDirectory(prefix="signalcanary-")
                folder = Path(stack.enter_context(temporary))
            folder.mkdir(parents=True, exist_ok=True)
            return await main(folder.resolve())

    try:
        return run_until_done(in_folder)
    except (RunError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED


def _lint(args: argparse.Namespace) -> int:
    from signalcanary.lint_command import run_lint

    return run_lint(args)


def _signals(args: argparse.Namespace) -> int:
    from signalcanary.consumer import Options, follow
    from signalcanary.contract import Track

    tracks = [Track(name) for name in args.track or ["stable"]]
    options = Options(args.address, tracks, args.symbol, args.output == "json", args.count)
    try:
        follow(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def _backtest(args: argparse.Namespace) -> int:
    from signalcanary.backtest.command import run_backtest

    return run_backtest(args)


def _notify_test(args: argparse.Namespace) -> int:
    from signalcanary.notify.command import run_test

    return run_test(args.config, args.receiver)


def _console(args: argparse.Namespace) -> int:
    from signalcanary.console.command import VERBS, run

    return run(VERBS[args.verb], args)


def _report(args: argparse.Namespace) -> int:
    from signalcanary.console.report_command import run_report

    return run_report(args)


def _watch(args: argparse.Namespace) -> int:
    from signalcanary.console.watch import run_watch

    return run_watch(args)


def _dashboard(args: argparse.Namespace) -> int:
    from signalcanary.dashboard.command import run_dashboard

    return run_dashboard(args)


def _hand(args: argparse.Namespace) -> int:
    from signalcanary.console.hand import run

    return run(args)


def _crd(args: argparse.Namespace) -> int:
    from signalcanary.crd import render_crd

    print(render_crd(), end="")
    return OK


def _completion(args: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(build_parser(), shell=args.shell))
    return OK


def _operator(arguments: Sequence[str]) -> int:
    from signalcanary.operator import main as operator_main

    return operator_main(arguments)


_VERBS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "demo": _demo,
    "run": _run,
    "lint": _lint,
    "backtest": _backtest,
    "crd": _crd,
    "completion": _completion,
    "signals": _signals,
    "status": _console,
    "watch": _watch,
    "dashboard": _dashboard,
    "report": _report,
    "explain": _console,
    "history": _console,
    **dict.fromkeys(HAND_VERBS, _hand),
    "notify-test": _notify_test,
}
