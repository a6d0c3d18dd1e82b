"""What an instance is and what it serves: the facts from which its heartbeats and its answers are made."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from roost._contract import Contract
from roost.discovery.tally import Tally
from roost.errors import ConfigError

HASH_LENGTH = 12


class Load(NamedTuple):
    """How much of one contract is at work in one instance, and how much waits there for its turn."""

    running: int
    waiting: int = 0


class Schemas(NamedTuple):
    """A contract as others may read it: JSON Schemas by role, and a hash that changes when one of them does."""

    texts: Mapping[str, str]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One instance. Nothing in it changes while it lives."""

    agent: str
    instance: str
    namespace: str
    version: str
    """The agent's own, a SemVer."""
    roost: str
    """Of the framework."""
    heartbeat_s: float
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started_s: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One handler of one instance."""

    kind: str
    """Of the contract: task, workflow, endpoint, stream_endpoint, topic; or report."""
    name: str
    """Of the contract."""
    subject: str
    """Where its messages come from."""
    group: str
    """Its queue group; empty if it has none."""
    limit: int
    """Calls that may run at once."""
    schemas: Schemas
    tally: Tally
    load: Callable[[], Load]


@functools.lru_cache(maxsize=1024)
def schemas_of(contract: Contract) -> Schemas:
    """The schemas of a contract. Some types have validators but no JSON Schema: then only the hash of its name."""
    try:
        whole = contract.json_schema()
    except ConfigError:
        whole = {"kind": contract.kind, "name": contract.name}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]
    texts = {role: _text(value) for role, value in whole.items() if isinstance(value, dict)}
    return Schemas(texts, digest)


def _text(schema: object) -> str:
    return json.dumps(schema, separators=(",", ":"))
