"""`roost agents`: who is there, how much each has to do, and whether it still answers."""

from __future__ import annotations

import json as json_module
import sys
import time
from typing import Annotated, Any

import typer
from rich.live import Live

from roost._text import clean
from roost.cli._agents_view import COLUMNS, AgentsView, row
from roost.cli._silent import silent
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, usage, wait_for
from roost.cli.terminal import console, print_json, print_table, stamp
from roost.connecting import connect
from roost.discovery import AgentChange, AgentInfo, HandlerInfo
from roost.observe import Event
from roost.subjects import token

TIMEOUT_S = 1.0
SHOWN_S = 60.0
"""For how long `--watch` shows who has left, or is gone."""


@command
def agents(
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="Only instances of this agent.")
    ] = None,
    handles: Annotated[
        str | None,
        typer.Option("--handles", metavar="CONTRACT", help="Only instances that serve this contract."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.05, max=60, help="How long to wait for answers at most.")
    ] = TIMEOUT_S,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Show the running instances of agents.

    Who is frozen or blocked does not answer and is not in the table: a line on standard error names those that are
    connected and silent. With --watch, one that was seen before is shown as silent, and a killed one as gone. With
    --watch and --json, each change is a line of JSON.

    \b
    Example:
      roost agents --handles digest
    """
    if agent is not None:
        with usage():
            token(agent, name="AGENT")
    if watch:
        wait_for(_follow(agent, handles, url, namespace, json=json))
        return
    found, frozen = wait_for(_ask(agent, handles, timeout, url, namespace))
    if json:
        print_json([agent_json(one) for one in found])
    elif found:
        if sys.stdout.isatty():
            console().print(AgentsView(found))
        else:
            print_table(COLUMNS, [row(one) for one in found])
    else:
        sys.stderr.write("no agent answers" + (f" that serves {handles}" if handles else "") + "\n")
    if frozen:
        names = ", ".join(clean(one, 80) for one in frozen)
        sys.stderr.write(
            f"{len(frozen)} connected and silent (frozen, or its event loop is blocked): {names}\n"
        )


async def _ask(
    agent: str | None, handles: str | None, timeout_s: float, url: str | None, namespace: str | None
) -> tuple[list[AgentInfo], list[str]]:
    """Who answers, and the instances that do not; of those it is not known what they handle."""
    async with connect(url, namespace=namespace, name="roost-cli") as bus:
        found = await bus.agents(agent=agent, capability=handles, timeout_s=timeout_s)
        others = [] if handles is not None else await silent(bus, found) or []
        return found, [instance for name, instance in others if agent in (None, name)]


async def _follow(
    agent: str | None, handles: str | None, url: str | None, namespace: str | None, *, json: bool
) -> None:
    async with connect(url, namespace=namespace, name="roost-cli") as bus:
        bus.watch(_tell_of_connection)
        async with bus.watch_agents(agent=agent, capability=handles) as watch:
            if json or not sys.stdout.isatty():
                async for change in watch:
                    _print_change(change, json=json)
                return
            shown: dict[str, AgentInfo] = {one.instance: one for one in watch.agents}
            with Live(AgentsView(watch.agents, whole=False), console=console(), auto_refresh=False) as live:
                async for change in watch:
                    shown[change.agent.instance] = change.agent  # also who left: it was on the screen
                    live.update(AgentsView(_recent(shown), whole=False), refresh=True)


def _tell_of_connection(event: Event) -> None:
    """What is shown is old while there is no connection."""
    at = time.strftime("%H:%M:%S")
    if event.kind == "connection_lost":
        sys.stderr.write(f"{at} connection to the server lost: {event.reason}. Trying again\n")
    elif event.kind == "reconnected":
        sys.stderr.write(f"{at} connected again\n")


def _print_change(change: AgentChange, *, json: bool) -> None:
    if json:
        line = json_module.dumps({"change": change.kind, **agent_json(change.agent, schemas=False)})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    else:
        print_table((time.strftime("%H:%M:%S"), change.kind, *row(change.agent)), ())


def _recent(shown: dict[str, AgentInfo]) -> list[AgentInfo]:
    """By name, without those that went more than a minute ago."""
    now = time.time()
    for one in list(shown.values()):
        if one.state in ("left", "gone") and now - one.heard_s > SHOWN_S:
            del shown[one.instance]
    return [one for _, one in sorted(shown.items())]


def agent_json(one: AgentInfo, *, schemas: bool = True) -> dict[str, Any]:
    return {
        "instance": one.instance,
        "agent": one.agent,
        "state": one.state,
        "version": one.version,
        "roost": one.roost,
        "host": one.host,
        "pid": one.pid,
        "started": stamp(one.started_s),
        "heard": stamp(one.heard_s),
        "interval_s": one.interval_s,
        "handlers": [handler_json(handler, schemas=schemas) for handler in one.handlers],
    }


def handler_json(one: HandlerInfo, *, schemas: bool) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "hash": one.hash,
        "running": one.running,
        "limit": one.limit,
        "waiting": one.waiting,
        "handled": one.handled,
        "errors": one.errors,
        **({"schemas": dict(one.schemas)} if schemas else {}),
    }
