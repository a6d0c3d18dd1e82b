"""Two accounts for one namespace: the log and who administers it in one, everybody else in the other. Pure.

Permissions alone do not fence a stream. Whoever may ask the server anything chooses the subject of its answer, and in
an account with the stream the answer to a direct get, a record of the asker's own making, is stored as whatever it
names: the outcome of another contract's task. Between two accounts an answer comes back only to the account of who
asked, where no stream listens (`docs/decisions/016…`, and a test shows both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from roost.errors import ConfigError
from roost.permissions.rights import Rights
from roost.permissions.roles import inbox_of
from roost.tasks.provision import timetable_stream
from roost.tasks.records import Subjects
from roost.tasks.references import bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user. `of_the_log`: in the account that has the stream. Raises UnsafeToken for a name that is no token."""

    name: str
    does: str
    """In words, such as "worker of packer"."""
    rights: Rights
    of_the_log: bool = False
    inbox: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inbox", inbox_of(self.name))

    @property
    def variable(self) -> str:
        """The environment variable of the server with the password."""
        return "ROOST_PASSWORD_" + self.name.upper().replace("-", "_")

    @property
    def warnings(self) -> list[str]:
        return [
            f"{self.name} publishes on {one} and listens there: it could ask itself, name any subject for the answer, "
            "and so publish anywhere. Where it is not trusted, give sender and listener users of their own"
            for one in self.rights.loops
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Names of both accounts, and what the one lets the other use."""

    log: str
    agents: str
    streamed: tuple[str, ...]
    """Services whose answer may be several messages."""
    services: tuple[str, ...]
    feeds: tuple[str, ...]
    users: tuple[User, ...]


def accounts_of(namespace: str, users: Sequence[User]) -> Accounts:
    """The accounts of a namespace. Raises ConfigError when two users would share a password's variable."""
    subjects = Subjects(namespace)
    stream, timetable = subjects.stream, timetable_stream(namespace)
    seen: dict[str, str] = {}
    for one in users:
        other = seen.setdefault(one.variable, one.name)
        if other != one.name or [user.name for user in users].count(one.name) > 1:
            raise ConfigError(
                f"users {other} and {one.name}: their names must differ; give other ones by --user"
            )
    return Accounts(
        log=f"{stream}_LOG",
        agents=stream,
        streamed=(
            "$JS.API.>",
        ),  # the whole of it: only that takes the place of what each account has by itself
        services=(
            *(f"{form}.{one}.>" for one in (stream, timetable) for form in ("$JS.ACK", "$JS.ACK.*.*")),
            f"{namespace}.run.>",
            f"{namespace}.sched.>",
            f"$O.{bucket(namespace)}.>",
        ),
        feeds=(f"{subjects.live}>", f"{namespace}.cancel.>"),
        users=tuple(users),
    )
