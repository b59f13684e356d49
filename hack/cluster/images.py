"""The node's images: built with buildah, loaded into containerd, skipped if unchanged.

Why it exists: there is no registry to push to or pull from. An image's inputs are
hashed; what is both built from them and in the node already costs nothing.
Layers stay uncompressed: the way is short and the processors are few.
"""

from __future__ import annotations

import ast
import configparser
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components import CONTAINERD_SOCKET, PAUSE_IMAGE
from host import inside
from settings import HERE, REPOSITORY, Settings
from shell import ClusterError, note, run, step

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE_SUITE = "bookworm"
# libstdc++ is what compiled Python packages need, numpy and pyarrow among them.
BASE_PACKAGES = "python3,python3-venv,ca-certificates,tzdata,libstdc++6"
LEFT_OUT_OF_BASE = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "operator", "workloads")


@dataclass(frozen=True)
class Image:
    """An image: its name, Containerfile and what it is built from."""

    name: str
    containerfile: Path
    context: Path
    inputs: tuple[Path, ...]
    needs_base: bool = False
    arguments: tuple[str, ...] = ()


def application_images() -> tuple[Image, ...]:
    """The operator's, and the workloads' with what runs models (docs/artifacts.md)."""
    return tuple(
        Image(
            name=f"docker.io/signalcanary/{part}:dev",
            containerfile=REPOSITORY / part / "Containerfile",
            context=REPOSITORY,
            inputs=tuple(REPOSITORY / path for path in (*SOURCES, f"requirements/{lock}.txt")),
            needs_base=True,
            arguments=arguments,
        )
        for part, lock, arguments in (
            ("operator", "operator", ()),
            ("workloads", "models", ("--build-arg", "REQUIREMENTS=models")),
        )
    )


def _single_file_image(settings: Settings, name: str, program: Path) -> Image:
    """An image with one program; its context is a folder with that alone."""
    short = name.rsplit("/", 1)[1].split(":")[0]
    context = settings.state / "contexts" / short
    context.mkdir(parents=True, exist_ok=True)
    copy = context / program.name
    if not copy.exists() or copy.stat().st_mtime_ns != program.stat().st_mtime_ns:
        shutil.copy2(program, copy)
    return Image(name, HERE / "images" / f"{short}.Containerfile", context, (copy,))


def pause_image(settings: Settings) -> Image:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ClusterError("busybox is not installed")
    return _single_file_image(settings, PAUSE_IMAGE, Path(busybox))


def prometheus_image(settings: Settings, program: Path) -> Image:
    return _single_file_image(settings, "docker.io/signalcanary/prometheus:dev", program)


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.is_file())
            yield from sorted(file for file in found if "__pycache__" not in file.parts)
        else:
            yield path


def _digest(paths: Iterable[Path], *texts: str) -> str:
    digest = hashlib.sha256()
    for file in _files(paths):
        try:
            content = file.read_bytes()
        except FileNotFoundError as error:
            raise ClusterError(f"{file} is missing; the image is built from it") from error
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:20]


def _buildah(settings: Settings) -> list[str]:
    """In a mount namespace of its own: the storage driver's mounts end with the command.

    A tmpfs hides /var/lib/containers, where buildah keeps notes whatever --root says.
    """
    hide = "mkdir -p /var/lib/containers && mount -n -t tmpfs tmpfs /var/lib/containers"
    store, scratch = settings.state / "buildah", settings.state / "buildah-run"
    return [
        *("unshare", "--mount", "--propagation", "private"),
        *("sh", "-c", f'{hide} && exec "$@"', "sh"),
        *("buildah", "--root", str(store), "--runroot", str(scratch)),
        *("--storage-driver", "overlay"),
    ]


def _has(settings: Settings, name: str) -> bool:
    return (
        run([*_buildah(settings), "inspect", "--type", "image", name], check=False).returncode == 0
    )


def pip_settings() -> dict[str, str]:
    """How pip is set up on this machine, its environment variables included."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        found[key.rsplit(".", 1)[1]] = str(ast.literal_eval(value))
    return found


def _pip_mounts(settings: Settings) -> list[str]:
    """Lets pip in the build see the machine's configuration, certificates and wheels."""
    values = pip_settings()
    parser = configparser.RawConfigParser()
    parser["global"] = values
    file = settings.state / "pip.conf"
    file.touch(mode=0o600)  # An index may be given with a password.
    file.chmod(0o600)
    with file.open("w") as stream:
        parser.write(stream)
    words = [word for value in values.values() for word in value.split()]
    paths = {word for word in words if word.startswith("/") and Path(word).exists()}
    if CERTIFICATES.exists():
        paths.add(str(CERTIFICATES))
    mounts = [f"{path}:{path}:ro" for path in sorted(paths)]
    return [word for mount in (*mounts, f"{file}:/etc/pip.conf:ro") for word in ("--volume", mount)]


