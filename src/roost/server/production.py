"""A nats-server configuration for production, as text: complete, strict, and free of secrets.

nats-server's own defaults are made for trying things out: no users, no encryption, a write acknowledged before it
is on the disk. Here each is the other way round, so that what is printed can be started as it is. Passwords are read
by nats-server from its environment (`$NAME`), and it refuses to start without them: none is ever a default.

Users are one, who may do everything, or those of a file that `roost permissions` writes. The log is in an account of
the same name both times, so that an installation begins with the first and goes over to the second as it is.

Each key was accepted by `nats-server -t` of version 2.15. The values follow docs.nats.io ("Configuration") and what
was measured under faults: `sync_interval: always` is the only one that lost nothing in a power cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError

__all__ = ["PASSWORD", "SYSTEM_PASSWORD", "ProductionOptions", "production_config"]

PASSWORD = "ROOST_NATS_PASSWORD"
"""The environment variable of the server with the password of the user `roost`."""
SYSTEM_PASSWORD = "ROOST_NATS_SYSTEM_PASSWORD"
"""The same for the user `system`, who sees the server's inner account and no message of the agents."""

_SIZE = re.compile(r"[1-9][0-9]{0,14}[KMGT]B")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionOptions:
    """What differs from one installation to the next. Raises ConfigError when one of them cannot be."""

    name: str = "n0"
    """The server's name, different for each server of a cluster and the same after a restart."""
    listen: str = "0.0.0.0:4222"
    """Where clients connect."""
    monitor: str = "127.0.0.1:8222"
    """Where the server tells about itself over HTTP, to everybody who asks: keep it on loopback."""
    store: str = "/var/lib/nats"
    """The folder of the streams."""
    max_store: str = "20GB"
    """The most that all streams together may take there; 1 GB is 10**9 bytes."""
    cert: str = "/etc/nats/tls/tls.crt"
    """The server's certificate, PEM, with what a client needs to check it up to `ca`."""
    key: str = "/etc/nats/tls/tls.key"
    """Its private key, PEM."""
    ca: str = "/etc/nats/tls/ca.crt"
    """The authority that signed it, PEM. Servers of a cluster accept each other only with its signature."""
    verify_clients: bool = False
    """True: clients too need a certificate that `ca` signed (mutual TLS)."""
    routes: tuple[str, ...] = ()
    """HOST:PORT of each server of the cluster, this one included; empty for a single server."""
    cluster_listen: str = "0.0.0.0:6222"
    """Where the other servers of the cluster connect."""
    permissions: str = ""
    """The file that `roost permissions` writes, as seen from the folder of the configuration; it is included, and
    may be made later. Empty: one user, `roost`, may do everything."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name = {quoted(self.name)}: letters, digits, _ and - are allowed, 64 at most."
            )
        for field, value in (
            ("listen", self.listen),
            ("monitor", self.monitor),
            ("cluster_listen", self.cluster_listen),
            *(("route", one) for one in self.routes),
        ):
            found = _ADDRESS.fullmatch(value)
            if not found or not 0 < int(found[2]) <= 65535:
                raise ConfigError(f"{field} = {quoted(value)}: HOST:PORT is needed, such as 0.0.0.0:4222.")
        if not _SIZE.fullmatch(self.max_store):
            raise ConfigError(f"max_store = {quoted(self.max_store)}: a size is needed, such as 20GB.")
        for field, path in (("store", self.store), ("cert", self.cert), ("key", self.key), ("ca", self.ca)):
            if not path.isprintable() or not path.startswith("/"):
                raise ConfigError(f"{field} = {quoted(path)}: an absolute path is needed.")
        file = self.permissions  # nats-server puts the folder of its configuration before it, whatever it is
        if file.startswith("/") or not file.isprintable() or set(file) & {'"', "'", "\\"}:
            raise ConfigError(
                f"permissions = {quoted(file)}: a path is needed that begins in the folder of the configuration, such "
                "as users.conf, without quotes and backslashes."
            )


def production_config(options: ProductionOptions = ProductionOptions()) -> str:
    """The configuration file. It holds no secret."""
    return _TEMPLATE.format(
        passwords=_LATER.format(file=options.permissions) if options.permissions else _PASSWORDS,
        name=options.name,
        listen=_text(options.listen),
        monitor=_text(options.monitor),
        max_store=_size(options.max_store),
        store=_text(options.store),
        tls=_tls(options, verify=options.verify_clients, first=True),
        accounts=_accounts(options),
        cluster=_cluster(options) if options.routes else "",
    )


def _accounts(options: ProductionOptions) -> str:
    if options.permissions:
        return _INCLUDED.format(file=options.permissions)
    copies = max(1, len(options.routes))
    return _ONE_USER.format(
        password=PASSWORD,
        system_password=SYSTEM_PASSWORD,
        account_store=_size(options.max_store, copies),
    )


def _size(text: str, copies: int = 1) -> str:
    """In nats-server's configuration 20G is what everybody calls 20 GB; 20GB there is 20 GiB."""
    return f"{int(text[:-2]) * copies}{text[-2]}"


