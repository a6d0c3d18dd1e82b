"""One agent in this process, for as long as the process lives."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from typing import Any

from roost._text import clean
from roost.agent import Agent
from roost.errors import ConfigError, RoostError
from roost.runtime.lifeline import Lifeline
from roost.runtime.load import load_agent
from roost.runtime.serve import Stop, serve
from roost.runtime.specs import GRACE_S, check_grace
from roost.runtime.words import Word

log = logging.getLogger("roost.runtime")

LAST_STEPS_S = 1.0
"""For tasks that a handler started and nobody waits for."""


def run_agent(
    agent: Agent[Any] | str, *, url: str | None = None, namespace: str | None = None, grace_s: float = GRACE_S
) -> int:
    """Serve an agent (or ``"module:agent"``) until SIGTERM or SIGINT, and return the exit code.

    It waits for a server that is not there yet, and says so in the log. At a signal it takes no new work,
    running handlers have `grace_s` seconds to finish, the rest is handed back and delivered to other processes
    at once; a second signal ends the grace. 0: all of that went well, also while the server was down. 1: the
    agent could not be started (the log says why). Handlers on threads that do not end are left behind: then
    this function does not return, it ends the process with the same exit code.

    To be called in the main thread, outside of an event loop. Raises ConfigError for a grace that is none.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("run_agent needs the main thread, because signals arrive there; use bus.serving elsewhere")
    lifeline = Lifeline(None, grace_s=check_grace(grace_s))
    lifeline.start()
    return run(agent, lifeline, url=url, namespace=namespace)


def run(agent: Agent[Any] | str, lifeline: Lifeline, *, url: str | None = None, namespace: str | None = None) -> int:
    """`run_agent`, with a lifeline that has been started."""
    before = set(threading.enumerate())
    try:
        loaded = load_agent(agent) if isinstance(agent, str) else agent
        code = _in_a_loop(_main(loaded, lifeline, url, namespace))
    except RoostError as error:
        code = _cannot_start(lifeline, str(error), error)
    except Exception as error:
        said = f"{type(error).__name__}: {clean(str(error), 500)}" if str(error) else type(error).__name__
        code = _cannot_start(lifeline, said, error)
    left = [one for one in threading.enumerate() if one not in before and not one.daemon]
    if left:
        log.info("left behind at the end: %s", ", ".join(clean(one.name) for one in left))
        logging.shutdown()
        os._exit(code)
    lifeline.close()
    return code


async def _main(agent: Agent[Any], lifeline: Lifeline, url: str | None, namespace: str | None) -> int:
    stop = Stop()
    lifeline.attach(stop.ask)

    def tell(word: Word) -> None:
        lifeline.say(word)
        if word.kind == "waiting" and not lifeline.supervised:
            log.warning("waiting for the server: %s", word.text)
        elif word.kind == "ready":
            log.info("%s is ready (pid %d)", word.name, os.getpid())

    def settled() -> None:
        lifeline.settled = True

    try:
        await serve(agent, stop, url=url, namespace=namespace, tell=tell, settled=settled)
    except asyncio.CancelledError:  # by `Stop`, before anything was served: there was nothing to finish
        settled()
    return 0


def _in_a_loop(main: Any) -> int:
    """As `asyncio.run`, but waits for no thread: one that a handler left behind must not keep the process."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        code: int = loop.run_until_complete(main)
        return code
    finally:
        loop.run_until_complete(_last_steps())
        asyncio.set_event_loop(None)
        if not asyncio.all_tasks(loop):
            loop.close()


async def _last_steps() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=LAST_STEPS_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _cannot_start(lifeline: Lifeline, reason: str, error: Exception) -> int:
    lifeline.settled = True
    log.debug("cannot start", exc_info=error)
    if lifeline.supervised:
        lifeline.say(Word("failed", "", reason))
    else:
        sys.stderr.write(f"cannot start: {reason}\n")
    return 1
