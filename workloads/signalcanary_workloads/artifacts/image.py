"""Files in an OCI artifact, each a layer of its own that bears its name.

    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
     "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:…",
                 "size": 763, "annotations": {"org.opencontainers.image.title": "lstm.onnx"}}]}

That is how `oras push` lays files into a registry (image specification 1.1, "artifact usage"). The
digest of a layer is the SHA-256 of the file, so a file that is not the declared one is refused
before a byte of it is read. Nothing is unpacked: what lies in tar layers, as in images that
containers are made from, is not found, and the message says how to push it instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Final

import msgspec

from signalcanary.artifacts import Image, Reason

from ..store.errors import NotFound
from .errors import ArtifactRefused
from .registry import Registry, WrongContent
from .source import Listed

_TITLE: Final = "org.opencontainers.image.title"
_UNPACK: Final = "io.deis.oras.content.unpack"
"""On a folder that oras has packed."""
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_TOLD: Final = 5
_PUSH: Final = "push the files themselves, as `oras push REGISTRY/REPOSITORY:TAG FILE…` does"


class _Layer(msgspec.Struct):
    digest: str
    size: int
    annotations: dict[str, str] | None = None

    @property
    def title(self) -> str | None:
        return (self.annotations or {}).get(_TITLE)

    @property
    def is_packed(self) -> bool:
        return (self.annotations or {}).get(_UNPACK) == "true"


class _Manifest(msgspec.Struct):
    layers: list[_Layer] | None = None
    manifests: list[msgspec.Raw] | None = None


class ImageFiles:
    """A `Source`. Nothing is asked for before it is listed.

    Args:
        folder: what the names in the image begin with, if anything.
        logins: see `WorkloadConfig.logins`.

    Raises:
        StorageError: there is a login or a certificate, and it is of no use.
    """

    def __init__(self, image: Image, folder: str | None, logins: str | None) -> None:
        self._registry = Registry(image, logins)
        self._prefix = f"{folder}/" if folder else ""
        self.name = self._registry.name + (f" under {folder}" if folder else "")

    @cached_property
    def _layers(self) -> Mapping[str, _Layer]:
        manifest = self._read_manifest()
        layers: dict[str, _Layer] = {}
        for layer in manifest.layers or ():
            if (title := layer.title) is None or layer.is_packed:
                continue
            if _DIGEST.fullmatch(layer.digest) is None:
                raise self._useless(f"the digest of {title!r:.80} is no SHA-256: push it with one")
            if layers.setdefault(title, layer).digest != layer.digest:
                raise self._useless(f"two of its layers are called {title!r:.80}: {_PUSH}, once")
        if not layers:
            if any(layer.is_packed for layer in manifest.layers or ()):
                raise self._useless(f"it holds a packed folder: {_PUSH}")
            raise self._useless(f"no layer of it bears a file's name ({_TITLE}): {_PUSH}")
        return layers

    def _read_manifest(self) -> _Manifest:
        try:
            data = self._registry.read_manifest()
        except NotFound as error:
            told = "the registry knows no such manifest: push it, or write the digest that `oras "
            told += "resolve REGISTRY/REPOSITORY:TAG` prints"
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, self._registry.name, told) from error
        except WrongContent as error:
            name = self._registry.name
            raise ArtifactRefused(Reason.CHECKSUM_MISMATCH, name, str(error)) from error
        try:
            manifest = msgspec.json.decode(data, type=_Manifest)
        except msgspec.DecodeError as error:
            raise self._useless(f"it is no manifest of an image: {error}") from error
        if manifest.manifests is not None:
            raise self._useless("it is an index of images: write the digest of one that it names")
        return manifest

    def _useless(self, told: str) -> ArtifactRefused:
        return ArtifactRefused(Reason.FORMAT_INVALID, self._registry.name, told)

    def list(self) -> Mapping[str, Listed]:
        """See `Source`."""
        begins = len(self._prefix)
        return {
            title[begins:]: Listed(layer.size, layer.digest.removeprefix("sha256:"))
            for title, layer in self._layers.items()
            if title.startswith(self._prefix)
        }

    def explain_missing(self) -> str:
        """See `Source`."""
        titles = sorted(self._layers)
        more = f" and {len(titles) - _TOLD} more" if len(titles) > _TOLD else ""
        return f", but {', '.join(titles[:_TOLD])}{more}"

    def read(self, path: str) -> bytes:
        """See `Source`."""
        layer = self._layers[f"{self._prefix}{path}"]
        try:
            return self._registry.read_blob(layer.digest, layer.size)
        except NotFound as error:
            told = "the image names it, but the registry has lost it: push it again"
            raise ArtifactRefused(Reason.ARTIFACT_MISSING, path, told) from error
        except WrongContent as error:
            raise ArtifactRefused(Reason.CHECKSUM_MISMATCH, path, str(error)) from error