def _base(settings: Settings) -> str:
    containerfile = HERE / "images" / "base.Containerfile"
    key = _digest([containerfile], BASE_SUITE, BASE_PACKAGES, *LEFT_OUT_OF_BASE)
    name = f"localhost/signalcanary/base:{key}"
    if _has(settings, name):
        return name
    context = settings.state / "contexts" / "base"
    context.mkdir(parents=True, exist_ok=True)
    root = context / "root.tar"
    excludes = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT_OF_BASE]
    with step(f"making the base image from Debian's packages ({BASE_PACKAGES})"):
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=essential",
                f"--include={BASE_PACKAGES}",
                *excludes,
                BASE_SUITE,
                root,
            ]
        )
        _build(settings, name, containerfile, context, [])
    root.unlink()
    return name


def _build(
    settings: Settings, name: str, containerfile: Path, context: Path, extra: list[str]
) -> None:
    run(
        [*_buildah(settings), "build", "--layers", "--isolation", "chroot", "--network", "host"]
        + ["--ignorefile", str(REPOSITORY / ".containerignore")] * (context == REPOSITORY)
        + [*extra, "--tag", name, "--file", str(containerfile), str(context)],
        env={"BUILDAH_FORMAT": "oci"},
    )


def _ctr(settings: Settings) -> list[str]:
    return [*inside(settings), "ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]


def _loaded(settings: Settings) -> dict[str, str]:
    """Which inputs the images in the node's store were built from."""
    try:
        known = json.loads((settings.state / "images.json").read_text())
    except (OSError, ValueError):
        return {}
    present = set(run([*_ctr(settings), "images", "list", "--quiet"]).stdout.split())
    return {name: key for name, key in known.items() if name in present}


def _load(settings: Settings, image: Image) -> None:
    """Hands the node the layers that it does not have yet, as an OCI image layout.

    The whole image would do as well, but the base and the dependencies are nearly all of
    it and seldom change. The image that had the name keeps another one meanwhile: once nothing
    named it, containerd would collect the very layers that the new one builds on.
    """
    known = run([*_ctr(settings), "images", "list", "--quiet"]).stdout.split()
    kept = f"{image.name}-before"
    if image.name in known:
        run([*_ctr(settings), "images", "tag", "--force", image.name, kept])
    try:
        _import(settings, image)
    finally:
        if image.name in known:
            run([*_ctr(settings), "images", "remove", kept])


def _import(settings: Settings, image: Image) -> None:
    present = set(run([*_ctr(settings), "content", "list", "--quiet"]).stdout.split())
    with tempfile.TemporaryDirectory(dir=settings.state, prefix="image-") as name:
        folder, archive = Path(name) / "blobs", Path(name) / "image.tar"
        run(
            [
                *_buildah(settings),
                "push",
                "--quiet",
                "--disable-compression",
                "--format",
                "oci",
                image.name,
                f"dir:{folder}",
            ]
        )
        _write_layout(image.name, folder, archive, present)
        command = [*_ctr(settings), "images", "import", str(archive)]
        if run(command, check=False).returncode != 0:
            # Collected all the same, as by a clean-up that had begun before: hand over everything.
            _write_layout(image.name, folder, archive, set())
            run(command)


def _write_layout(name: str, folder: Path, archive: Path, present: set[str]) -> None:
    manifest = (folder / "manifest.json").read_bytes()
    digest = hashlib.sha256(manifest).hexdigest()
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(manifest),
        "annotations": {"io.containerd.image.name": name},
    }
    texts = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        f"blobs/sha256/{digest}": manifest,
    }
    content = json.loads(manifest)
    digests = [content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]
    with tarfile.open(archive, "w") as tar:
        for path, text in texts.items():
            information = tarfile.TarInfo(path)
            information.size = len(text)
            tar.addfile(information, io.BytesIO(text))
        for blob in dict.fromkeys(digests):
            if blob not in present:
                short = blob.removeprefix("sha256:")
                tar.add(folder / short, arcname=f"blobs/sha256/{short}")


def update(settings: Settings, images: Iterable[Image]) -> None:
    """Builds and loads each image whose inputs are not those of the one in the node."""
    loaded = _loaded(settings)
    for image in images:
        base = _base(settings) if image.needs_base else ""
        key = _digest([image.containerfile, *image.inputs], base, *image.arguments)
        if loaded.get(image.name) == key:
            note(f"{image.name} is unchanged")
            continue
        extra = [*image.arguments]
        if image.needs_base:
            extra += ["--build-arg", f"BASE={base}", *_pip_mounts(settings)]
        with step(f"building {image.name}"):
            _build(settings, image.name, image.containerfile, image.context, extra)
        with step(f"loading {image.name}"):
            _load(settings, image)
        loaded[image.name] = key
        (settings.state / "images.json").write_text(json.dumps(loaded, indent=1) + "\n")
