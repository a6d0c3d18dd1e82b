"""Rows of the fault matrix in which coordinators are at work: runs are started, and each must end with its report."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from faults.scene import NAMESPACE, Found, Scene, all_ended
from kill.run_checker import check_runs, read

RATE = 3.0
"""Runs per second; each has some forty tasks."""


async def begin_coordinator(scene: Scene, number: int) -> None:
    starts = scene.folder / "starts.txt"
    await scene.begin("coordinator", f"coordinator-{number}", starts, f"{scene.seed}/{number}", 0)


async def with_runs(scene: Scene, act: Callable[[], Awaitable[None]]) -> Found:
    """Runs are started while `act` does its worst; then what the checker of runs found."""
    books, starts = scene.folder / "books.txt", scene.folder / "starts.txt"
    await scene.begin("pieces", "pieces", starts, scene.seed, 0)
    for number in range(2):
        await begin_coordinator(scene, number)
    await scene.begin("starter", "starter", books, scene.seed, RATE, time.time())
    await act()
    await scene.stop("starter")
    await all_ended(scene.url)
    await scene.stop("")
    verdict = check_runs(
        await read(scene.url, NAMESPACE), books.read_text().splitlines(), starts.read_text().splitlines()
    )

    def count(*promises: str) -> int:
        return sum(int(verdict.faults.get(one, ["0"])[0].split()[0]) for one in promises)

    figures = verdict.figures
    broken = verdict.faults | ({"processes that ended": scene.crashes} if scene.crashes else {})
    return Found(
        tasks=figures["accepted"],
        lost=count("accepted but not stored", "accepted without outcome"),
        doubled=count("several outcomes", "stored twice"),
        outcomes={name: figures.get(name, 0) for name in ("done", "dead", "cancelled")},
        broken=broken,
        said=[f"{figures['runs']} runs, {figures['takeovers']} takeovers of coordinators"],
    )
