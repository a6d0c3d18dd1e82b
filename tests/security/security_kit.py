"""What the security tests share: a server on the printed block, and connections as one of its users.

Passwords stand at the top of the test's own file, where nats-server finds them as it would in its environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as PlainClient
from team import Heard

import roost
from roost.cli.permissions import wanted
from roost.permissions import Rights, User, accounts_of, nats_config
from roost.permissions.roles import Job
from roost.tasks.administer import provision

sys.path.insert(0, str(Path(__file__).parents[1] / "defects"))
from defect_kit import ConfiguredServer, configured

__all__ = [
    "SHOP",
    "SOON_S",
    "ConfiguredServer",
    "as_user",
    "block",
    "configured",
    "lines_of",
    "plainly",
    "provisioned",
    "server_for",
    "soon",
    "users_of",
    "without",
]

SHOP = "shop"
SOON_S = 20.0


def block(users: Sequence[User], namespace: str = SHOP) -> str:
    """The configuration that `roost permissions` prints, with a password for everybody."""
    passwords = "".join(f"{one.variable}: pw\n" for one in users)
    return passwords + nats_config(accounts_of(namespace, users))


def users_of(*targets: Any, roles: Sequence[str] = (), user: str | None = None) -> list[User]:
    """As `roost permissions` makes them."""
    return wanted([(str(one), one) for one in targets], roles, SHOP, user)


def without(user: User, action: str, subject: str, name: str) -> User:
    """A user of another name who lacks one subject, or the right to answer."""
    rights = user.rights
    if subject == "allow_responses":
        less = replace(rights, answers=0)
    else:
        side = dict(rights.publish if action == "publish" else rights.subscribe)
        del side[subject]
        less = replace(rights, publish=side) if action == "publish" else replace(rights, subscribe=side)
    return User(name=name, does=f"{user.does} without {subject}", rights=less, of_the_log=user.of_the_log)


def lines_of(rights: Rights) -> list[tuple[str, str]]:
    """Every line of a user's permissions, as (action, subject)."""
    answers = [("publish", "allow_responses")] if rights.answers else []
    return [
        *(("publish", one) for one in rights.publish),
        *(("subscribe", one) for one in rights.subscribe),
        *answers,
    ]


@contextmanager
def server_for(folder: Path, users: Sequence[User]) -> Iterator[ConfiguredServer]:
    with configured(folder, block(users)) as running:
        yield running


@asynccontextmanager
async def as_user(
    server: ConfiguredServer, user: str, inbox: str = "", namespace: str = SHOP
) -> AsyncIterator[roost.Bus]:
    """A bus as one user, which is refused nothing while the block runs: else that fails the test."""
    denied: list[str] = []

    def watch(event: roost.Event) -> None:
        if event.kind == "permission_denied":
            denied.append(event.reason or event.subject)

    async with roost.connect(
        server.url,
        namespace=namespace,
        credentials=roost.Credentials(user=user, password="pw"),
        inbox_prefix=inbox or f"_INBOX_{user}",
        watch=watch,
    ) as bus:
        yield bus
        await bus.link.client.flush()
    assert denied == []


@asynccontextmanager
async def plainly(
    server: ConfiguredServer, user: str, inbox: str = ""
) -> AsyncIterator[tuple[PlainClient, list[str]]]:
    """Plain nats-py as one user, and what the server refused it."""
    refused: list[str] = []

    async def told(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        server.url_of(user), error_cb=told, inbox_prefix=inbox or f"_INBOX_{user}", allow_reconnect=False
    )
    try:
        yield client, refused
    finally:
        await client.close()


async def provisioned(server: ConfiguredServer, jobs: Iterable[Job], namespace: str = SHOP) -> None:
    """Make the log and the consumers, as `roost provision` does for an admin."""
    async with as_user(server, "admin", namespace=namespace) as bus:
        contracts = [
            one for job in jobs for one in job.handles if isinstance(one, roost.Task | roost.Workflow)
        ]
        reports = [one for job in jobs for one in job.reports]
        changes = await provision(bus.log, contracts, reports=reports)
        assert [one for one in changes if one.action == "refused"] == []


async def soon(heard: Heard) -> str:
    async with asyncio.timeout(SOON_S):
        return await heard.get()
