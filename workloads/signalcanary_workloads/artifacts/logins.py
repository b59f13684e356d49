"""How a registry is logged in to, as Docker's config.json and Kubernetes' Secrets say it.

    {"auths": {"ghcr.io": {"auth": "<base64 of user:password>"}}}

A key is a registry, with or without `https://`, a port and a path; the one that says the most of
a repository holds for it, and `*` stands for a part of a host, as for the kubelet. Programs that
keep logins elsewhere (`credsStore`, `credHelpers`) are not asked.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Self

import msgspec

from signalcanary.artifacts import Image

from ..store.errors import StorageError

DOCKER_HUB: Final = "docker.io"
_OF_DOCKER_HUB: Final = ("index.docker.io", "registry-1.docker.io")
_KEY: Final = ".dockerconfigjson"
_AUTHORITY: Final = "ca.crt"


@dataclass(frozen=True)
class Login:
    """A user, or a robot, and the password."""

    user: str
    password: str = field(repr=False)

    def header(self) -> str:
        """The header `Authorization` of RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Credentials:
    """What there is to be known by and to know a registry by.

    Attributes:
        login: None if there is none for it.
        told: where the login is from or should be, in words.
        authority: a file with certificates to trust beside the system's.
    """

    login: Login | None
    told: str
    authority: Path | None = None

    @classmethod
    def find(cls, image: Image, host: str, repository: str, logins: str | None) -> Self:
        """Those for a repository: the Secret's, or without a cluster those of `docker login`.

        Args:
            logins: see `WorkloadConfig.logins`.

        Raises:
            StorageError: there is a file with logins, and it cannot be understood.
        """
        if logins is None:
            own = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
            path, whose = Path(own) / "config.json", f"{own}/config.json"
            authority = None
        elif image.secret_name is None:
            return cls(None, "no Secret is named")
        else:
            folder = Path(logins) / image.secret_name
            path, whose = folder / _KEY, f"the Secret {image.secret_name}"
            authority = folder / _AUTHORITY if (folder / _AUTHORITY).exists() else None
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            lacks = "is not there" if logins is None else f"is not there, or lacks {_KEY}"
            return cls(None, f"{whose} {lacks}", authority)
        except OSError as error:
            raise StorageError("bad_login", f"{whose} cannot be read: {error}") from error
        try:
            login = find_login(text, host, repository)
        except ValueError as error:
            raise StorageError("bad_login", f"{whose}: {error}") from error
        return cls(login, whose if login else f"{whose} has no login for {host}", authority)


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] = {}


def find_login(text: bytes, host: str, repository: str) -> Login | None:
    """The login for a repository of a registry; None if there is none.

    Raises:
        ValueError: the text is no such document, or the login in it is of no use.
    """
    try:
        entries = msgspec.json.decode(text, type=_Config).auths
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no Docker config.json: {error}") from error
    fits = [(rank, key) for key in entries if (rank := _rank(key, host, repository)) is not None]
    if not fits:
        return None
    _, key = max(fits)
    entry = entries[key]
    user, password = entry.username, entry.password
    if entry.auth:
        try:
            user, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError(f"the auth of {key} is no base64 of user:password") from error
    if not user or not password:
        raise ValueError(f"the login for {key} lacks the user or the password")
    return Login(user, password)


def _rank(key: str, host: str, repository: str) -> tuple[int, bool] | None:
    """How well a key fits a repository, to be compared; None if it does not."""
    named, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.strip("/")
    if path in ("v1", "v2"):
        path = ""
    if named in _OF_DOCKER_HUB:
        named = DOCKER_HUB
    wanted, given = host.split("."), named.split(".")
    fits = len(wanted) == len(given) and all(map(fnmatchcase, wanted, given))
    if not fits or not f"{repository}/".startswith(f"{path}/" if path else ""):
        return None
    return len(path), "*" not in named
