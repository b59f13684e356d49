"""Model files in a local rollout: the real process looks at real files, before any other starts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_kit import World, build_spec

from signalcanary.api import SignalCanarySpec
from signalcanary.contract import Component, WorkloadConfig
from signalcanary.local.process import Notice, Supervised
from signalcanary.local.world import Host, LocalRollout, Look, launch_process
from signalcanary.rollout import Phase

META = b'{"n_oof": 24492}'


def spec_with(data: bytes) -> SignalCanarySpec:
    wire: dict[str, Any] = build_spec().to_wire()
    wire["signal"]["artifacts"] = {
        "path": "models",
        "files": [
            {
                "path": "meta.json",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "format": "json",
            }
        ],
        "gates": [{"file": "meta.json", "key": "n_oof", "min": 10000}],
    }
    return SignalCanarySpec.model_validate(wire)


@pytest.fixture
async def rollout(world: World, tmp_path: Path) -> Any:
    """Only what looks at the files really runs."""

    def launch(name: str, argv: Sequence[str], log: Path, notice: Notice) -> Supervised:
        is_verifying = argv[3] == Component.VERIFY
        return (launch_process if is_verifying else world.launch)(name, argv, log, notice)

    host = Host(world.folder, world, lambda: world.now, launch)
    rollout = LocalRollout("ofi", replace(host, artifacts=tmp_path / "beside"))
    yield rollout
    await rollout.close()


async def look_past_verifying(rollout: LocalRollout) -> Look:
    async with asyncio.timeout(120):
        while True:
            look = await rollout.look()
            if look.state.phase is not Phase.VERIFYING:
                return look
            await asyncio.sleep(0.05)


async def test_files_as_declared_start_the_canary(
    world: World, rollout: LocalRollout, tmp_path: Path
) -> None:
    (tmp_path / "beside/models").mkdir(parents=True)
    (tmp_path / "beside/models/meta.json").write_bytes(META)
    rollout.apply(spec_with(META))
    look = await look_past_verifying(rollout)
    assert [t.reason for t in look.state.history] == ["ArtifactsVerified", "RolloutStarted"]
    assert world.names() == ["canary analysis v1", "canary harvest v1"]


async def test_a_corrupt_file_is_refused_and_nothing_else_is_started(
    world: World, rollout: LocalRollout, tmp_path: Path
) -> None:
    (tmp_path / "beside/models").mkdir(parents=True)
    (tmp_path / "beside/models/meta.json").write_bytes(META.replace(b"2", b"3"))
    rollout.apply(spec_with(META))
    look = await look_past_verifying(rollout)
    assert look.state.phase is Phase.ROLLING_BACK
    assert look.state.reason == "VerificationFailed"
    assert "meta.json: ChecksumMismatch: its SHA-256 is" in look.document["status"]["message"]
    assert world.processes == []


async def test_without_a_cluster_a_registry_is_logged_in_to_as_docker_does(world: World) -> None:
    wire = spec_with(META).to_wire()
    url = f"oci://ghcr.io/team/models@sha256:{'0' * 64}"
    wire["signal"]["artifacts"]["image"] = {"url": url, "secretName": "of-a-cluster"}
    rollout = LocalRollout("ofi", Host(world.folder, world, lambda: world.now, world.launch))
    rollout.apply(SignalCanarySpec.model_validate(wire))
    await rollout.look()
    (path,) = (world.folder / "config").glob("canary-*.json")
    config = WorkloadConfig.model_validate_json(path.read_text())
    assert config.signal.artifacts is not None
    assert config.signal.artifacts.image is not None
    assert config.logins is None, "there is no Secret here"
    await rollout.close()
