"""Keeps processes of agents running, and ends them in order.

A process that dies is started again after a delay that grows from death to death. One that never was ready
counts as failed at its start; when that is all of them, nothing is right about this configuration, and
`wait_hopeless` says so, instead of trying for ever. If only some fail, the others may well be worth keeping, and
the cause (a database, a file) may come back: those are tried again.

Whatever ends the supervisor ends its processes: they watch a socket that the kernel closes with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from roost.discovery import random_suffix
from roost.errors import ConfigError
from roost.runtime.child import environment
from roost.runtime.keeper import AgentProcess
from roost.runtime.notices import AgentsFailed, Notice
from roost.runtime.specs import AgentSpec, SupervisorOptions, check_grace

log = logging.getLogger("roost.runtime")


class Supervisor:
    """Runs agents, each in processes of its own, for the length of an `async with` block.

    `url` and `namespace` reach the processes through their environment (default: this one's), as does `env`.
    They import their module from `directory`, or the current one. `tell` is called with each `Notice`; it must
    not block. Without it they are logged. Raises ConfigError for options that cannot be.
    """

    def __init__(
        self,
        agents: Sequence[AgentSpec],
        *,
        url: str | None = None,
        namespace: str | None = None,
        options: SupervisorOptions | None = None,
        env: Mapping[str, str] | None = None,
        directory: str | None = None,
        tell: Callable[[Notice], None] | None = None,
    ) -> None:
        targets = [spec.target for spec in agents]
        if not targets:
            raise ConfigError("no agents to run: name at least one, such as shop.agents:packer")
        twice = {one for one in targets if targets.count(one) > 1}
        if twice:
            raise ConfigError(f"{min(twice)} is named twice; give the number of its processes instead")
        self.options = options or SupervisorOptions()
        shared = environment(
            env or {},
            url=url,
            namespace=namespace,
            grace_s=self.options.grace_s,
            log_level=self.options.log_level,
        )
        self.processes = [
            AgentProcess(spec, place, environment=shared, directory=directory, tell=self._told)
            for spec in agents
            for place in _places(spec.processes)
        ]
        self._tell = tell or _log
        self._keepers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Starts the processes; does not wait until they are ready (`wait_ready` does)."""
        self._keepers = [
            asyncio.create_task(process.keep(), name=f"roost-keep-{process.name}")
            for process in self.processes
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            for keeper in self._keepers:
                keeper.cancel()
            ends = await asyncio.gather(*self._keepers, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Return when every process is ready.

        Raises AgentsFailed as soon as one cannot be started, TimeoutError with what is missing after
        `timeout_s` seconds. Either way the processes go on until the block is left.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._failures() or all(p.state == "ready" for p in self.processes))
        except TimeoutError:
            missing = [f"{p.name} ({p.state})" for p in self.processes if p.state != "ready"]
            raise TimeoutError(f"not ready within {timeout_s:g} s: {', '.join(missing)}") from None
        if self._failures():
            raise AgentsFailed(self._failures())

    async def wait_hopeless(self) -> AgentsFailed:
        """Return, with the reasons, when every process has failed to start and none was ever ready."""
        await self._until(lambda: len(self._failures()) == len(self.processes))
        return AgentsFailed(self._failures())

    def _failures(self) -> list[tuple[str, str]]:
        return [(p.spec.target, p.failure) for p in self.processes if p.failure and not p.was_ready]

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._changed.wait()

    async def stop(self, grace_s: float | None = None) -> dict[str, int]:
        """Stop all processes: no new work, `grace_s` seconds for running handlers, the rest is handed back.

        Returns when all have ended, with the exit code of each by instance name: 0 in order, -9 when it had
        to be killed because it did not end in time. Another call while the first one waits makes it hurry, if
        it allows less time (0: hand back at once).
        """
        grace_s = self.options.grace_s if grace_s is None else check_grace(grace_s)
        for process in self.processes:
            process.stop(grace_s)
        if self._keepers:
            await asyncio.wait(self._keepers)
        return {p.name: p.exit_code for p in self.processes if p.exit_code is not None}

    def _told(self, notice: Notice) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self._tell(notice)


def _places(count: int) -> list[str]:
    """What instances' names end in: a number, and what the same command on another machine will not choose."""
    unlike = random_suffix()
    return [f"{number}-{unlike}" for number in range(1, count + 1)]


def _log(notice: Notice) -> None:
    level = logging.INFO if notice.kind in ("ready", "stopping", "stopped") else logging.WARNING
    log.log(level, "%s", notice)
