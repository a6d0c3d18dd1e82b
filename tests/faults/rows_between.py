"""Rows of the fault matrix about servers and their peers, and about what stands on their disks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from faults.partition import PartedCluster
from faults.rows import row
from faults.scene import STREAM, WARM_S, Found, Scene, stored_ids

CUT_S = 15.0
"""An election takes 4 to 9 s; what comes after it is to be seen as well."""
FLIPS = 20


@row(
    fault="the leader of three is cut off from the other two for 15 s; agents still reach each of them",
    promise="nothing is accepted twice or lost; of two leaders only one can write",
    servers=(3,),
    parted=True,
)
async def leader_cut_off(scene: Scene) -> None:
    await _cut(scene, await asyncio.to_thread(scene.first))


@row(
    fault="a server that does not lead is cut off from the other two for 15 s; agents still reach each of them",
    promise="nothing is lost; who is connected to it goes on when the network is whole, at the latest",
    servers=(3,),
    parted=True,
)
async def follower_cut_off(scene: Scene) -> None:
    leader = await asyncio.to_thread(scene.first)
    await _cut(scene, scene.chance.choice([n for n in range(3) if n != leader]))


async def _cut(scene: Scene, number: int) -> None:
    assert isinstance(scene.server, PartedCluster)
    await asyncio.sleep(WARM_S)
    with scene.server.cut_off(number):
        await asyncio.sleep(CUT_S)  # the length of the fault


@row(
    fault=f"{FLIPS} bits of the log flip on the disk of a server while it is down; of three, of one that follows",
    promise="none of one server; of three, those that were not touched have everything",
    no_promise=True,
)
async def bits_flipped(scene: Scene) -> Found:
    await asyncio.sleep(2 * WARM_S)
    leader = await asyncio.to_thread(scene.first)
    number = (leader + 1) % 3 if scene.clustered else 0
    await scene.stop("submitter")
    accepted = [
        line.removeprefix("ok ") for line in scene.ids.read_text().splitlines() if line.startswith("ok ")
    ]
    await scene.kill_server(number)
    stores = sorted(_blocks(scene.folder / "store" / (f"n{number}" if scene.clustered else "")))
    for _ in range(FLIPS):
        _flip(scene, scene.chance.choice(stores))
    await scene.start_server(number)
    scene.rate = 0.0
    found = await scene.end()
    stored = await stored_ids(scene.url)
    found.tasks, found.lost = len(accepted), len([one for one in accepted if one not in stored])
    return found


def _blocks(store: Path) -> list[Path]:
    return [path for path in store.rglob("*.blk") if STREAM in path.parts and "obs" not in path.parts]


def _flip(scene: Scene, path: Path) -> None:
    at = scene.chance.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << scene.chance.randrange(8)]))
