"""A model's first inferences, in a process of their own.

A model is a program of foreign making, if not foreign code: it may crash the runtime, or compute
for hours. The child has a deadline and is handed no credentials, and its end harms nobody.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Final

import numpy as np

from signalcanary.artifacts import ArtifactModel, Feature, Figures, Smoke
from signalcanary.wire import format_duration

from .inference import BadModel, Floats32, Model, is_probability

RUNS: Final = 100
FEWEST_RUNS: Final = 3
BUDGET_SECONDS: Final = 10.0
"""Slow models are run less often."""
WARM_UP_RUNS: Final = 3
START_SECONDS: Final = 30.0
"""For Python and its libraries, on a busy machine."""


def run_smoke(data: bytes, model: ArtifactModel, smoke: Smoke) -> Figures:
    """Load a model and run it on made-up rows.

    Raises:
        BadModel: it cannot be used as declared, is too slow, or gives what is no probability.
        ModuleNotFoundError: onnxruntime is not there.
    """
    max_load, max_inference = smoke.max_load, smoke.max_inference
    seconds = START_SECONDS + BUDGET_SECONDS + max_load.total_seconds()
    seconds += (WARM_UP_RUNS + FEWEST_RUNS) * max_inference.total_seconds()
    without_keys = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, model.model_dump_json()],
            input=data,
            capture_output=True,
            timeout=seconds,
            env=without_keys,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadModel(f"it was not done after {seconds:.0f} s") from error
    if done.returncode < 0:
        raise BadModel(f"the process was ended by {signal.Signals(-done.returncode).name}")
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BadModel(f"the process ended: {said[-1] if said else done.returncode}") from error
    if "missing" in found:
        raise ModuleNotFoundError(found["missing"])
    if "problem" in found:
        raise BadModel(found["problem"])
    figures = Figures(name=model.name, **found)
    for what, took_ms, limit in (
        ("loading it", figures.load_ms, max_load),
        ("a row, at the 99th percentile,", figures.p99_ms, max_inference),
    ):
        if took_ms > limit.total_seconds() * 1e3:
            told = f"{what} took {took_ms:.3g} ms of CPU; {format_duration(limit)} is allowed"
            raise BadModel(told)
    return figures


def make_rows(model: ArtifactModel) -> list[Floats32]:
    """Rows as analysis gives them: scores about 0 with a spread of 1, shares, probabilities."""
    random = np.random.default_rng(0)
    shape = (RUNS, model.window, len(model.inputs))
    rows = random.normal(size=shape).clip(-8, 8)
    regime = random.integers(0, 3, shape[:2])
    for column, name in enumerate(model.inputs):
        if name in (Feature.ACTIVE, Feature.QUIET):
            rows[:, :, column] = regime == (name == Feature.QUIET)
        elif name not in set(Feature):
            rows[:, :, column] = random.uniform(0.2, 0.8, shape[:2])
    return list(rows.astype(np.float32))


def _measure(data: bytes, declared: ArtifactModel) -> dict[str, Any]:
    """Time is the CPU's: how long a model had to wait for it says nothing of the model, and no
    good one may be refused because the node was busy."""
    import onnxruntime  # noqa: F401 - its own loading is not the model's

    began = time.process_time()
    model = Model(data, declared)
    load_ms = (time.process_time() - began) * 1e3
    rows = make_rows(declared)
    first = [model.answer(rows[0]) for _ in range(WARM_UP_RUNS)]
    took_ms: list[float] = []
    answers: list[float] = []
    for row in rows:
        before = time.process_time()
        answers.append(model.answer(row))
        took_ms.append((time.process_time() - before) * 1e3)
        if len(took_ms) >= FEWEST_RUNS and sum(took_ms) > BUDGET_SECONDS * 1e3:
            break
    for answer in answers:
        if not is_probability(answer):
            raise BadModel(f"it gives {answer:g} on ordinary values, which is no probability")
    if len({*first, answers[0]}) > 1:
        raise BadModel("it gives different answers to the same row")
    p50_ms, p99_ms = np.percentile(took_ms, (50, 99), method="higher").tolist()
    return {"load_ms": load_ms, "p50_ms": p50_ms, "p99_ms": p99_ms}


def main() -> None:
    """The child: the model on standard input, figures or a problem on standard output."""
    try:
        declared = ArtifactModel.model_validate_json(sys.argv[1])
        found = _measure(sys.stdin.buffer.read(), declared)
    except BadModel as error:
        found = {"problem": str(error)}
    except ModuleNotFoundError as error:
        found = {"missing": error.name}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
