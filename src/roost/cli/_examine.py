"""What `roost doctor` asks: the server, the log, the consumers, the agents. It changes nothing that stays.

Each question may be refused or left without an answer; then its check is `unknown`, and the others go on.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from roost._text import clean
from roost.bus import Bus
from roost.cli import _checks
from roost.cli._checks import Check, Verdict, listed
from roost.cli._silent import silent
from roost.cli._standstill import deadlines, runs, writes
from roost.cli.terminal import until
from roost.discovery import AgentInfo
from roost.errors import (
    JetStreamError,
    PermissionDenied,
    RoostError,
)
from roost.server.profiles import ALWAYS, SYNC
from roost.tasks.administer import Contracted, provision
from roost.tasks.backlog import Backlog, backlog
from roost.tasks.log import parse_time
from roost.tasks.provision import (
    Reported,
    consumer_config,
    consumer_name,
    differences,
    stream_config,
    timetable_config,
    timetable_stream,
)
from roost.tasks.retention import Retention
from roost.transport.jetstream import STREAM_NOT_FOUND
from roost.transport.wire import is_loopback

R = TypeVar("R")

LAZILY = {"sync_interval": 120e9}
"""The default of nats-server, in nanoseconds."""
MONITOR_PORT = 8222
"""Where nats-server tells about itself by custom, and in what `roost server config` prints."""
ASK_S = 1.0


async def examine(
    bus: Bus,
    contracts: Sequence[Contracted] = (),
    reports: Sequence[Reported] = (),
    *,
    monitors: Sequence[str] = (),
    soon: str = "",
) -> list[Check]:
    """All checks, in the order in which they are to be read. `soon`: what was said of the login's end."""
    found = await _connection(bus, soon)
    told = await _or(None, lambda: _user_info(bus))
    found.append(_checks.clock(_ahead_s(told)))
    found.append(_checks.acks((told or {}).get("server", {}).get("feature_flags")))
    found.append(await _power_cut(bus, monitors, (told or {}).get("server") or {}))
    if any(one.name == "JetStream" and one.verdict == "fail" for one in found):
        return found
    try:
        info = await bus.link.jetstream.call(f"STREAM.INFO.{bus.log.stream}")
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            return [*found, Check(name="log", verdict="fail", found=clean(str(error), 300))]
        advice = "compare the namespace and the server, if there should be something"
        text = f"nothing has been stored in namespace {bus.namespace} yet"
        return [*found, Check(name="log", verdict="warn", found=text, advice=advice)]
    except RoostError as error:
        return [*found, _not_known("log", error), *await _agents_only(bus)]
    return [*found, *await _log(bus, info), *await _work(bus, contracts, reports)]


async def _connection(bus: Bus, soon: str) -> list[Check]:
    status = await bus.status()
    uri = bus.link.client.connected_url
    where = f"{status.server} ({status.url}), namespace {status.namespace}"
    if status.jetstream is not None:
        jetstream = Check(name="JetStream", verdict="ok", found=str(status.jetstream))
    elif status.jetstream_note.startswith("none"):
        advice = "start it with -js, or enable it for this account"
        jetstream = Check(name="JetStream", verdict="fail", found=status.jetstream_note, advice=advice)
    else:
        jetstream = Check(name="JetStream", verdict="unknown", found=status.jetstream_note)
    return [
        Check(name="server", verdict="ok", found=where),
        _checks.version(status.version),
        jetstream,
        _checks.round_trip(status.rtt_s),
        _checks.protection(status.tls, local=uri is not None and is_loopback(uri.hostname or "")),
        _checks.login(status.login, status.expires_s, soon, time.time()),
        _checks.payload(int(bus.link.client.max_payload)),
    ]


async def _user_info(bus: Bus) -> dict[str, Any]:
    """Who this is, as the server sees it, with the server's time and its feature flags."""
    asked = time.time()
    answer = await bus.link.requests.ask("$SYS.REQ.USER.INFO", timeout_s=ASK_S)
    found: dict[str, Any] = json.loads(answer.data)
    found["asked_s"], found["answered_s"] = asked, time.time()
    return found


def _ahead_s(told: dict[str, Any] | None) -> float | None:
    stamp = (told or {}).get("server", {}).get("time")
    if told is None or not stamp:
        return None
    here: float = (told["asked_s"] + told["answered_s"]) / 2
    return here - _seconds(str(stamp))


def _seconds(stamp: str) -> float:
    """Of a time as the server writes it, in UTC or with an offset."""
    return parse_time(stamp) if stamp.endswith("Z") else datetime.fromisoformat(stamp).timestamp()


# Power cuts ---------------------------------------------------------------------------------------


