"""The custom resource ``SignalCanary`` (signalcanary.dev/v1alpha1) as pydantic models.

The one place for defaults, descriptions and validation rules: the CRD that the API server
enforces is generated from these models (`crd.py`), so what `kubectl explain` says, what the
server refuses and what the operator reads cannot drift apart.

Rules across fields are CEL, beside the model they belong to; each message says what to write
instead. The validators repeat those that lint and local runs need, where no API server stands
guard.
"""

from __future__ import annotations

from signalcanary.api.conditions import Condition, Mode, Of, Rollback, Scope, Tier, seed_conditions
from signalcanary.api.debounce import WITHOUT_EVIDENCE, Debounce
from signalcanary.api.group import Group, OnVerdict, Pace
from signalcanary.api.ladder import Feature, Rung, Verify
from signalcanary.api.names import (
    API_VERSION,
    DEFAULT_SOURCE,
    DNS_LABEL,
    GROUP,
    KIND,
    MAX_CONDITIONS,
    MAX_NAME_LENGTH,
    MAX_STAGES,
    MAX_SYMBOLS,
    NAME_HELP,
    PLURAL,
    VERSION,
)
from signalcanary.api.schedule import Day, Manual, Schedule, Window, Windows, minutes_of
from signalcanary.api.spec import SignalCanarySpec, Workloads
from signalcanary.api.stages import (
    Approval,
    Evaluation,
    OnDeadline,
    OnNoData,
    Stage,
    Symbols,
)
from signalcanary.api.storage import Bucket, ReclaimPolicy, Storage

__all__ = [
    "API_VERSION",
    "DEFAULT_SOURCE",
    "DNS_LABEL",
    "GROUP",
    "KIND",
    "MAX_CONDITIONS",
    "MAX_NAME_LENGTH",
    "MAX_STAGES",
    "MAX_SYMBOLS",
    "NAME_HELP",
    "PLURAL",
    "VERSION",
    "WITHOUT_EVIDENCE",
    "Approval",
    "Bucket",
    "Condition",
    "Day",
    "Debounce",
    "Evaluation",
    "Feature",
    "Group",
    "Manual",
    "Mode",
    "Of",
    "OnDeadline",
    "OnNoData",
    "OnVerdict",
    "Pace",
    "ReclaimPolicy",
    "Rollback",
    "Rung",
    "Schedule",
    "Scope",
    "SignalCanarySpec",
    "Stage",
    "Storage",
    "Symbols",
    "Tier",
    "Verify",
    "Window",
    "Windows",
    "Workloads",
    "minutes_of",
    "seed_conditions",
]
