"""`roost permissions`: users of the server who may do exactly what their agents need."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from roost._text import quoted
from roost.agent import Agent
from roost.cli.options import Namespace
from roost.cli.running import command, usage
from roost.cli.terminal import print_json
from roost.contracts import Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError
from roost.permissions import (
    SERVING,
    Called,
    User,
    accounts_of,
    administering,
    calling,
    inbox_of,
    nats_config,
    nsc_commands,
    observing,
    scheduling,
    serving,
)
from roost.permissions.accounts import Accounts
from roost.runtime.load import load
from roost.server.production import SYSTEM_PASSWORD
from roost.settings import resolve
from roost.upkeep import keeping


class Role(StrEnum):
    worker = "worker"
    coordinator = "coordinator"
    reporter = "reporter"
    caller = "caller"
    observer = "observer"
    admin = "admin"
    upkeep = "upkeep"


class Format(StrEnum):
    nats = "nats"
    nsc = "nsc"
    json = "json"


@command
def permissions_command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE:NAME", help="Agents; for a caller also contracts that it uses."),
    ] = None,
    role: Annotated[
        list[Role] | None,
        typer.Option(
            "--role", help="Several may be given. Without: what the handlers of each agent make it."
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the user, if there is one only.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What is printed.")] = Format.nats,
    system: Annotated[
        bool,
        typer.Option(
            "--system", help="With a user `system` of the server itself, as in `roost server config`."
        ),
    ] = False,
    schedules: Annotated[
        bool, typer.Option("--schedules", help="The caller may write schedules, and so have any task run.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Print users who may do exactly what their work needs.

    A worker, coordinator or reporter is an agent that handles tasks, endpoints and topics, workflows, or reports
    outcomes; it is called as the agent. A caller uses what the targets handle. An observer reads the log and sees
    who is there. An admin makes the log (`roost provision`), cancels, signals and replays. `roost upkeep` runs as
    the user of role upkeep, who may remove records, as agents may not. Nothing is asked of a server. What handlers
    call themselves is known from `Agent(..., calls=[...])`.

    \b
    Examples:
      roost permissions shop.agents:packer shop.agents:clerk --system > users.conf
      roost server config --permissions users.conf > nats-server.conf
      roost permissions shop.agents:packer --role caller --user web
      roost permissions shop.agents:packer --role worker --role caller --role admin --format nsc
    """
    sys.path.insert(0, os.getcwd())  # as for `roost up`
    found = [(target, load(target)) for target in targets or []]
    with usage():
        settings = resolve("nats://127.0.0.1", namespace=namespace)
        roles = [one.value for one in role or []]
        users = wanted(found, roles, settings.namespace, user, schedules=schedules)
        accounts = accounts_of(settings.namespace, users)
        if system and form is not Format.nats:
            raise ConfigError("--system is for --format nats: an operator of nsc has a system account")
        if system and any(one.name == "system" for one in users):
            raise ConfigError("--system makes a user system: give the other one another name by --user")
    if form is Format.json:
        print_json(_as_json(accounts))
    else:
        printed = nats_config(accounts, system=SYSTEM_PASSWORD if system else "")
        sys.stdout.write(printed if form is Format.nats else nsc_commands(accounts))
    for one in accounts.users:
        for text in one.warnings:
            sys.stderr.write(f"roost: {text}\n")


def wanted(
    found: Sequence[tuple[str, Any]],
    roles: Sequence[str],
    namespace: str,
    name: str | None,
    *,
    schedules: bool = False,
) -> list[User]:
    """The users that targets and roles ask for. Raises ConfigError, UnsafeToken."""
    for target, one in found:
        if not isinstance(one, Agent | Task | Workflow | Endpoint | StreamEndpoint | Topic | Signal):
            raise ConfigError(f"{target} is no Agent and no contract of roost but {quoted(one)}")
    agents = [one for _, one in found if isinstance(one, Agent)]
    as_agents = [role for role in roles if role in SERVING]
    users: list[User] = []
    if as_agents or not roles:
        if not agents:
            raise ConfigError("name an agent (module:agent), or give --role caller, observer or admin")
        for agent in agents:
            users.append(_serving(agent, as_agents, namespace, name))
    if schedules and "caller" not in roles:
        raise ConfigError("--schedules is for --role caller; an admin writes schedules anyway")
    if "caller" in roles:
        if not found:
            raise ConfigError("--role caller: name the agents or contracts that it uses")
        inbox = inbox_of(name or "caller")
        rights = calling(_called(one for _, one in found), namespace, inbox)
        if schedules:
            rights |= scheduling(namespace, inbox)
        users.append(User(name=name or "caller", does="caller", rights=rights))
    if "observer" in roles:
        rights = observing(namespace, inbox_of(name or "observer"))
        users.append(User(name=name or "observer", does="observer", rights=rights))
    if "admin" in roles:
        rights = administering(namespace, inbox_of(name or "admin"))
        users.append(User(name=name or "admin", does="admin", rights=rights, of_the_log=True))
    if "upkeep" in roles:
        rights = keeping(namespace, inbox_of(name or "upkeep"))
        users.append(User(name=name or "upkeep", does="upkeep", rights=rights, of_the_log=True))
    if name is not None and len(users) > 1:
        raise ConfigError(f"--user is the name of one user, and these are {len(users)}: run it once for each")
    return users


def _serving(agent: Agent[Any], roles: Sequence[str], namespace: str, name: str | None) -> User:
    """The user of an agent. A process serves all handlers of its agent, or does not start."""
    job, user = agent.job, name or agent.name
    if not job.handles and not job.reports:
        raise ConfigError(f"agent {agent.name} has no handlers")
    more = [one for one in job.roles if one not in roles]
    if roles and more and not set(roles).isdisjoint(job.roles):
        raise ConfigError(f"agent {agent.name} is a {more[0]} too, and would not start: add --role {more[0]}")
    if roles and more:
        raise ConfigError(f"agent {agent.name} is no {roles[0]} but a {' and a '.join(job.roles)}")
    does = f"{', '.join(job.roles)} {agent.name}"
    return User(name=user, does=does, rights=serving(job, namespace, inbox_of(user)))


def _called(found: Iterable[Any]) -> list[Called]:
    contracts: list[Called] = []
    for one in found:
        contracts += [handler.contract for handler in one.handlers] if isinstance(one, Agent) else [one]
    return contracts


def _as_json(accounts: Accounts) -> dict[str, Any]:
    return {
        "accounts": {
            "log": accounts.log,
            "agents": accounts.agents,
            "services": [*accounts.streamed, *accounts.services],
            "streams": list(accounts.feeds),
        },
        "users": [
            {
                "user": one.name,
                "does": one.does,
                "account": accounts.log if one.of_the_log else accounts.agents,
                "inbox_prefix": one.inbox,
                "publish": dict(one.rights.publish),
                "subscribe": dict(one.rights.subscribe),
                "allow_responses": {"max": one.rights.answers, "expires_s": one.rights.answers_s}
                if one.rights.answers
                else None,
                "warnings": one.warnings,
            }
            for one in accounts.users
        ],
    }
