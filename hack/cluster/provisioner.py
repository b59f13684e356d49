"""Gives each claim of the default StorageClass a folder of the node.

Why it exists: the controller manager's own host-path provisioner ignores a
pod's fsGroup, so a non-root pod could not write. `local` volumes honour it, but
nothing upstream makes them on demand.

It must never hand out a folder twice: a volume is named by its claim's uid.
"""

from __future__ import annotations

import http.client
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import settings as settings_module
from api import Api, ApiError
from settings import NODE_NAME, Settings

PROVISIONER = "signalcanary.dev/node-local"
CLASS = "standard"
WATCH_SECONDS = 60
RETRY_SECONDS = 1.0
ALREADY_EXISTS = 409
NOT_FOUND = 404


def is_waiting(claim: dict[str, Any]) -> bool:
    spec = claim["spec"]
    phase = claim.get("status", {}).get("phase", "Pending")
    return bool(
        spec.get("storageClassName") == CLASS
        and not spec.get("volumeName")
        and phase == "Pending"
        and "deletionTimestamp" not in claim["metadata"]
    )


def is_released(volume: dict[str, Any]) -> bool:
    annotations = volume["metadata"].get("annotations", {})
    return bool(
        annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        and volume.get("status", {}).get("phase") == "Released"
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    )


def build_volume(claim: dict[str, Any], folder: Path) -> dict[str, Any]:
    metadata, spec = claim["metadata"], claim["spec"]
    on_this_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "local": {"path": str(folder)},
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [on_this_node]}]}
            },
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


class Provisioner:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = Api(settings, client="provisioner", host="127.0.0.1")

    def _folder(self, volume_name: str) -> Path:
        return self._settings.volumes / volume_name

    def create(self, claim: dict[str, Any]) -> None:
        folder = self._folder(f"pvc-{claim['metadata']['uid']}")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # Pods without an fsGroup write too, as on most such classes.
        try:
            self._api.request("POST", "/api/v1/persistentvolumes", build_volume(claim, folder))
        except ApiError as error:
            if error.status != ALREADY_EXISTS:
                raise
        print("created", folder.name, "for", claim["metadata"]["name"], flush=True)

    def delete(self, volume: dict[str, Any]) -> None:
        name = volume["metadata"]["name"]
        shutil.rmtree(self._folder(name), ignore_errors=True)
        try:
            self._api.request("DELETE", f"/api/v1/persistentvolumes/{name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        print("deleted", name, flush=True)

    def reconcile(self) -> None:
        for claim in self._items("persistentvolumeclaims"):
            if is_waiting(claim):
                self.create(claim)
        for volume in self._items("persistentvolumes"):
            if is_released(volume):
                self.delete(volume)

    def _items(self, resource: str) -> list[dict[str, Any]]:
        listing: Any = self._api.request("GET", f"/api/v1/{resource}?resourceVersion=0")
        return list(listing["items"])

    def serve(self, resource: str) -> None:
        """Looks at everything again after each event of the resource, for ever."""
        while True:
            try:
                self.reconcile()
                path = f"/api/v1/{resource}?resourceVersion=0&allowWatchBookmarks=false"
                for _ in self._api.watch(path, seconds=WATCH_SECONDS):
                    self.reconcile()
            except (OSError, ApiError, http.client.HTTPException) as error:
                print(f"{resource}: {error}", flush=True)
                time.sleep(RETRY_SECONDS)


def main() -> None:
    settings = settings_module.from_environment()
    volumes = threading.Thread(
        target=Provisioner(settings).serve, args=("persistentvolumes",), daemon=True
    )
    volumes.start()
    Provisioner(settings).serve("persistentvolumeclaims")


if __name__ == "__main__":
    main()