async def _power_cut(bus: Bus, monitors: Sequence[str], told: dict[str, Any]) -> Check:
    """What the servers say about their disks: to the system account, on their monitoring ports, or in what `told`
    says about the one that this is, if `roost server` runs it.
    """
    info = bus.link.client._server_info
    own = str(info.get("server_id", ""))
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for monitor in monitors:
        varz = await asyncio.to_thread(_varz, monitor)
        if varz is None:
            text = f"{clean(monitor, 100)} did not answer"
            return Check(
                name="power cut", verdict="unknown", found=text, advice="it is the server's option `http`"
            )
        found[str(varz.get("server_id"))] = _synced(varz)
    sync = (told.get("metadata") or {}).get(SYNC)
    if sync is not None and own not in found:
        server = str(told.get("name", ""))
        return _checks.power_cut([(server, {"sync_always": sync == ALWAYS, **LAZILY})], unasked=False)
    if own not in found:
        answer = await _or(
            None, lambda: bus.link.requests.ask(f"$SYS.REQ.SERVER.{own}.VARZ", timeout_s=ASK_S)
        )
        varz = json.loads(answer.data).get("data") if answer is not None else None
        uri = bus.link.client.connected_url
        if varz is None and uri is not None and uri.hostname:
            host = f"[{uri.hostname}]" if ":" in uri.hostname else uri.hostname
            varz = await asyncio.to_thread(_varz, f"http://{host}:{MONITOR_PORT}")
        if varz is not None and varz.get("server_id") == own:  # and not of another server on this machine
            found[own] = _synced(varz)
    servers = max(len(info.get("connect_urls") or ()), 3) if _clustered(bus) else 1
    return _checks.power_cut(list(found.values()), unasked=len(found) < servers)


