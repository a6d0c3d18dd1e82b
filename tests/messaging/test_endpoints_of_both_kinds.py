"""An endpoint with one answer and one with many, of one name, share a subject: that is refused, or said clearly."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from messaging_kit import Answer, Note

import roost
from roost import Agent, ConfigError, Endpoint, RemoteError, StreamEndpoint

ONE = Endpoint("both", Note, Answer)
MANY = StreamEndpoint("both", Note, Answer)


async def answer(note: Note) -> Answer:
    return Answer(number=note.number)


async def stream(note: Note) -> AsyncIterator[Answer]:
    yield Answer(number=note.number)


def test_an_agent_cannot_handle_both() -> None:
    agent = Agent("both")
    agent.handles(ONE)(answer)
    with pytest.raises(
        ConfigError, match="handles Endpoint 'both' already, and StreamEndpoint 'both' would get"
    ):
        agent.handles(MANY)(stream)
    agent.handles(StreamEndpoint("another", Note, Answer))(stream)


async def test_a_request_to_a_stream_says_so_at_once_and_runs_nothing(nats_url: str, namespace: str) -> None:
    agent = Agent("streams")
    ran: list[int] = []

    @agent.handles(MANY)
    async def many(note: Note) -> AsyncIterator[Answer]:
        ran.append(note.number)
        yield Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RemoteError, match=r"both is a StreamEndpoint.* use bus\.stream"):
            await bus.request(ONE, Note(), timeout_s=5)
        [told] = [one async for one in bus.ask_all(ONE, Note(), quiet_s=0.1)]
        assert isinstance(told.error, RemoteError)
        assert bus.counters["message_refused"] == 2
        async with bus.stream(MANY, Note(number=1)) as chunks:
            assert len([one async for one in chunks]) == 1
    assert ran == [1]


async def test_a_stream_from_an_endpoint_with_one_answer_says_so_at_once_and_runs_nothing(
    nats_url: str, namespace: str
) -> None:
    agent = Agent("answers")
    ran: list[int] = []

    @agent.handles(ONE)
    async def one(note: Note) -> Answer:
        ran.append(note.number)
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RemoteError, match=r"both is an Endpoint.* use bus\.request"):
            async with bus.stream(MANY, Note()) as chunks:
                await anext(chunks)
        assert (await bus.request(ONE, Note(number=1))) == Answer()
    assert ran == [1]
