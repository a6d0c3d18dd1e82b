"""Questions to the caller in mid-stream: a typed answer, an error that says why, nobody waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from messaging_kit import HELLO, SECOND, Answer, Inbox, Note

import roost
from roost import Agent, Bus, Context, NoResponders, Reject, RemoteError, StreamEndpoint

TALK = StreamEndpoint("talk", Note, Note)


def talker(heard: Inbox | None = None, *, timeout_s: float = 5.0) -> Agent[None]:
    """It asks its caller for each number, and streams the answers."""
    agent = Agent("talker")

    @agent.handles(TALK)
    async def talk(note: Note, ctx: Context) -> AsyncIterator[Note]:
        for number in range(note.number):
            try:
                answer = await ctx.ask(HELLO, Note(number=number), timeout_s=timeout_s)
            except BaseException as error:
                if heard is not None:
                    heard.put(error)
                raise
            yield Note(text=answer.text, number=answer.number)

    return agent


async def conversation(
    bus: Bus, answers: dict[Any, Any], *, number: int = 3, idle_s: float = 5
) -> list[Note]:
    async with bus.stream(TALK, Note(number=number), answers=answers, idle_timeout_s=idle_s) as chunks:
        return [chunk async for chunk in chunks]


async def double(note: Note) -> Answer:
    return Answer(text="twice", number=note.number * 2)


def double_on_a_thread(note: Note) -> Answer:
    return Answer(text="twice", number=note.number * 2)


@pytest.mark.parametrize("function", [double, double_on_a_thread])
async def test_the_caller_answers_and_the_stream_goes_on(
    nats_url: str, namespace: str, function: Any
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(talker()):
        assert await conversation(bus, {HELLO: function}, number=50) == [
            Note(text="twice", number=2 * number) for number in range(50)
        ]


async def test_a_question_that_the_caller_does_not_answer_is_refused_at_once(
    nats_url: str, namespace: str
) -> None:
    heard = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(talker(heard)):
        for answers in ({}, {SECOND: double}):
            with pytest.raises(RemoteError, match="does not answer questions of kind 'hello'"):
                await conversation(bus, answers)
            error = await heard.get()
            assert isinstance(error, RemoteError)
            assert error.code == "unknown"


async def test_an_answer_that_fails_says_so_to_the_handler(nats_url: str, namespace: str) -> None:
    heard = Inbox()

    async def fails(note: Note) -> Answer:
        raise Reject("I will not say")

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(talker(heard)):
        with pytest.raises(RemoteError):
            await conversation(bus, {HELLO: fails})
        error = await heard.get()
        assert isinstance(error, RemoteError)
        assert (error.code, error.message) == ("rejected", "I will not say")
        assert str(error) == f'the handler on "the caller\'s {HELLO.name}" failed (rejected): I will not say'


async def test_while_the_caller_thinks_the_stream_is_not_idle(nats_url: str, namespace: str) -> None:
    async def thinks(note: Note) -> Answer:
        await asyncio.sleep(1.5)
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(talker()):
        assert len(await conversation(bus, {HELLO: thinks}, number=1, idle_s=0.4)) == 1


async def test_a_caller_that_leaves_ends_question_and_handler(nats_url: str, namespace: str) -> None:
    heard, asked, over = Inbox(), asyncio.Event(), asyncio.Event()

    async def never(note: Note) -> Answer:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        raise AssertionError

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(talker(heard)):
        async with bus.stream(TALK, Note(number=1), answers={HELLO: never}):
            await asked.wait()
        assert over.is_set()
        assert isinstance(await heard.get(), asyncio.CancelledError | RemoteError | NoResponders)


async def test_only_a_streamed_answer_has_a_caller_to_ask(nats_url: str, namespace: str) -> None:
    agent = Agent("plain")

    @agent.handles(SECOND)
    async def second(note: Note, ctx: Context) -> Answer:
        return await ctx.ask(HELLO, note)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RemoteError, match="only a handler of a StreamEndpoint"):
            await bus.request(SECOND, Note())


async def test_an_answering_function_gets_no_context(nats_url: str, namespace: str) -> None:
    async def wrong(note: Note, ctx: Context) -> Answer:
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.ConfigError, match="no context"):
            await conversation(bus, {HELLO: wrong})
