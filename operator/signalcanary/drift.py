"""What runs is not what was declared: somebody changed an object of a rollout by hand. Pure.

A field that the operator declares and that is another on the live object is drift. What others
*add* (a label, a sidecar, what the server fills in) is theirs. So are the resources of a container:
to raise a memory limit at 3 a.m. changes no signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from signalcanary.resources import Manifest

Live = Mapping[str, Any]

_KEYS = ("mountPath", "name")
"""By which the items of a list are told apart, as the API server does on an apply."""
_SHOWN = 120
_OF_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})
_LEFT_ALONE = frozenset({"resources"})


@dataclass(frozen=True)
class Difference:
    """A declared field that is another on the live object.

    Attributes:
        field: its path, as in ``spec.template.spec.containers[harvest].image``.
        found: None if it is not there.
    """

    field: str
    declared: Any
    found: Any

    def __str__(self) -> str:
        found = "nothing" if self.found is None else _cut(self.found)
        return f"{self.field} was {found}, declared is {_cut(self.declared)}"


def find_difference(declared: Manifest, live: Live) -> Difference | None:
    """The first declared field that is another on the live object."""
    content = {name: value for name, value in declared.items() if name not in _OF_IDENTITY}
    metadata = {name: declared["metadata"].get(name, {}) for name in ("labels", "annotations")}
    return _find(content, live, "") or _find(metadata, live["metadata"], "metadata")


def _find(declared: Any, found: Any, path: str) -> Difference | None:
    # Both are JSON, and this is most of the work of a look at an object at rest.
    if type(declared) is dict:
        if type(found) is not dict:
            # The server leaves out what is empty.
            return Difference(path, declared, found) if declared else None
        pairs = [
            (declared[name], found.get(name), f"{path}.{name}" if path else str(name))
            for name in declared
            if name not in _LEFT_ALONE
        ]
    elif type(declared) is list:
        found = found or ()
        key = _key_of(declared)
        if key is None and len(declared) != len(found):
            return Difference(path, declared, found)
        if key is None:
            pairs = [(one, found[n], f"{path}[{n}]") for n, one in enumerate(declared)]
        else:
            by_key = {one.get(key): one for one in found}
            pairs = [(one, by_key.get(one[key]), f"{path}[{one[key]}]") for one in declared]
    else:
        return None if declared == found else Difference(path, declared, found)
    return next(filter(None, (_find(*pair) for pair in pairs)), None)


def _key_of(items: Sequence[Any]) -> str | None:
    of_all = (key for key in _KEYS if all(type(i) is dict and key in i for i in items))
    return next(of_all, None) if items else None


def _cut(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


# --------------------------------------------------------------------------- pods


def find_edited_images(pod: Live, stateful_sets: Iterable[Live]) -> dict[str, str]:
    """The images that a pod is to run where somebody gave it others, by container.

    A pod may be made with another image than its StatefulSet declares: an admission webhook puts a
    mirror before the registry. Only an image that somebody set later is one to put back.
    """
    metadata = pod["metadata"]
    owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
    # A pod of an older revision of its StatefulSet is replaced by that one's controller.
    of_revision = (metadata.get("labels") or {}).get("controller-revision-hash")
    declared: dict[str, str] = {
        container["name"]: container["image"]
        for sts in stateful_sets
        if sts["metadata"]["uid"] in owners
        and sts.get("status", {}).get("updateRevision") == of_revision
        for container in sts["spec"]["template"]["spec"]["containers"]
    }
    if not declared or metadata.get("deletionTimestamp"):
        return {}
    return {
        name: declared[name]
        for container in _containers_of(pod)
        if container["image"] != declared.get(name := container["name"], container["image"])
        and _is_set_later(metadata, name)
    }


def _containers_of(pod: Live) -> Sequence[Mapping[str, Any]]:
    return (pod.get("spec") or {}).get("containers") or ()


def _is_set_later(metadata: Mapping[str, Any], container: str) -> bool:
    """Whether the image's field is of another manager than the one that made the container."""
    key = f'k:{{"name":"{container}"}}'
    for entry in metadata.get("managedFields") or ():
        fields: Mapping[str, Any] = (
            entry.get("fieldsV1", {}).get("f:spec", {}).get("f:containers", {}).get(key, {})
        )
        if "f:image" in fields:
            return "f:name" not in fields
    return False


def find_mixed_images(pods: Iterable[Live]) -> str | None:
    """Says that pods run different images under one tag; None if they do not.

    An image that is named by its digest is what it is.
    """
    by_digest: dict[tuple[str, str], str] = {}
    for pod in pods:
        images = {c["name"]: c["image"] for c in _containers_of(pod)}
        for status in pod.get("status", {}).get("containerStatuses", ()):
            image = images.get(status.get("name"), "@")
            _, _, digest = status.get("imageID", "").partition("@")
            if digest and "@" not in image:
                by_digest.setdefault((image, digest), pod["metadata"]["name"])
    for image in sorted({image for image, _ in by_digest}):
        found = sorted((name, digest) for (of, digest), name in by_digest.items() if of == image)
        if len(found) > 1:
            told = ", ".join(f"{name} runs {digest}" for name, digest in found)
            return (
                f"{image} is not one image ({told}): the tag was moved under a revision; "
                "name the workloads' image by its digest"
            )
    return None
