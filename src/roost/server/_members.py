"""How the servers of a local cluster are configured, and what they say about themselves over HTTP.

They ask each other for a random password, so that a server that was given a port of another cluster after it
cannot join it. What they say comes from the monitoring port (docs.nats.io, "Monitoring": `/healthz`, `/jsz`),
which needs no client and answers while JetStream does not.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Group", "Member", "cluster_lines"]

CLUSTER = "roost"
_ANSWER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A stream, or a consumer of it, with its copies, as one server sees it."""

    account: str
    name: str
    consumer: str
    leader: str
    behind: tuple[str, ...]
    """Servers that do not have everything yet; only the leader knows."""

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.account, self.name, self.consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server of a cluster: its number and its three ports."""

    number: int
    host: str
    port: int
    route_port: int
    http_port: int

    @property
    def name(self) -> str:
        """The server's name, by which the others know it; the same on each start, or its streams were lost."""
        return f"n{self.number}"

    @property
    def address(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def healthy(self) -> bool:
        """Whether it knows the leader, and has everything that it should hold."""
        return bool(self._ask("/healthz").get("status") == "ok")

    def complete(self, servers: int) -> bool:
        """Whether it leads the cluster and hears from all of the `servers`."""
        meta = self._ask("/jsz").get("meta_cluster") or {}
        others = [one for one in meta.get("replicas") or () if one.get("current") and not one.get("offline")]
        return meta.get("leader") == self.name and len(others) == servers - 1

    def leads(self, stream: str | None) -> bool:
        """Whether it says of itself that it leads the stream, or for None the cluster."""
        if stream is None:
            return bool((self._ask("/jsz").get("meta_cluster") or {}).get("leader") == self.name)
        # A consumer of the stream has a leader of its own.
        return any((one.name, one.consumer, one.leader) == (stream, "", self.name) for one in self.groups())

    def groups(self) -> list[Group]:
        """The streams and consumers of which it has a copy."""
        accounts = self._ask("/jsz?accounts=1&streams=1&consumers=1").get("account_details") or ()
        found = []
        for account in accounts:
            for stream in account.get("stream_detail") or ():
                found.append(_group(account["name"], stream["name"], "", stream))
                for consumer in stream.get("consumer_detail") or ():
                    found.append(_group(account["name"], stream["name"], consumer["name"], consumer))
        return found

    def _ask(self, path: str) -> dict[str, Any]:
        """Its answer; nothing when it does not give one."""
        try:
            with urllib.request.urlopen(
                f"http://{self.address}:{self.http_port}{path}", timeout=_ANSWER_S
            ) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):  # not there, frozen, or ill: HTTPError is an OSError
            return {}
        return found


def _group(account: str, name: str, consumer: str, detail: dict[str, Any]) -> Group:
    cluster = detail.get("cluster") or {}
    behind = tuple(copy["name"] for copy in cluster.get("replicas") or () if not copy.get("current"))
    return Group(
        account=account, name=name, consumer=consumer, leader=cluster.get("leader", ""), behind=behind
    )


def cluster_lines(me: Member, members: Sequence[Member], password: str) -> str:
    """The lines of configuration that make one of `members` out of a server."""
    routes = ", ".join(
        f'"nats-route://route:{password}@{one.address}:{one.route_port}"' for one in members if one is not me
    )
    return (
        f'server_name: "{me.name}"\n'
        f'http: "{me.address}:{me.http_port}"\n'
        f'cluster {{ name: "{CLUSTER}", listen: "{me.address}:{me.route_port}", '
        f'authorization {{ user: route, password: "{password}", timeout: 5 }}, routes: [{routes}] }}'
    )
