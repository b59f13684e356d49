"""The fields of a status, explained, as the CRD has them. Pure.

The API server drops what is not here. Nothing is required: what is None or empty is left out.
"""

from __future__ import annotations

from typing import Any

_TIME = {"type": "string", "format": "date-time"}


def _object(description: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "number", "description": description}


def _integer(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


def _time(description: str) -> dict[str, Any]:
    return {**_TIME, "description": description}


def _list_of(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


def _clock(description: str) -> dict[str, Any]:
    return _object(
        description,
        startedAt=_time("When the clock was started."),
        blindSeconds=_number("Time since then that does not count, as nothing could be judged."),
        blindSince=_time("Since when the clock stands still; absent while it runs."),
    )


def _hand() -> dict[str, Any]:
    word = {
        "by": _text("Who, as the client says; the API server's audit log knows for certain."),
        "reason": _text("Why, in the person's words."),
        "time": _time("When the operator saw it."),
    }
    answer = {
        "verb": _text("What was asked for."),
        "id": _text("Of the command; it is not done again."),
        "about": _text("The attempt, and the stage or revision."),
        **word,
        "phase": _text("In which it was done or refused."),
        "outcome": _text("Done or Refused."),
        "refusal": _text("Why it was refused, in one CamelCase word; empty if it was not."),
        "message": _text("What was done, or what to do instead."),
    }
    approval = {"stage": _text("The stage."), **word}
    return _object(
        "What people have said that still holds, and what they were answered.",
        pause=_object("While it is paused.", **word),
        approvals=_list_of(_object("A stage that may end.", **approval), "Approved stages."),
        skip=_object("The present stage is over on this word.", **word),
        promote=_object("The promotion waits for no evidence, on this word.", **word),
        answers=_list_of(_object("What became of a command.", **answer), "Newest first."),
    )


def build_status_schema() -> dict[str, Any]:
    """The structural schema of ``status``."""
    revision = _object(
        "A revision of the configuration, kept as a ControllerRevision.",
        name=_text("Name of the revision, the label `revision` of its metrics."),
        version=_text("The user's name for it (spec.version)."),
        fingerprint=_text("Canonical hash of everything that changes the signal."),
        attempt=_integer("Generation of the spec that brought it here."),
    )
    condition = _object(
        "A rollback condition on this symbol.",
        condition=_text("The condition in words."),
        key=_text("The condition's key, for example platt_ece>0.1."),
        verdict=_text("Ok, Unproven, Breached, Inconclusive, NoData or Error."),
        tier=_text(
            "Of a condition with warning or critical: Normal, Warning, Critical, or Rollback where "
            "it is breached."
        ),
        reason=_text("Why, in one CamelCase word."),
        value=_number("The value last seen. Unit: the metric's own."),
        threshold=_number("The bound. Unit: the metric's own."),
        samples=_integer("Labelled rows behind the value."),
        effectiveSamples=_integer("Independent rows that would leave the value as unsure."),
        evidence=_object(
            "What the value surely is, at however many looks; absent where the value itself was "
            "judged.",
            level=_number("Chance, in 48 h, that a bound fails. Unit: probability."),
            atLeast=_number("By the rows of late. Unit: the metric's own."),
            atMost=_number("By the rows of late. Unit: the metric's own."),
            wholeAtLeast=_number("By all rows since the start. Unit: the metric's own."),
            wholeAtMost=_number("By all rows since the start. Unit: the metric's own."),
        ),
        breachedFor=_text("How long the breach has held, without blind time."),
        allowedFor=_text("How long it may hold before the rollback."),
        consecutive=_integer(
            "At how many evaluations in a row it must be seen before that; if missing, at one."
        ),
        message=_text("The verdict in words."),
    )
    decided_on = {
        **condition,
        "properties": {"symbol": _text("The symbol."), **condition["properties"]},
    }
    standard_condition = {
        **_object(
            "A condition by the Kubernetes API conventions.",
            type=_text(
                "Promoted, RolledBack, Progressing, Ready, Reconciling, Stalled, Degraded, Paused, "
                "ApprovalNeeded, Overdue, Waiting or MetricsAvailable."
            ),
            status={**_text("Whether it holds."), "enum": ["True", "False", "Unknown"]},
            reason=_text("Why, in one CamelCase word."),
            message=_text("Why, in words."),
            lastTransitionTime=_time("When status last changed."),
            observedGeneration=_integer("The generation of the spec this was said of."),
        ),
        "required": ["type", "status"],
    }
    conditions = {
        **_list_of(standard_condition, "What kubectl wait and GitOps tools read."),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    return _object(
        "What the operator saw, decided and will do next; written by it alone.",
        observedGeneration=_integer("The generation of the spec that this status is about."),
        phase=_text(
            "Waiting, Verifying, Pending, Warming, Progressing, Promoting, Soaking, Succeeded, "
            "RollingBack, VerifyingRollback or RolledBack."
        ),
        phaseSince=_time("When the phase was entered."),
        phaseClock=_clock(
            "How long the phase, or its stage, has gone on towards evaluation.deadline; it runs "
            "only while the metrics source can be read."
        ),
        reason=_text("Why this phase, in one CamelCase word."),
        message=_text("What is going on and why, in words."),
        next=_text("What happens next, and when."),
        stage=_object(
            "The stage of the rollout.",
            name=_text("Its name."),
            index=_integer("Its place, from 0."),
            of=_integer("How many stages there are."),
            progress=_text("Observed time of the stage's duration, for example 12m of 48h."),
            clock=_clock("The stage's clock; it runs only while the canary can be judged."),
        ),
        canary=revision,
        stable={**revision, "description": "The promoted revision, which serves the full set."},
        candidate=_text("The version under test; after a rollback the one that was rejected."),
        rejected={
            **revision,
            "description": "The revision that was rolled back; not tried again until the "
            "spec changes.",
        },
        publisher={
            **revision,
            "description": "The revision that was last allowed to publish signals as stable. "
            "Where it is not the stable one, its pods are still ending and nobody may.",
        },
        restoring={
            **revision,
            "description": "A former revision that becomes stable again, on a person's word, "
            "once its pods are ready.",
        },
        former=_list_of(revision, "What was stable before, newest first."),
        checks=_object(
            "How a rollback has been verified until now.",
            good=_integer("Checks that found all well."),
            made=_integer("Checks that were made, one an interval."),
            last=_time("When the newest was made."),
            clock=_clock("How long it is verified; it runs only while the metrics source answers."),
        ),
        climbed=_list_of(
            {"type": "string"},
            "Rungs of the ladder that were taken or passed over since the last promotion.",
        ),
        lastAttempt=_integer("The highest attempt that there was."),
        queuedAt=_time("Since when it has stood in the queue of its group."),
        subject=_text(
            "What a command is about at present, as an annotation names it: the attempt, and "
            "in Progressing the stage."
        ),
        hand=_hand(),
        rules=_text("Hash of the canary's symbols and conditions, under which it is observed."),
        warmup=_text("How far the canary's calibration windows are filled, in percent."),
        health=_text(
            "One word for the list: Ok, Unproven, Warning, Critical, Breached, Inconclusive, "
            "NoData or Error; Warming while nothing can be known of a canary yet."
        ),
        summary=_list_of(
            {"type": "string"}, "Each rollback condition on each canary symbol, in a line."
        ),
        symbols=_list_of(
            _object(
                "The canary on one symbol.",
                symbol=_text("The symbol."),
                verdict=_text("The worst verdict of its conditions."),
                warmup=_text("How far its calibration windows are filled, in percent."),
                lastData=_time("When analysis last took in new rows of it."),
                conditions=_list_of(condition, "Each rollback condition on this symbol."),
            ),
            "The canary symbols, judged; of more than 32 the worst.",
        ),
        decision=_object(
            "The last decision to promote or to roll back, and all that it rests on.",
            time=_time("When."),
            phase=_text("Promoting, Succeeded or RollingBack."),
            reason=_text("Why, in one CamelCase word."),
            message=_text("Why, in words."),
            version=_text("The version that it was about."),
            revision=_text("The revision that it was about."),
            attempt=_integer("Generation of the spec that brought this revision."),
            conditions=_list_of(
                decided_on,
                "What each rollback condition was judged by on each canary symbol; of more than "
                "32 those that were not Ok.",
            ),
        ),
        report=_object(
            "The report of the last rollout that has ended.",
            time=_time("When it was decided."),
            configMap=_text("Name of the ConfigMap that has it; it goes with the object."),
            url=_text(
                "Path or s3:// URL of report.html, with report.md and report.json beside it; "
                "absent until it is written, and where reports are not kept as files."
            ),
        ),
        workloads=_list_of(
            _object(
                "One StatefulSet of harvest or analysis.",
                name=_text("Its name."),
                track=_text("canary or stable."),
                component=_text("harvest or analysis."),
                revision=_text("The revision that it runs."),
                ready=_text("Ready pods of wanted pods."),
                restarts=_integer("Restarts of its containers."),
                message=_text("What keeps a pod from running."),
            ),
            "The pods of both tracks.",
        ),
        timers=_list_of(
            _object(
                "A breach or a silence that is being timed; kept here so that a restart of the "
                "operator does not forget its beginning.",
                key=_text("The condition's key, or silence."),
                symbol=_text("The symbol."),
                clock=_clock("How long it has held."),
                evaluations=_integer(
                    "How many evaluations in a row have shown the breach, up to consecutive."
                ),
                lastEvaluation=_time("When the newest of them was computed."),
            ),
            "Breaches and silences being timed.",
        ),
        held=_list_of(
            _object(
                "A canary symbol that is held back: not judged, not published, not promoted.",
                symbol=_text("The symbol."),
                since=_time("When."),
                reason=_text("ConditionBreached or CanarySilent."),
                message=_text("Why, in words."),
            ),
            "The symbols that the canary is held back on.",
        ),
        kept=_list_of(
            _object(
                "A symbol that the stable revision was held back on.",
                symbol=_text("The symbol."),
                revision={
                    **revision,
                    "description": "The earlier revision that goes on serving it; absent where "
                    "there is none, so that nothing does.",
                },
            ),
            "The symbols that the stable revision does not serve.",
        ),
        calls=_list_of(
            _object(
                "A person is called, once in a phase or stage.",
                reason=_text("ApprovalNeeded or DeadlineHeld."),
                since=_time("When."),
                message=_text("What for, and what to type."),
            ),
            "What a person is called for; kept here so that each is told once.",
        ),
        tiers=_list_of(
            _object(
                "Where a condition with warning or critical stands, over all canary symbols; kept "
                "here so that each tier is told once.",
                condition=_text("The condition's key."),
                tier=_text("Normal, Warning, Critical or Rollback."),
                since=_time("When that tier was entered."),
                easingSince=_time("Since when every symbol has been below that tier."),
                message=_text("What was seen then."),
            ),
            "The conditions that have been beyond a tier.",
        ),
        history=_list_of(
            _object(
                "A transition.",
                time=_time("When."),
                phase=_text("The phase entered."),
                reason=_text("Why, in one CamelCase word."),
                message=_text("Why, in words."),
                version=_text("The version it was about."),
                cause=_text("Of a rollback: what was decided and why; true for good."),
                consequence=_text("What that meant until the next transition."),
            ),
            "The last transitions, newest first.",
        ),
        conditions=conditions,
        lastEvaluationTime=_time("The look that this status is the result of."),
    )
