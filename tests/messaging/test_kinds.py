"""A contract of another kind than the call is for is refused with the name of the right call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from messaging_kit import HELLO, STATUS, Answer, Note

import roost
from roost import Bus, ConfigError, Signal, StreamEndpoint, Task, Workflow

CHAT = StreamEndpoint("chat", Note, Answer)
DIGEST = Task("digest", Note, Answer)
AUDIT = Workflow("audit", Note, Answer)
APPROVAL = Signal("approval", Note)

Call = Callable[[Bus, Any], Any]


async def all_of(bus: Bus, contract: Any) -> list[Any]:
    return [one async for one in bus.ask_all(contract, Note())]


async def stream(bus: Bus, contract: Any) -> None:
    async with bus.stream(contract, Note()):
        pass


CALLS: list[tuple[str, Call, list[Any]]] = [
    ("bus.request", lambda bus, it: bus.request(it, Note()), [CHAT, DIGEST, STATUS, "hello"]),
    ("bus.ask_all", all_of, [CHAT, DIGEST]),
    ("bus.stream", stream, [HELLO, AUDIT]),
    ("bus.publish", lambda bus, it: bus.publish(it, Note()), [HELLO, APPROVAL]),
    ("bus.submit", lambda bus, it: bus.submit(it, Note()), [CHAT, HELLO]),
    ("bus.submit_many", lambda bus, it: bus.submit_many(it, [Note()]), [CHAT, APPROVAL]),
    ("bus.start", lambda bus, it: bus.start(it, Note()), [HELLO, STATUS]),
    ("bus.signal", lambda bus, it: bus.signal("audit:1", it, Note()), [STATUS, DIGEST]),
]
RIGHT = {
    "topic": "bus.publish",
    "endpoint": "bus.request",
    "stream_endpoint": "bus.stream",
    "task": "bus.submit",
    "workflow": "bus.start",
    "signal": "bus.signal",
}


@pytest.mark.parametrize(("name", "call", "wrong"), CALLS, ids=[one[0] for one in CALLS])
async def test_the_right_call_is_named(
    nats_url: str, namespace: str, name: str, call: Call, wrong: list[Any]
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for contract in wrong:
            with pytest.raises(ConfigError) as error:
                await call(bus, contract)
            said = str(error.value)
            if isinstance(contract, str):
                assert f"{name} takes an Endpoint, and was given 'hello'" in said
            else:
                assert f"{contract} is for {RIGHT[contract.kind]}" in said
                assert "Nothing was sent" in said