def _tls(options: ProductionOptions, *, verify: bool, first: bool) -> str:
    lines = [
        f"cert_file: {_text(options.cert)}",
        f"key_file: {_text(options.key)}",
        f"ca_file: {_text(options.ca)}",
        'min_version: "1.2"',
        "timeout: 5",
        *(["verify: true"] if verify else []),
        # Encryption begins with the first byte: nobody in between can talk a client out of it.
        *(["handshake_first: true"] if first else []),
    ]
    return "\n".join(f"  {line}" for line in lines)


def _cluster(options: ProductionOptions) -> str:
    tls = "\n".join(f"  {line}" for line in _tls(options, verify=True, first=False).splitlines())
    routes = "".join(f"\n    {_text(f'nats-route://{one}')}" for one in options.routes)
    return _CLUSTER.format(listen=_text(options.cluster_listen), tls=tls, routes=routes)


def _text(value: str) -> str:
    """A string of nats-server's configuration language."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TEMPLATE = """\
# nats-server for Roost. Written by `roost server config`; needs nats-server 2.14 or newer.
#
# Passwords come from the server's environment: letters and digits, a letter first. Make them once, and keep them in a
# file that only root may read:
{passwords}
# Check this file: nats-server -t -c FILE     Start: nats-server -c FILE     After a change: nats-server --signal reload

server_name: {name}
listen: {listen}
# It answers everybody: on loopback, or behind a firewall.
http: {monitor}

max_payload: 1MB
max_connections: 10000
max_control_line: 4KB
# What may wait for a client that does not read, and how long a write may take, before it is cut off.
max_pending: 64MB
write_deadline: "10s"
# A peer that is frozen or cut off is noticed within a minute.
ping_interval: "20s"
ping_max: 2
lame_duck_grace_period: "10s"
lame_duck_duration: "30s"

tls {{
{tls}
}}

jetstream {{
  store_dir: {store}
  max_file_store: {max_store}
  max_memory_store: 256M
  # Every write is on the disk before it is acknowledged. The default, every two minutes, loses them in a power cut.
  sync_interval: always
}}

# The announced next format of acknowledgements: not before all clients understand it.
feature_flags {{ js_ack_fc_v2: false }}

{accounts}{cluster}"""

_PASSWORDS = f"""\
#   {PASSWORD}=p$(openssl rand -hex 32)
#   {SYSTEM_PASSWORD}=p$(openssl rand -hex 32)"""
_LATER = """\
#   ROOST_PASSWORD_<USER>=p$(openssl rand -hex 32)      for each user; their names are in {file}"""

_ONE_USER = """\
# The user `roost` may do everything in this account. For users with no more rights than they need, see
# `roost server config --permissions`; the log of namespace `roost` stays where it is.
accounts {{
  ROOST_roost_LOG {{
    jetstream {{
      # In a cluster the copies of a stream count each.
      max_file: {account_store}
      max_memory: 256M
      max_streams: 100
      max_consumers: 10000
    }}
    limits {{ max_connections: 10000, max_subscriptions: 1000000, max_payload: 1MB }}
    users: [ {{ user: roost, password: ${password} }} ]
  }}
  SYSTEM {{
    users: [ {{ user: system, password: ${system_password} }} ]
  }}
}}
system_account: SYSTEM
"""

_INCLUDED = """\
# Accounts and users: what `roost permissions --system` printed. After a change, reload.
include "{file}"
"""

_CLUSTER = """
cluster {{
  name: roost
  listen: {listen}
  # Only a server with a certificate of the same authority gets in.
  tls {{
{tls}
  }}
  routes: [{routes}
  ]
}}
"""
