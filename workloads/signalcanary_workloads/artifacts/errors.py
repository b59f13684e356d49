"""What can be wrong with a model file.

ArtifactRefused    the file is not what was declared, or cannot be used; `refusal` says why

What a volume, a bucket or a registry does wrong is a `StorageError` of `store`: it is no fault of
the file's, and may be gone at the next try.
"""

from __future__ import annotations

from signalcanary.artifacts import Reason, Refusal

_LONGEST = 300
"""Characters of a message: several must fit into what Kubernetes keeps of a container's end."""


class ArtifactRefused(Exception):
    """A file is not what was declared, or cannot be used."""

    def __init__(self, reason: Reason, file: str, message: str) -> None:
        words = " ".join(message.split())
        words = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
        super().__init__(f"{file}: {reason}: {words}")
        self.refusal = Refusal(reason=reason, file=file, message=words)