def _synced(varz: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return str(varz.get("server_name", "")), (varz.get("jetstream") or {}).get("config") or {}


def _varz(monitor: str) -> dict[str, Any] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{monitor.rstrip('/')}/varz", timeout=ASK_S) as answer:
            found = json.loads(answer.read(1_000_000))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


# The log ------------------------------------------------------------------------------------------


def _clustered(bus: Bus) -> bool:
    info = bus.link.client._server_info
    cluster = info.get("cluster", "")
    return bool(cluster) and cluster != info.get("server_name")  # as a leaf node that stands alone has it


async def _log(bus: Bus, info: dict[str, Any]) -> list[Check]:
    config = info["config"]
    differ = differences(stream_config(bus.log.subjects), config)
    found = [
        _checks.configuration("log", f"stream {bus.log.stream}", differ),
        _checks.copies(
            int(config.get("num_replicas", 1)), info.get("cluster") or {}, clustered=_clustered(bus)
        ),
        await _check("writes", lambda: writes(bus)),
        await _check("room", lambda: _room(bus, info)),
    ]
    try:
        found.append(_checks.retention(Retention.of(config)))
    except RoostError as error:
        found.append(Check(name="retention", verdict="fail", found=clean(str(error), 300)))
    return found


async def _room(bus: Bus, info: dict[str, Any]) -> Check:
    limit = int(info["config"].get("max_bytes", -1))
    open = 0
    if limit > 0:
        rows, _ = await backlog(bus.log)
        open = await bus.log.room.open_tasks(one.name for one in rows if not one.consumer)
    return _checks.room(int(info["state"]["bytes"]), limit, open)


async def _work(bus: Bus, contracts: Sequence[Contracted], reports: Sequence[Reported]) -> list[Check]:
    found = [await _check("schedules", lambda: _timetable(bus))]
    found.append(await _check("consumers", lambda: _consumers(bus, contracts, reports)))
    agents = await _or(None, lambda: bus.agents(timeout_s=ASK_S))
    try:
        rows, complete = await backlog(bus.log)
    except RoostError as error:
        found += [_not_known(name, error) for name in ("paused", "unserved", "dead letters")]
    else:
        found += [_paused(rows), _unserved(rows, agents, complete=complete), _dead(rows)]
    found.append(await _check("deadlines", lambda: deadlines(bus)))
    found.append(await _check("runs", lambda: runs(bus)))
    found.append(await _check("agents", lambda: _agents(bus, agents)))
    return found


async def _timetable(bus: Bus) -> Check:
    stream = timetable_stream(bus.namespace)
    try:
        info = await bus.link.jetstream.call(f"STREAM.INFO.{stream}")
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        return Check(name="schedules", verdict="ok", found="there are none")
    return _checks.configuration(
        "schedules", f"stream {stream}", differences(timetable_config(bus.namespace), info["config"])
    )


async def _consumers(bus: Bus, contracts: Sequence[Contracted], reports: Sequence[Reported]) -> Check:
    """Each consumer beside what the code wants; of contracts that are not known, what all have in common."""
    wrong: list[str] = []
    changes = (
        await provision(bus.log, contracts, reports=reports, dry_run=True) if contracts or reports else []
    )
    for change in changes[1:]:  # the first is the stream
        wrong += [
            f"{change.what}: {one.field} is {one.found!r} and not {one.wanted!r}"
            for one in change.differences
        ]
        wrong += [f"{change.what} is not there"] if change.action == "created" else []
    count = 0
    while True:
        page = await bus.link.jetstream.call(f"CONSUMER.LIST.{bus.log.stream}", {"offset": count})
        for info in page.get("consumers") or ():
            if not any(one.what == f"consumer {info['name']}" for one in changes):
                wrong += _odd(bus, info)
        count += len(page.get("consumers") or ())
        if not page.get("consumers") or count >= int(page.get("total", 0)):
            break
    if wrong:
        advice = "roost provision MODULE:AGENT, with the agents that they are of"
        return Check(name="consumers", verdict="fail", found=listed(wrong), advice=advice)
    seen = f"{count}, as " + (
        "the code wants them" if contracts or reports else "far as can be told without the agents"
    )
    return Check(name="consumers", verdict="ok", found=seen)


def _odd(bus: Bus, info: dict[str, Any]) -> list[str]:
    """How a worker's consumer differs from any that Roost would make."""
    config = info["config"]
    name = str(info["name"]).removeprefix(consumer_name(""))
    if name == info["name"]:
        return []
    ack_wait_s = int(config.get("ack_wait", 0)) / 1e9
    wanted = consumer_config(
        bus.log.subjects, name, ack_wait_s, int(config.get("max_ack_pending", 0)) or None
    )
    return [
        f"consumer {clean(info['name'], 80)}: {one.field} is {one.found!r} and not {one.wanted!r}"
        for one in differences(wanted, config)
    ]


def _paused(rows: Sequence[Backlog]) -> Check:
    stopped = [f"{clean(one.name, 64)} {until(one.paused_until)}" for one in rows if one.paused_until]
    if stopped:
        return Check(name="paused", verdict="warn", found=listed(stopped), advice="roost tasks resume NAME")
    return Check(name="paused", verdict="ok", found="none")


def _unserved(rows: Sequence[Backlog], agents: Sequence[AgentInfo] | None, *, complete: bool) -> Check:
    """Contracts whose tasks wait while nobody is there for them."""
    waiting = [one for one in rows if one.waiting and not one.paused_until]
    idle = [one for one in waiting if not one.pulls]  # all hands are full, or nobody is there
    if agents is None:
        idle = [one for one in idle if not one.in_work]
    else:
        idle = [one for one in idle if not any(agent.handles(one.name) for agent in agents)]
    told = listed([f"{one.waiting:,} of {clean(one.name, 64)}" for one in idle])
    if idle and agents is None:
        text = f"nobody asks for these just now: {told}"
        return Check(name="unserved", verdict="warn", found=text, advice="look whether their agents run")
    if idle:
        text = f"tasks wait and no agent serves them: {told}"
        return Check(
            name="unserved", verdict="fail", found=text, advice="start the agents: roost up MODULE:AGENT"
        )
    if not complete:
        return Check(
            name="unserved", verdict="unknown", found="there are too many tasks to look at all contracts"
        )
    total = sum(one.waiting for one in waiting)
    return Check(
        name="unserved",
        verdict="ok",
        found=f"none; {total:,} wait for agents that are there" if total else "none",
    )


def _dead(rows: Sequence[Backlog]) -> Check:
    died = [f"{one.dead:,} of {clean(one.name, 64)}" for one in rows if one.dead]
    if died:
        return Check(name="dead letters", verdict="warn", found=listed(died), advice="roost dead groups")
    return Check(name="dead letters", verdict="ok", found="none")


# Agents -------------------------------------------------------------------------------------------


async def _agents_only(bus: Bus) -> list[Check]:
    agents = await _or(None, lambda: bus.agents(timeout_s=ASK_S))
    return [await _check("agents", lambda: _agents(bus, agents))]


async def _agents(bus: Bus, agents: Sequence[AgentInfo] | None) -> Check:
    """Who answers, and who has a connection and does not: that one is frozen, or blocks its event loop."""
    if agents is None:
        return Check(name="agents", verdict="unknown", found="this user may not ask them ($SRV.INFO)")
    told = f"{len(agents)} answer" + ("s" if len(agents) == 1 else "") if agents else "nobody answers"
    frozen = await silent(bus, agents)
    if frozen is None:
        text = f"{told}; this user may not see who is connected and silent"
        return Check(
            name="agents", verdict="unknown", found=text, advice="roost agents --watch shows who falls silent"
        )
    if frozen:
        text = f"{told}; connected and silent: {listed([clean(one, 80) for _, one in frozen])}"
        advice = "frozen, or its event loop is blocked: look at its process and its log (`loop_blocked`)"
        return Check(name="agents", verdict="warn", found=text, advice=advice)
    return Check(name="agents", verdict="ok", found=f"{told}, none is silent")


# What may not be known ----------------------------------------------------------------------------


async def _or(default: R, ask: Callable[[], Awaitable[R]]) -> R:
    try:
        return await ask()
    except (RoostError, ValueError):
        return default


async def _check(name: str, ask: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await ask()
    except (RoostError, ValueError) as error:
        return _not_known(name, error)


def _not_known(name: str, error: Exception) -> Check:
    verdict: Verdict = "unknown"
    advice = (
        "ask again as a user who may: an administrator of the log"
        if isinstance(error, PermissionDenied)
        else ""
    )
    return Check(name=name, verdict=verdict, found=clean(str(error), 300), advice=advice)
