"""Requests: many at once, answers that belong to others, timeouts in order, and the timer behind them."""

from __future__ import annotations

import asyncio
import random

import pytest

from roost.errors import RequestTimeout
from roost.settings import Settings
from roost.transport import Client, Message, open_client
from roost.transport.deadlines import Deadlines


async def connected(url: str) -> Client:
    """Of a cluster, to the first server, so that the subscriptions of one are known where another asks."""
    return await open_client(Settings(servers=(url.split(",")[0],)), lambda *_: None)


async def test_thousands_of_requests_at_once_get_each_its_own_answer(nats_url: str) -> None:
    client, other = await connected(nats_url), await connected(nats_url)
    other.listen("r.echo", lambda message: other.send(message.reply, message.data))
    await other.flush()
    asked = [client.requests.ask("r.echo", b"%d" % number, timeout_s=10) for number in range(5000)]
    answers = await asyncio.gather(*asked)
    assert [int(answer.data) for answer in answers] == list(range(5000))
    assert len(client.requests) == 0
    await client.close()
    await other.close()


async def test_who_answers_one_request_cannot_answer_another(nats_url: str) -> None:
    """The inbox of a request ends in eight characters of chance; its number alone does not reach it."""
    client, other = await connected(nats_url), await connected(nats_url)
    seen: list[str] = []

    def answer(message: Message) -> None:
        seen.append(message.reply)
        prefix, _, token = message.reply.rpartition(".")
        number, salt = token[:-8], token[-8:]
        guessed = f"{int(number, 16) + 1:x}"
        for guess in (guessed, guessed + salt, guessed + "A" * 8):
            other.send(f"{prefix}.{guess}", b"forged")
        other.send(message.reply, b"true")

    other.listen("r.guess", answer)
    await other.flush()
    for _ in range(20):
        assert (await client.requests.ask("r.guess", timeout_s=5)).data == b"true"
    assert len({reply[-8:] for reply in seen}) == 20
    await client.close()
    await other.close()


async def test_second_and_late_answers_are_passed_over(nats_url: str) -> None:
    client, other = await connected(nats_url), await connected(nats_url)
    late: list[str] = []

    def twice(message: Message) -> None:
        other.send(message.reply, b"first")
        other.send(message.reply, b"second")

    other.listen("r.twice", twice)
    other.listen("r.late", lambda message: late.append(message.reply))
    await other.flush()
    assert (await client.requests.ask("r.twice", timeout_s=5)).data == b"first"
    with pytest.raises(RequestTimeout) as expired:
        await client.requests.ask("r.late", timeout_s=0.05)
    assert expired.value.timeout_s == 0.05
    other.send(late[0], b"too late")
    await other.flush()
    await client.flush()
    assert client.callback_errors == 0
    await client.close()
    await other.close()


async def test_timeouts_come_in_their_order_each_at_its_time(nats_url: str) -> None:
    client = await connected(nats_url)
    client.listen("r.silent", lambda _: None)
    loop = asyncio.get_running_loop()
    ended: list[tuple[float, float]] = []

    async def ask(timeout_s: float) -> None:
        begun = loop.time()
        with pytest.raises(RequestTimeout):
            await client.requests.ask("r.silent", timeout_s=timeout_s)
        ended.append((timeout_s, loop.time() - begun))

    times = [0.02 * number for number in range(1, 11)]
    random.Random(1).shuffle(times)
    await asyncio.gather(*map(ask, times))
    assert [timeout_s for timeout_s, _ in ended] == sorted(times)
    assert all(timeout_s <= took + 0.001 and took < timeout_s + 0.2 for timeout_s, took in ended)
    await client.close()


async def test_answered_requests_leave_nothing_in_the_timer() -> None:
    live: dict[str, bool] = {}
    expired: list[str] = []
    deadlines = Deadlines(asyncio.get_running_loop(), live, expired.append)
    for number in range(20_000):
        key = str(number)
        live[key] = True
        deadlines.add(key, 60)
        if number >= 100:
            del live[str(number - 100)]
    assert len(deadlines) < 3000
    deadlines.stop()
    assert expired == []


async def test_timer_calls_only_for_what_is_still_waited_for() -> None:
    live = dict.fromkeys(["a", "b", "c"])
    expired: list[str] = []
    done = asyncio.Event()

    def over(key: str) -> None:
        expired.append(key)
        if key == "c":
            done.set()

    deadlines = Deadlines(asyncio.get_running_loop(), live, over)
    deadlines.add("c", 0.03)
    deadlines.add("a", 0.01)
    deadlines.add("b", 0.02)
    del live["b"]
    await done.wait()
    assert expired == ["a", "c"]
    assert len(deadlines) == 0
