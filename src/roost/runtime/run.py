"""One agent in this process, for as long as the process lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
"""For tasks and threads that a handler started and nobody waits for."""


def run_agent(
    agent: Agent[Any] | str, *, url: str | None = None, namespace: str | None = None, grace_s: float = GRACE_S
) -> int:
    """Serve an agent (or ``"module:agent"``) until SIGTERM or SIGINT, and return the exit code.

    `url` and `namespace` are as for `roost.connect`; without them, and for the login, the environment or a context
    decides (NATS_URL, NATS_CREDS, NATS_CONTEXT …).

    It waits for a server that is not there yet, and says so in the log. At a signal it takes no new work,
    running handlers have `grace_s` seconds to finish, the rest is handed back and delivered to other processes
    at once; a second signal ends the grace. 0: all of that went well, also while the server was down. 1: the
    agent could not be started, or failed at its end (standard error says why). Handlers on threads that do not
    end are left behind: then this function does not return, it ends the process with the same exit code.

    To be called in the main thread, outside of an event loop. Raises ConfigError for a grace that is none.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            "run_agent needs the main thread, because signals arrive there; use bus.serving elsewhere"
        )
    lifeline = Lifeline(None, grace_s=check_grace(grace_s))
    lifeline.start()
    code = run(
        lambda: load_agent(agent) if isinstance(agent, str) else agent, lifeline, url=url, namespace=namespace
    )
    lifeline.close()
    return code


def run(
    load: Callable[[], Agent[Any]],
    lifeline: Lifeline,
    *,
    url: str | None = None,
    namespace: str | None = None,
) -> int:
    """`run_agent`, with a lifeline that has been started."""
    before = set(threading.enumerate())
    try:
        code = _in_a_loop(_main(load(), lifeline, url, namespace))
    except RoostError as error:
        code = _failed(lifeline, str(error), error)
    except Exception as error:
        said = f"{type(error).__name__}: {clean(str(error), 500)}" if str(error) else type(error).__name__
        code = _failed(lifeline, said, error)
    left = _left_behind(before)
    if left:
        log.info("left behind at the end: thread %s", ", ".join(clean(one.name) for one in left))
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    return code


async def _main(agent: Agent[Any], lifeline: Lifeline, url: str | None, namespace: str | None) -> int:
    stop = Stop()
    lifeline.attach(stop.ask)

    def tell(word: Word) -> None:
        lifeline.ready = lifeline.ready or word.kind == "ready"
        if lifeline.supervised:
            lifeline.say(word)
        elif word.kind == "waiting":
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


def _in_a_loop(main: Coroutine[Any, Any, int]) -> int:
    """As `asyncio.run`, but waits for no thread: one that a handler left behind must not keep the process."""
    loop = asyncio.new_event_loop()
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(threads)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_last_steps())
        threads.shutdown(wait=False, cancel_futures=True)
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


def _left_behind(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that keep Python from exiting; those that are just ending get a moment."""
    until = time.monotonic() + LAST_STEPS_S
    own = [one for one in threading.enumerate() if one not in before and not one.daemon]
    for thread in own:
        thread.join(max(0.0, until - time.monotonic()))
    return [one for one in own if one.is_alive()]


def _failed(lifeline: Lifeline, reason: str, error: Exception) -> int:
    if lifeline.ready:  # it served: this was a lifespan that raises when it is left, for instance
        log.error("the agent failed at its end: %s", reason, exc_info=error)
        return 1
    lifeline.settled = True
    log.debug("cannot start", exc_info=error)
    if lifeline.supervised:
        lifeline.say(Word("failed", "", reason))
    else:
        sys.stderr.write(f"cannot start: {reason}\n")
    return 1
