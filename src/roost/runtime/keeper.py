"""One place in a supervisor where a process runs: started, heard, started again when it died."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Literal

from roost._text import clean
from roost.discovery import instance_name
from roost.runtime.backoff import Deaths
from roost.runtime.child import Child
from roost.runtime.lifeline import HURRY_S, MARGIN_S
from roost.runtime.notices import Notice, NoticeKind, how_it_ended
from roost.runtime.specs import AgentSpec
from roost.runtime.words import Word

PATIENCE_S = 1.0
"""Beyond the time in which a process ends by itself, before it is killed."""

State = Literal["starting", "waiting", "ready", "blocked", "resting", "stopped"]


class AgentProcess:
    """The process that runs in one place of a supervisor, and its successors. Made by `Supervisor`."""

    def __init__(
        self,
        spec: AgentSpec,
        place: str,
        *,
        environment: Mapping[str, str],
        directory: str | None,
        tell: Callable[[Notice], None],
    ) -> None:
        self.spec = spec
        self.name = instance_name(spec.name, place) if spec.name else f"{spec.target}-{place}"
        """Of the instance, such as ``packer-1-k3f9qm``; made of the target until the process has told it."""
        self.state: State = "starting"
        """``waiting`` for the server, ``ready``, ``blocked`` in its event loop, ``resting`` until it is
        started again, ``stopped``."""
        self.starts = 0
        self.was_ready = False
        self.failure = ""
        """Why the last start failed; empty again when one has not."""
        self.exit_code: int | None = None
        """Of the last process that ended here; negative for a signal."""
        self.pid: int | None = None
        """Of the process that runs here now; None if none does."""
        own = {"ROOST_INSTANCE": self.name} if spec.name else {"ROOST_PLACE": place}
        self._environment = {**environment, **own}
        self._directory = directory
        self._tell_supervisor = tell
        self._child: Child | None = None
        self._ended = ""
        self._stopping = asyncio.Event()
        self._grace_s = 0.0
        self._kill_at = 0.0  # loop time

    def send_signal(self, number: int) -> None:
        """For tests of what happens when a process is killed or frozen: ``send_signal(signal.SIGKILL)``."""
        if self._child is not None:
            self._child.send_signal(number)

    def stop(self, grace_s: float) -> None:
        """Have the process stop, and start no other. Called again with less time, it hurries."""
        kill_at = (
            asyncio.get_running_loop().time() + grace_s + (MARGIN_S if grace_s else HURRY_S) + PATIENCE_S
        )
        if self._stopping.is_set() and kill_at >= self._kill_at:
            return
        self._grace_s, self._kill_at = grace_s, kill_at
        if self._child is not None:
            if not self._stopping.is_set():
                self._tell("stopping", f"{grace_s:g} s for what it is working on")
            self._child.stop(grace_s, kill_at=kill_at)
        elif not self._stopping.is_set():
            self.exit_code = None  # that was another end
        self._stopping.set()

    async def keep(self) -> None:
        """Run one process after another, until it is to stop. Cancelled, it kills the process."""
        deaths = Deaths()
        while not self._stopping.is_set():
            self.state = "starting"
            try:
                child = await Child.spawn(self.spec.target, self._environment, directory=self._directory)
            except OSError as error:
                self.failure = f"no process could be started: {clean(str(error))}"
                deaths = deaths.one_more(0.0)
            else:
                self.starts += 1
                deaths = deaths.one_more(await self._watch(child))
            if not self._stopping.is_set():
                await self._rest(deaths.delay_s(random.random()))
        self.state = "stopped"

    async def _watch(self, child: Child) -> float:
        """Wait for the end of a process; how many seconds it was ready."""
        loop = asyncio.get_running_loop()
        ready_at: float | None = None
        failure = ""

        def hear(word: Word) -> None:
            nonlocal ready_at, failure
            self.name = word.name or self.name
            if word.kind == "ready":
                ready_at = loop.time() if ready_at is None else ready_at
                self.state, self.was_ready, self.failure = "ready", True, ""
                self._tell("ready")
            elif word.kind != "failed":
                self.state = word.kind
                self._tell(word.kind, word.text)
            else:
                failure = word.text

        self._child, self.pid = child, child.pid
        if self._stopping.is_set():  # since before it was started
            child.stop(self._grace_s, kill_at=self._kill_at)
        try:
            self.exit_code = await child.ended(hear)
        except asyncio.CancelledError:
            await child.kill()
            raise
        finally:
            self._child = None
        how = how_it_ended(self.exit_code)
        if self._stopping.is_set():
            self._tell_end(how)
        elif ready_at is None:
            self.failure = failure or f"it {how}"
        self._ended = how
        return loop.time() - ready_at if ready_at is not None else 0.0

    def _tell_end(self, how: str) -> None:
        if self.exit_code == 0:
            self._tell("stopped")
        elif asyncio.get_running_loop().time() >= self._kill_at:
            self._tell(
                "killed",
                "did not stop in time and was killed; what it was working on is delivered again after its ack wait",
            )
        else:
            self._tell("ended", how)
        self.pid = None

    async def _rest(self, delay_s: float) -> None:
        """Wait before the next start, unless it is to stop."""
        self.state = "resting"
        if self.failure:
            self._tell("failed", self.failure, again_s=delay_s)
        else:
            self._tell("ended", self._ended, again_s=delay_s)
        self.pid = None
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _tell(self, kind: NoticeKind, text: str = "", *, again_s: float | None = None) -> None:
        self._tell_supervisor(
            Notice(kind=kind, name=self.name, pid=self.pid or 0, text=text, again_s=again_s)
        )
