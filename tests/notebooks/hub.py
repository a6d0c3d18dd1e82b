"""A hub's shared server: learners of several kinds, each with a user of their own.

`ada` and `bob` may do everything, `eve` has no JetStream, `rex` may use nothing but subjects below `rex`, and
`mute` may not publish. `python tests/notebooks/hub.py` runs one for trying notebooks on it by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from roost.server import LocalServer, ServerOptions

CONFIG = """
accounts {
  HUB {
    jetstream: enabled
    users: [
      {user: ada, password: secret}
      {user: bob, password: secret}
      {user: rex, password: secret, permissions: {
        publish: ["rex.>", "_INBOX.>"], subscribe: ["rex.>", "_INBOX.>"]}}
      {user: mute, password: secret, permissions: {publish: {deny: ">"}}}
    ]
  }
  PLAIN { users: [{user: eve, password: secret}] }
}
no_auth_user: ada
"""


@contextmanager
def hub() -> Iterator[LocalServer]:
    with LocalServer(ServerOptions(extra_config=CONFIG)) as server:
        yield server


def url_of(server: LocalServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}:secret@")


if __name__ == "__main__":
    with hub() as server:
        print("\n".join(url_of(server, user) for user in ("ada", "bob", "eve", "rex", "mute")), flush=True)
        input("Enter ends it.")
