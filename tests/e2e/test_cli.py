"""The command line as people call it: a process, its output and its exit code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from signalcanary import __version__

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "examples" / "quickstart.yaml"
HEAVY = ("kopf", "zmq", "kubernetes", "numpy", "pyarrow", "aiohttp", "rich", "pydantic")


def signalcanary(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "signalcanary", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_verb_and_the_exit_codes() -> None:
    done = signalcanary("--help")
    assert done.returncode == 0
    for verb in ("demo", "run", "lint", "backtest", "crd", "signals", "operator", "status"):
        assert re.search(rf"^ +{verb} ", done.stdout, re.MULTILINE)
    assert "exit codes:" in done.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("--version",)])
def test_help_comes_without_importing_anything_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "signalcanary", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")
    }
    assert "argparse" in imported
    assert imported.isdisjoint(HEAVY)


def test_linting_imports_neither_kopf_nor_kubernetes_nor_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "signalcanary", "lint", str(GOOD)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")
    }
    assert imported.isdisjoint({"kopf", "kubernetes", "numpy", "pyarrow", "aiohttp"})


def test_version_is_the_package_s() -> None:
    assert signalcanary("--version").stdout == f"signalcanary {__version__}\n"


def test_no_verb_is_a_usage_error() -> None:
    done = signalcanary()
    assert done.returncode == 2
    assert "VERB" in done.stderr


def test_lint_passes_every_good_example() -> None:
    files = [str(GOOD), *(str(p) for p in sorted((ROOT / "examples" / "demo").glob("v*.yaml")))]
    done = signalcanary("lint", *files)
    assert done.returncode == 0, done.stdout
    assert f"{GOOD}: ofi-cvd-fusion: ok\n" in done.stdout


def test_lint_fails_on_a_bad_file_and_still_checks_the_others(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.read_text().replace("version: v2.0-prod", "version: 2.0"))
    done = signalcanary("lint", str(bad), str(GOOD), str(tmp_path / "none.yaml"))
    assert done.returncode == 1
    assert "spec.version: is the number 2.0; put it in quotes" in done.stdout
    assert f"{GOOD}: ofi-cvd-fusion: ok" in done.stdout
    assert "none.yaml: No such file or directory" in done.stdout
    assert "Traceback" not in done.stderr


def test_lint_reads_standard_input() -> None:
    assert signalcanary("lint", "-", stdin=GOOD.read_text()).stdout == "-: ofi-cvd-fusion: ok\n"


def test_lint_of_something_that_is_no_text_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    done = signalcanary("lint", str(file))
    assert done.returncode == 1
    assert done.stderr == ""


def test_crd_prints_what_the_generator_makes() -> None:
    from signalcanary.crd import render_crd

    assert signalcanary("crd").stdout == render_crd()


@pytest.mark.parametrize(
    ("verb", "missing", "extra"), [("demo", "pyarrow", "local"), ("operator", "kopf", "operator")]
)
def test_a_missing_extra_is_named(verb: str, missing: str, extra: str) -> None:
    # None in sys.modules makes an import fail as if the package were not there.
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from signalcanary.cli import main\n"
        f"sys.exit(main([{verb!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"signalcanary {verb} needs {missing}, which is not installed: "
        f"pip install 'signalcanary[{extra}]'\n"
    )


def test_run_refuses_a_bad_manifest_in_words(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("kind: SignalCanary\n")
    done = signalcanary("run", str(file))
    assert done.returncode == 1
    assert "spec: is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_there_is_not_is_told(port: str) -> None:
    done = signalcanary("dashboard", f"--port={port}")
    assert done.returncode == 2
    assert "argument --port: " in done.stderr
    assert "Traceback" not in done.stderr


def test_run_refuses_a_speed_that_is_none() -> None:
    done = signalcanary("run", str(GOOD), "--speed", "nan")
    assert done.returncode == 2
    assert "must be greater than 0" in done.stderr


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_lint_tells_programs_what_it_tells_people(tmp_path: Path, output: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.read_text().replace("version: v2.0-prod", "version: 2.0"))
    done = signalcanary("lint", str(bad), str(GOOD), str(tmp_path / "none.yaml"), "-o", output)
    assert done.returncode == 1
    told = yaml.safe_load(done.stdout)  # JSON is YAML
    assert told["ok"] is False
    wrong, good, absent = told["files"]
    assert wrong["problems"][0]["where"] == "spec.version"
    assert (good["problems"], good["found"][0]["name"]) == ([], "ofi-cvd-fusion")
    assert absent["problems"][0]["message"] == "No such file or directory"


COMPLETE = """
source "$1"
COMP_WORDS=(signalcanary $2) COMP_CWORD=$(($# - 1))
COMP_LINE="signalcanary $2" COMP_POINT=${#COMP_LINE}
_shtab_signalcanary 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_a_shell_completes_verbs_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(signalcanary("completion", "bash").stdout)

    def complete(*words: str) -> set[str]:
        text = " ".join(words)
        program = COMPLETE.replace("$(($# - 1))", str(len(words)))
        done = subprocess.run(
            ["bash", "-c", program, "bash", str(script), text],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return set(done.stdout.split())

    assert {"status", "explain", "report"} <= complete("")
    assert complete("exp") == {"explain"}
    assert "--namespace" in complete("status", "--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_that_names_every_verb(shell: str) -> None:
    text = signalcanary("completion", shell).stdout
    assert all(verb in text for verb in ("status", "watch", "report", "lint"))
