"""What a caller learns of an instance, read from its heartbeats and its answers.

Both come from whoever may publish there: they are validated like any message, and what is in the subject (which
permissions can guard) counts, not what a payload says of itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from roost._contract import Contract
from roost.codec import Codec, Limits
from roost.discovery.standing import CODEC, HandlerBeat, Standing
from roost.errors import InvalidMessage
from roost.subjects import token
from roost.transport import Message

AgentState = Literal["joined", "ready", "busy", "draining", "left", "silent", "gone"]
"""As the instance said last; ``silent``: it has a connection and does not answer; ``gone``: it has none."""
Capability = Contract | str
"""A contract, or the name of one of any kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerInfo:
    """One contract that an instance serves."""

    kind: str
    """task, workflow, endpoint, stream_endpoint, topic; or report: it takes the outcomes of this contract."""
    name: str
    hash: str
    """Of the contract's schemas: differs where they differ."""
    running: int
    limit: int
    waiting: int
    """Messages that wait inside the instance. Tasks wait in the log instead."""
    handled: int
    errors: int
    texts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def schemas(self) -> Mapping[str, Any]:
        """JSON Schemas by role (input, output, chunk, model); empty if they have not been asked for yet."""
        return {role: json.loads(text) for role, text in self.texts}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """One running instance of an agent, as it was when it was last heard."""

    instance: str
    """What `Bus.request` takes to address this one."""
    agent: str
    state: AgentState
    version: str
    """The agent's own."""
    roost: str
    """Of the framework."""
    host: str
    pid: int
    started_s: float
    """Seconds since 1970, by the clock of the instance."""
    interval_s: float
    """Seconds between its heartbeats."""
    handlers: tuple[HandlerInfo, ...]
    heard_s: float = field(compare=False)
    """Seconds since 1970, by the clock of this machine."""

    def handles(self, capability: Capability) -> bool:
        """Whether it serves this contract, or one of this name."""
        if isinstance(capability, str):
            return any(one.name == capability and one.kind != "report" for one in self.handlers)
        wanted = (capability.kind, capability.name)
        return any((one.kind, one.name) == wanted for one in self.handlers)

    @property
    def running(self) -> int:
        """Calls at work, over all contracts."""
        return sum(one.running for one in self.handlers)

    @property
    def limit(self) -> int:
        """Calls that may be at work at once."""
        return sum(one.limit for one in self.handlers)

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.handlers)

    def told_by(self, older: AgentInfo) -> AgentInfo:
        """This, with the schemas that were learnt before and still hold."""
        known = {(one.kind, one.name, one.hash): one.texts for one in older.handlers if one.texts}
        if not known or any(one.texts for one in self.handlers):
            return self
        handlers = (
            replace(one, texts=known.get((one.kind, one.name, one.hash), ())) for one in self.handlers
        )
        return replace(self, handlers=tuple(handlers))


class _Endpoint(BaseModel):
    metadata: dict[str, str] | None = None


class _Answer(BaseModel):
    """What is read of an INFO answer. Other services than agents have no `roost`."""

    name: str
    id: str
    metadata: dict[str, str] | None = None
    endpoints: Annotated[list[_Endpoint], Field(max_length=1000)] = []
    roost: Standing | None = None


_ANSWER = Codec(_Answer, limits=Limits(max_bytes=64 * 1024 * 1024, max_depth=64))


def from_beat(message: Message) -> AgentInfo:
    """A heartbeat. Raises InvalidMessage, UnsafeToken."""
    *_, agent, instance = message.subject.split(".")
    return _info(agent, instance, CODEC.decode(message.data, subject=message.subject), {})


def from_answer(message: Message, namespace: str) -> AgentInfo | None:
    """An answer to INFO; None if it is not by an agent of this namespace. Raises InvalidMessage, UnsafeToken."""
    answer = _ANSWER.decode(message.data, subject=message.subject)
    if answer.roost is None or (answer.metadata or {}).get("namespace") != namespace:
        return None
    schemas: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
    for endpoint in answer.endpoints:
        facts = endpoint.metadata or {}
        texts = [(role, facts[role]) for role in ("input", "output", "chunk", "model") if role in facts]
        for role, text in texts:
            _check_json(text, message.subject, role)
        schemas[facts.get("kind", ""), facts.get("contract", "")] = tuple(texts)
    return _info(answer.name, answer.id, answer.roost, schemas)


def _info(
    agent: str, instance: str, said: Standing, schemas: Mapping[tuple[str, str], tuple[tuple[str, str], ...]]
) -> AgentInfo:
    return AgentInfo(
        instance=token(instance, name="instance"),
        agent=token(agent, name="agent"),
        state=said.state,
        version=said.version,
        roost=said.roost,
        host=said.host,
        pid=said.pid,
        started_s=said.started,
        interval_s=said.interval_s,
        handlers=tuple(_handler(one, schemas.get((one.kind, one.name), ())) for one in said.handlers),
        heard_s=time.time(),
    )


def _handler(beat: HandlerBeat, texts: tuple[tuple[str, str], ...]) -> HandlerInfo:
    return HandlerInfo(
        kind=beat.kind,
        name=beat.name,
        hash=beat.hash,
        running=beat.running,
        limit=beat.limit,
        waiting=beat.waiting,
        handled=beat.handled,
        errors=beat.errors,
        texts=texts,
    )


def _check_json(text: str, subject: str, role: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(subject=subject, field=role, reason=f"no JSON Schema: {error}") from error
