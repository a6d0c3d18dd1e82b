"""The `accounts` block of a nats-server configuration. Pure. It holds no secret.

Passwords are read by the server from its environment, and it does not start without them: none is ever a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roost.permissions.accounts import Accounts, User


def nats_config(accounts: Accounts, *, system: str = "") -> str:
    """Text to be included in the configuration of a server, at its top level: `roost server config --permissions`.

    With `system`, the name of an environment variable, there is also a user `system` with that password, who sees the
    server's inner account and no message of the agents.
    """
    admins = [one for one in accounts.users if one.of_the_log]
    others = [one for one in accounts.users if not one.of_the_log]
    exports = [
        *(
            f'{{ service: "{one}", response_type: stream, accounts: [{accounts.agents}] }}'
            for one in accounts.streamed
        ),
        *(f'{{ service: "{one}", accounts: [{accounts.agents}] }}' for one in accounts.services),
        *(f'{{ stream: "{one}", accounts: [{accounts.agents}] }}' for one in accounts.feeds),
    ]
    imports = [
        *(
            f'{{ service: {{ account: {accounts.log}, subject: "{one}" }} }}'
            for one in (*accounts.streamed, *accounts.services)
        ),
        *(f'{{ stream: {{ account: {accounts.log}, subject: "{one}" }} }}' for one in accounts.feeds),
    ]
    lines = [*_head(accounts.users), "accounts {", f"  {accounts.log} {{", "    jetstream: enabled"]
    lines += [*_list("exports", exports), *_users(admins), "  }"]
    lines += [f"  {accounts.agents} {{", *_list("imports", imports), *_users(others), "  }"]
    if system:
        lines += [f"  SYSTEM {{ users: [ {{ user: system, password: ${system} }} ] }}"]
    lines += ["}", *(["system_account: SYSTEM"] if system else [])]
    return "\n".join(lines) + "\n"


def _head(users: Iterable[User]) -> list[str]:
    lines = [
        "# Users of nats-server with exactly what they need. Written by `roost permissions`.",
        "# Include it at the top level of a configuration: `roost server config --permissions FILE` prints one.",
        "# The server reads passwords from its environment; programs get theirs, and their inbox, from their own:",
    ]
    for one in users:
        lines.append(
            f"#   {one.does}: NATS_USER={one.name} NATS_PASSWORD=<{one.variable}> ROOST_INBOX_PREFIX={one.inbox}"
        )
    return lines + [f"# WARNING: {text}" for one in users for text in one.warnings]


def _list(name: str, entries: Iterable[str]) -> list[str]:
    return [f"    {name}: [", *(f"      {one}" for one in entries), "    ]"]


def _users(users: Iterable[User]) -> list[str]:
    lines = ["    users: ["]
    for one in users:
        lines += [
            f"      {{ user: {one.name}, password: ${one.variable}, permissions: {{  # {one.does}",
            *_subjects("publish", one.rights.publish),
            *_subjects("subscribe", one.rights.subscribe),
        ]
        if one.rights.answers:
            lines.append(
                f'        allow_responses: {{ max: {one.rights.answers}, expires: "{one.rights.answers_s}s" }}'
            )
        lines.append("      } }")
    return [*lines, "    ]"]


def _subjects(action: str, subjects: Mapping[str, str]) -> list[str]:
    lines = [f'          "{one}"  # {why}' for one, why in subjects.items()]
    return [f"        {action}: {{ allow: [", *lines, "        ] }"]
