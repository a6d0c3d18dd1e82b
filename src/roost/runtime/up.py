"""`roost up` without its command line: a supervisor that ends with a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from roost.runtime.health import health_file
from roost.runtime.notices import Notice
from roost.runtime.specs import AgentSpec, SupervisorOptions
from roost.runtime.supervisor import Supervisor

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def up(
    agents: Sequence[AgentSpec],
    *,
    url: str | None = None,
    namespace: str | None = None,
    options: SupervisorOptions | None = None,
    health: Path | None = None,
    tell: Callable[[Notice | str], None],
) -> int:
    """Run agents until SIGTERM, SIGINT (Ctrl-C) or SIGHUP; a second one ends the grace. The exit code.

    0: stopped, and every process ended in order, its work finished or handed back. 1: no process could be
    started, or one had to be killed at the end. `health` is a file that says how it goes
    (`health.py`). `tell` gets each notice, and sentences about the whole. To be
    called in the main thread.
    """
    supervisor = Supervisor(agents, url=url, namespace=namespace, options=options, tell=tell)
    grace_s = supervisor.options.grace_s
    loop = asyncio.get_running_loop()
    signals = 0
    first = asyncio.Event()
    hurry: list[asyncio.Task[dict[str, int]]] = []

    def heard(number: int) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            name = signal.Signals(number).name
            tell(f"{name}: stopping, {grace_s:g} s for running handlers; once more ends them at once")
            first.set()
        elif not hurry:
            tell("ending at once; what was running is handed back")
            hurry.append(loop.create_task(supervisor.stop(0), name="roost-up-hurry"))

    # nohup ignores SIGHUP, and means it; a shell without job control ignores SIGINT for what it puts in the
    # background, and somebody who sends one all the same means that.
    caught = [one for one in SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]
    for number in caught:
        loop.add_signal_handler(number, heard, number)
    try:
        async with health_file(health, supervisor.processes), supervisor:
            asked = asyncio.create_task(first.wait(), name="roost-up-signal")
            hopeless = asyncio.create_task(supervisor.wait_hopeless(), name="roost-up-hopeless")
            try:
                await asyncio.wait({asked, hopeless}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
                hopeless.cancel()
                await asyncio.gather(asked, hopeless, return_exceptions=True)
            codes = await supervisor.stop(0 if not first.is_set() else grace_s)
            await asyncio.gather(*hurry)
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
    if not first.is_set():
        tell("no process could be started; mend that and run it again")
        return 1
    return 0 if not any(codes.values()) else 1
