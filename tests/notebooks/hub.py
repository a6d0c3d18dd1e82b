"""A hub's shared server: learners of several kinds, each with a user of their own.

`ada` and `bob` have what the course asks for and nothing outside their prefixes, `eve` has no JetStream, `rex` nothing
but subjects below `rex`, `mute` may not publish, and `admin` may do everything. What a cell sends past its prefix is
refused, so a forgotten prefix is found. `python tests/notebooks/hub.py` runs a hub for trying notebooks by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from roost.server import LocalServer, ServerOptions

USERS = ("ada", "bob", "eve", "rex", "mute", "admin")
JETSTREAM = ("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>")
EVERYBODY = ("_INBOX.>", "$SRV.>", "$SYS.REQ.USER.INFO")


def _user(name: str, publish: tuple[str, ...], subscribe: tuple[str, ...]) -> str:
    allowed = f"publish: [{_list(publish)}], subscribe: [{_list(subscribe)}]"
    return f"{{user: {name}, password: secret, permissions: {{{allowed}}}}}"


def _list(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)


def _learner(name: str, *beside: str) -> str:
    return _user(name, (f"{name}.>", *EVERYBODY, *beside), (f"{name}.>", *EVERYBODY))


CONFIG = f"""
accounts {{
  HUB {{
    jetstream: enabled
    users: [
      {_learner("ada", *JETSTREAM)}
      {_learner("bob", *JETSTREAM)}
      {_user("rex", ("rex.>", "_INBOX.>"), ("rex.>", "_INBOX.>"))}
      {_user("mute", ("nothing",), ("mute.>", *EVERYBODY))}
      {{user: admin, password: secret}}
    ]
  }}
  PLAIN {{ users: [{_learner("eve", *JETSTREAM)}] }}
}}
no_auth_user: admin
"""


@contextmanager
def hub() -> Iterator[LocalServer]:
    with LocalServer(ServerOptions(extra_config=CONFIG)) as server:
        yield server


def url_of(server: LocalServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}:secret@")


if __name__ == "__main__":
    with hub() as server:
        print("\n".join(url_of(server, user) for user in USERS), flush=True)
        input("Enter ends it.")
