"""The rules on which tasks and runs are built, held by a real server and by the simulated one alike.

A simulation is worth what its server is worth: each rule here runs against both, through the same client code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from roost.errors import JetStreamError, NoResponders
from roost.settings import Settings
from roost.tasks.batch import create_once, guarded
from roost.transport import Message, open_link
from roost.transport.ackinfo import parse_ack
from roost.transport.headers import block
from simulation.client import SimClient
from simulation.faults import Faults
from simulation.loop import NOWHERE, Process, SimLoop
from simulation.place import ONCE, Place
from simulation.server import Server

Rule = Callable[[Place], Awaitable[None]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


# Guards -------------------------------------------------------------------------------------------


@rule
async def create_once_refuses_a_second_record_until_the_first_is_purged(at: Place) -> None:
    assert await at.put("task.x.1", b"a", ONCE) == 1
    assert await at.refused(at.put("task.x.1", b"b", ONCE)) == 10071
    assert await at.purge(f"{at.run}.task.x.1") == 1
    assert await at.put("task.x.1", b"b", ONCE) == 2


@rule
async def a_guard_may_be_a_wildcard_and_holds_for_its_number_of_tokens(at: Place) -> None:
    task = await at.put("task.x.7", b"in")
    await at.put("task.x.8", b"in")
    await at.put("note.x.7.1")
    over = f"{at.run}.*.x.7"
    assert await at.refused(at.put("end.x.7", b"", block(*guarded(over, task + 1)))) == 10071
    await at.put("end.x.7", b"out", block(*guarded(over, task)))
    assert await at.refused(at.put("end.x.7", b"again", block(*guarded(over, task)))) == 10071
    await at.purge(f"{at.run}.>")
    assert await at.refused(at.put("end.x.7", b"zombie", block(*guarded(over, task)))) == 10071


@rule
async def a_guard_over_another_subject_moves_only_with_that(at: Place) -> None:
    epoch = await at.put("epoch", b"1")
    mine = block(*guarded(f"{at.run}.epoch", epoch))
    await at.put("step.a", b"", mine)
    await at.put("step.a", b"", mine)
    await at.put("epoch", b"2", block(("Nats-Expected-Last-Subject-Sequence", str(epoch))))
    assert await at.refused(at.put("step.b", b"", mine)) == 10071


@rule
async def what_no_stream_takes_has_no_responder(at: Place) -> None:
    with pytest.raises(NoResponders):
        await at.link.requests.ask(f"{at.ns}.elsewhere", timeout_s=5)


# Batches ------------------------------------------------------------------------------------------


@rule
async def a_batch_is_stored_in_a_row_and_answers_with_its_last_sequence(at: Place) -> None:
    await at.put("note.x.1.1")
    once = create_once("")
    assert await at.batch(*(at.write(f"task.x.{n}", *once) for n in range(4))) == 5
    await at.level()
    found = await at.js.read(at.stream, {"seq": 1, "next_by_subj": f"{at.run}.task.x.*", "batch": 10})
    assert [message.headers["Nats-Sequence"] for message in found] == ["2", "3", "4", "5"]


@rule
async def the_leader_finds_what_follows_a_sequence(at: Place) -> None:
    seqs = [await at.put(f"task.x.{n}") for n in (1, 2)]
    for after, found in ((seqs[0], seqs[0]), (seqs[0] + 1, seqs[1])):
        record = await at.js.from_leader(at.stream, {"seq": after, "next_by_subj": f"{at.run}.task.x.*"})
        assert record is not None
        assert record.seq == found
    query = {"seq": seqs[1] + 1, "next_by_subj": f"{at.run}.task.x.*"}
    assert await at.js.from_leader(at.stream, query) is None


@rule
async def one_guard_that_does_not_hold_refuses_the_whole_batch(at: Place) -> None:
    await at.put("task.x.2")
    once = create_once("")
    for order in ((1, 2, 3), (2, 1, 3), (1, 3, 2)):
        assert await at.refused(at.batch(*(at.write(f"task.x.{n}", *once) for n in order))) == 10071
    assert await at.messages() == 1


@rule
async def a_guard_over_what_the_batch_itself_writes_is_refused(at: Place) -> None:
    once = create_once("")
    assert await at.refused(at.batch(at.write("task.x.1", *once), at.write("task.x.1", *once))) == 10164
    guard = guarded(f"{at.run}.task.x.1", 0)
    assert await at.refused(at.batch(at.write("task.x.1", *once), at.write("end.x.1", *guard))) == 10164
    assert await at.messages() == 0


@rule
async def a_wildcard_guard_in_a_batch_looks_only_at_what_was_there_before(at: Place) -> None:
    guard = guarded(f"{at.run}.*.x.1", 0)
    assert await at.batch(at.write("task.x.1", *create_once("")), at.write("end.x.1", *guard)) == 2
    assert await at.refused(at.batch(at.write("note.x.1"), at.write("dead.x.1", *guard))) == 10071


@rule
async def a_batch_with_a_gap_or_without_a_beginning_is_refused(at: Place) -> None:
    def head(number: int, *more: tuple[str, str]) -> bytes:
        return block(("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", str(number)), *more)

    end = ("Nats-Batch-Commit", "1")
    assert await at.refused(at.put("task.x.1", b"", head(2, end))) == 10176
    at.link.client.send(f"{at.run}.task.x.1", b"", "", head(1))
    assert await at.refused(at.put("task.x.3", b"", head(3, end))) == 10176
    assert await at.messages() == 0


@rule
async def a_record_written_beside_an_open_batch_wins(at: Place) -> None:
    head = [("Nats-Expected-Last-Subject-Sequence", "0"), ("Nats-Batch-Id", "b")]
    at.link.client.send(f"{at.run}.task.x.1", b"", "", block(*head, ("Nats-Batch-Sequence", "1")))
    await at.put("task.x.1", b"single", ONCE)
    last = block(*head, ("Nats-Batch-Sequence", "2"), ("Nats-Batch-Commit", "1"))
    assert await at.refused(at.put("task.x.2", b"", last)) == 10071
    assert await at.messages() == 1


@rule
async def the_fifty_first_open_batch_is_not_begun(at: Place) -> None:
    for number in range(50):
        head = block(("Nats-Batch-Id", f"b{number}"), ("Nats-Batch-Sequence", "1"))
        at.link.client.send(f"{at.run}.task.x.{number}", b"", "", head)
    assert await at.refused(at.batch(at.write("task.y.1"), at.write("task.y.2"))) == 10176
    assert await at.put("task.y.1") == 1


@rule
async def a_batch_of_more_than_a_thousand_is_refused(at: Place) -> None:
    assert await at.refused(at.batch(*(at.write(f"task.x.{n}") for n in range(1001)))) == 10199
    assert await at.batch(*(at.write(f"task.x.{n}") for n in range(1000))) == 1000


# Reads --------------------------------------------------------------------------------------------


@rule
async def the_newest_record_is_read_directly_and_from_the_leader(at: Place) -> None:
    await at.put("note.x.1.1", b"old")
    await at.put("note.x.1.1", b"new")
    await at.level()
    found = await at.js.last(at.stream, f"{at.run}.note.x.1.1")
    assert found is not None
    assert (found.data, found.headers["Nats-Sequence"]) == (b"new", "2")
    assert await at.js.last(at.stream, f"{at.run}.note.x.2.1") is None
    assert await at.js.last_from_leader(at.stream, f"{at.run}.note.x.1.1") == (2, b"new")
    assert await at.js.last_from_leader(at.stream, f"{at.run}.note.>") == (2, b"new")
    assert await at.js.last_from_leader(at.stream, f"{at.run}.note.x.2.1") is None


@rule
async def the_newest_of_several_subjects_come_in_log_order(at: Place) -> None:
    for number in (3, 1, 2, 3):
        await at.put(f"note.x.1.{number}", b"%d" % number)
    await at.put("end.x.1", b"end")
    wanted = [f"{at.run}.end.x.1", f"{at.run}.end.x.2", f"{at.run}.note.x.1.*"]
    await at.level()
    found = await at.js.read(at.stream, {"multi_last": wanted})
    assert [message.data for message in found] == [b"1", b"2", b"3", b"end"]
    assert await at.js.read(at.stream, {"multi_last": [f"{at.run}.end.x.2"]}) == []


@rule
async def more_than_1024_newest_are_refused(at: Place) -> None:
    await at.batch(*(at.write(f"task.x.{n}") for n in range(1000)))
    await at.batch(*(at.write(f"task.x.{n}") for n in range(1000, 1024)))
    await at.level()
    assert len(await at.js.read(at.stream, {"multi_last": [f"{at.run}.task.x.*"]})) == 1024
    await at.put("task.x.1024")
    await at.level()
    with pytest.raises(JetStreamError) as error:
        await at.js.read(at.stream, {"multi_last": [f"{at.run}.task.x.*"]})
    assert error.value.code == 413


@rule
async def records_of_a_kind_are_read_from_a_sequence_on(at: Place) -> None:
    for number in range(5):
        await at.put(f"end.x.{number}")
        await at.put(f"task.x.{number}")

    async def page(seq: int, batch: int) -> list[int]:
        query = {"seq": seq, "next_by_subj": f"{at.run}.end.>", "batch": batch}
        return [int(message.headers["Nats-Sequence"]) for message in await at.js.read(at.stream, query)]

    await at.level()
    assert await page(1, 3) == [1, 3, 5]
    assert await page(6, 10) == [7, 9]
    assert await page(10, 10) == []
    assert await page(100, 10) == []


@rule
async def a_publishers_headers_are_kept_before_the_servers(at: Place) -> None:
    await at.put("task.x.1", b"in", block(("traceparent", "t"), ("Nats-Sequence", "666")))
    await at.level()
    found = await at.js.last(at.stream, f"{at.run}.task.x.1")
    assert found is not None
    assert found.head.index(b"traceparent:t\r\n") < found.head.rindex(b"\r\nNats-Sequence:")
    assert (found.headers["Nats-Sequence"], found.headers["Nats-Subject"]) == ("1", f"{at.run}.task.x.1")


@rule
async def subjects_are_listed_by_pattern(at: Place) -> None:
    for kind in ("task.x.1", "task.x.2", "end.x.1", "task.y.1", "task.x.1"):
        await at.put(kind)

    async def listed(pattern: str, offset: int = 0) -> dict[str, int]:
        body = {"subjects_filter": pattern, "offset": offset}
        info = await at.js.call(f"STREAM.INFO.{at.stream}", body)
        found: dict[str, int] = info["state"].get("subjects") or {}
        return found

    assert await listed(f"{at.run}.task.x.>") == {f"{at.run}.task.x.1": 2, f"{at.run}.task.x.2": 1}
    assert await listed(f"{at.run}.dead.>") == {}
    assert await listed(f"{at.run}.task.x.>", 2) == {}
    assert await at.purge(f"{at.run}.task.x.*") == 3
    assert await listed(f"{at.run}.>") == {f"{at.run}.end.x.1": 1, f"{at.run}.task.y.1": 1}


# The live feed ------------------------------------------------------------------------------------


@rule
async def what_is_stored_is_hinted_at_in_order_without_its_payload(at: Place) -> None:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    at.link.client.listen(f"{at.live}.>", heard.put_nowait)
    await at.link.client.flush()
    await at.put("task.x.1", b"payload", ONCE)
    await at.refused(at.put("task.x.1", b"refused", ONCE))
    await at.refused(at.batch(at.write("task.x.2"), at.write("task.x.1", *create_once(""))))
    await at.batch(at.write("task.x.3"), at.write("end.x.1"))
    hints = [await heard.get() for _ in range(3)]
    assert [hint.subject for hint in hints] == [
        f"{at.live}.{kind}" for kind in ("task.x.1", "task.x.3", "end.x.1")
    ]
    assert [hint.data for hint in hints] == [b"", b"", b""]
    assert [hint.headers["Nats-Sequence"] for hint in hints] == ["1", "2", "3"]


# Deliveries ---------------------------------------------------------------------------------------


@rule
async def tasks_are_delivered_in_order_with_their_sequence_and_count(at: Place) -> None:
    puller = await at.consumer()
    for kind in ("task.x.1", "end.x.1", "task.x.2", "task.y.3", "task.x.4"):
        await at.put(kind, kind.encode(), block(("traceparent", "t")))
    puller.ask(3)
    for id, seq in (("1", 1), ("2", 3), ("4", 5)):
        name, delivered, message = await puller.take()
        assert (name, delivered, parse_ack(message.reply).stream_seq) == (id, 1, seq)
        assert (message.subject, message.data) == (f"{at.run}.task.x.{id}", b"task.x." + id.encode())
        assert b"traceparent:t" in message.head


@rule
async def what_is_not_acknowledged_is_delivered_again_after_the_ack_wait(at: Place) -> None:
    puller = await at.consumer(ack_wait_s=0.6)
    for number in range(3):
        await at.put(f"task.x.{number}")
    puller.ask(9)
    loop = asyncio.get_running_loop()
    taken = [await puller.take() for _ in range(3)]
    began = loop.time()
    puller.say(taken[0][2], b"+ACK")
    puller.say(taken[1][2], b"+TERM")
    assert (await puller.take())[:2] == ("2", 2)
    assert 0.4 < loop.time() - began < 3
    assert (await puller.take())[:2] == ("2", 3)


@rule
async def work_in_progress_keeps_a_delivery(at: Place) -> None:
    puller = await at.consumer(ack_wait_s=0.6)
    await at.put("task.x.1")
    puller.ask(9)
    _, _, message = await puller.take()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        await asyncio.sleep(0.3)
        puller.say(message, b"+WPI")
    assert (await puller.take())[:2] == ("1", 2)
    assert loop.time() - began > 1.6


@rule
async def a_negative_acknowledgement_brings_it_back_at_once_or_after_its_delay(at: Place) -> None:
    puller = await at.consumer()
    await at.put("task.x.1")
    puller.ask(9)
    puller.say((await puller.take())[2], b"-NAK")
    _, delivered, message = await puller.take()
    assert delivered == 2
    loop = asyncio.get_running_loop()
    began = loop.time()
    puller.say(message, b'-NAK {"delay": 500000000}')
    assert (await puller.take())[1] == 3
    assert 0.4 < loop.time() - began < 3


@rule
async def an_acknowledgement_counts_for_the_message_whichever_delivery_it_answers(at: Place) -> None:
    puller = await at.consumer(ack_wait_s=0.6)
    await at.put("task.x.1")
    await at.put("task.x.2")
    puller.ask(9)
    first = await puller.take()
    other = await puller.take()
    puller.say(other[2], b"+ACK")
    assert (await puller.take())[:2] == ("1", 2)
    puller.say(first[2], b"+ACK")
    await at.link.client.flush()
    await asyncio.sleep(1.0)
    assert puller.arrived.empty()


@rule
async def no_more_are_out_than_may_be_and_one_in_backoff_is_out(at: Place) -> None:
    puller = await at.consumer(most=2)
    for number in range(3):
        await at.put(f"task.x.{number}")
    puller.ask(9)
    _, _, first = await puller.take()
    _, _, second = await puller.take()
    puller.say(first, b'-NAK {"delay": 500000000}')
    await at.link.client.flush()
    puller.say(second, b"+ACK")
    assert (await puller.take())[:2] == ("2", 1)
    assert (await puller.take())[:2] == ("0", 2)


@rule
async def what_is_purged_is_delivered_no_more(at: Place) -> None:
    puller = await at.consumer(ack_wait_s=0.6)
    for number in range(3):
        await at.put(f"task.x.{number}")
    puller.ask(1)
    await puller.take()
    await at.purge(f"{at.run}.task.x.0")
    await at.purge(f"{at.run}.task.x.1")
    puller.ask(9)
    assert (await puller.take())[:2] == ("2", 1)
    assert (await puller.take())[:2] == ("2", 2)


@rule
async def an_idle_pull_beats_and_then_expires(at: Place) -> None:
    puller = await at.consumer()
    puller.ask(5, expires_s=1.3, beat_s=0.5)
    statuses = [(await puller.next()).status for _ in range(3)]
    assert statuses == [100, 100, 408]


@rule
async def a_consumer_is_made_once(at: Place) -> None:
    await at.consumer(ack_wait_s=5)
    await at.consumer(ack_wait_s=5)
    assert await at.refused(at.consumer(ack_wait_s=6)) == 10148


@rule
async def a_consumer_knows_what_waits_and_what_is_out(at: Place) -> None:
    puller = await at.consumer()
    for number in range(3):
        await at.put(f"task.x.{number}")
    puller.ask(2)
    await puller.take()
    puller.say((await puller.take())[2], b"+ACK")
    await at.link.client.flush()
    info: dict[str, Any] = await at.js.call(f"CONSUMER.INFO.{at.stream}.d")
    while info["num_ack_pending"] != 1:
        info = await at.js.call(f"CONSUMER.INFO.{at.stream}.d")
    assert info["num_pending"] == 1


# Both worlds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
async def test_a_real_server_holds_that(rule: Rule, nats_url: str, namespace: str) -> None:
    servers = tuple(nats_url.split(","))
    async with open_link(Settings(servers=servers), lambda *_: None) as link:
        place = Place(link, namespace)
        await place.made(copies=len(servers))
        await rule(place)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_simulated_server_holds_that(rule: Rule) -> None:
    loop = SimLoop.make()
    faults = Faults.none()
    process = Process("tester")
    server = Server(loop, faults, lambda *_: None)

    async def hold() -> None:
        place = Place(SimClient(loop, server, process, lambda *_: None).link(), "sim")
        await place.made()
        await rule(place)

    loop.call_soon(lambda: None, context=NOWHERE)
    task = loop.start(process, hold())
    try:
        assert loop.run(task.done, until=loop.time() + 60), "it waits for ever"
        task.result()
        assert not loop.complaints
    finally:
        process.alive = False
        loop.close()
