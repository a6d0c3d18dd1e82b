"""The same accounts and users as commands for `nsc`, where an operator signs them. Pure.

Options are those of https://nats-io.github.io/nsc/ (`add account`, `edit account`, `add export`, `add import`,
`add user`). Credentials are then files: NATS_CREDS of each program.
"""

from __future__ import annotations

from roost.permissions.accounts import Accounts

_KEY = "LOG_KEY"


def nsc_commands(accounts: Accounts) -> str:
    """A shell script; needs `nsc` and an operator, and `jq`."""
    log, agents = accounts.log, accounts.agents
    lines = [
        "set -eu",
        f"nsc add account --name {log}",
        f"nsc edit account --name {log} --js-disk-storage -1 --js-mem-storage -1 --js-streams -1 --js-consumer -1",
        f"nsc add account --name {agents}",
        f"{_KEY}=$(nsc describe account --name {log} --json | jq -r .sub)",
    ]
    for one in accounts.streamed:
        lines.append(
            f"nsc add export --account {log} --name '{one}' --subject '{one}' --service --response-type Stream"
        )
    for one in accounts.services:
        lines.append(f"nsc add export --account {log} --name '{one}' --subject '{one}' --service")
    for one in accounts.feeds:
        lines.append(f"nsc add export --account {log} --name '{one}' --subject '{one}'")
    for one in (*accounts.streamed, *accounts.services):
        lines.append(_import(agents, one) + " --service")
    lines += [_import(agents, one) for one in accounts.feeds]
    for user in accounts.users:
        lines += [f"# {user.does}: NATS_CREDS=<its file> ROOST_INBOX_PREFIX={user.inbox}"]
        lines += [f"# WARNING: {text}" for text in user.warnings]
        add = f"nsc add user --account {log if user.of_the_log else agents} --name {user.name}"
        add += f" \\\n  --allow-pub '{','.join(user.rights.publish)}'"
        add += f" \\\n  --allow-sub '{','.join(user.rights.subscribe)}'"
        if user.rights.answers:
            add += (
                f" \\\n  --allow-pub-response={user.rights.answers} --response-ttl {user.rights.answers_s}s"
            )
        lines.append(add)
    return "\n".join(lines) + "\n"


def _import(agents: str, subject: str) -> str:
    return (
        f"nsc add import --account {agents} --src-account \"${_KEY}\" --name '{subject}' "
        f"--remote-subject '{subject}' --local-subject '{subject}'"
    )
