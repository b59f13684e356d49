"""The status of a SignalCanary: what people read, and what the operator remembers.

Status is the operator's only memory, and what a person reads at 3 a.m. with `kubectl describe`.

- `memory` writes the state to it and reads it back, each thing's two ways side by side;
- `render` puts the whole together: the memory, and what is told of the look;
- `words` says why the rollout is where it is, `coming` what happens next and when,
  `conditions` the same to programs, by the Kubernetes API conventions;
- `schema` describes its fields for the CRD.

All pure.
"""

from signalcanary.status.memory import last_evaluation, parse
from signalcanary.status.render import WorkloadSeen, render, render_decision

__all__ = ["WorkloadSeen", "last_evaluation", "parse", "render", "render_decision"]
