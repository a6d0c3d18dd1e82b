"""What strangers may send: bytes, subjects, replies and headers. It harms only the message that carries it."""

from __future__ import annotations

import asyncio
import json

import pytest
from messaging_kit import HELLO, STATUS, Answer, Events, Inbox, Note, Raw, known, plain, raw, settle
from nats.aio.msg import Msg

import roost
from roost import Agent, RemoteError

HUGE = b'{"text": "' + b"x" * (256 * 1024) + b'"}'
DEEP = b'{"text": ' + b"[" * 40 + b"]" * 40 + b"}"
VERY_DEEP = b"[" * 100_000

BAD_PAYLOADS = {
    "nothing": (b"", "not JSON"),
    "no UTF-8": (b"\xff\xfe", "not JSON"),
    "half": (b"{", "not JSON"),
    "no object": (b"[]", "should be an object"),
    "huge": (HUGE, "allowed are 262144"),
    "deep": (DEEP, "deeper than 32 levels"),
    "very deep": (VERY_DEEP, "deeper than 32 levels"),
    "equal keys": (b'{"text": "a", "text": "b"}', "occurs twice"),
    "NaN": (b'{"number": NaN}', "NaN and Infinity are not JSON"),
    "infinity": (b'{"number": Infinity}', "NaN and Infinity are not JSON"),
    "overflow": (b'{"number": 1e999}', "too large for a double"),
    "constraint": (b'{"number": -1}', "field 'number'"),
    "type": (b'{"number": "\\u001b[31m"}', "field 'number'"),
}


@pytest.fixture
def nats_url(nats_url: str) -> str:
    """One server, also of a cluster: there, what the raw connection has flushed is on its way to the others."""
    return nats_url.split(",")[0]


async def test_a_topics_message_that_does_not_fit_reaches_no_handler(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent, inbox = Agent("reader"), Inbox()

    @agent.handles(STATUS)
    async def heard(note: Note) -> None:
        inbox.put(note.number)

    async with raw(nats_url) as stranger, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            events = Events(bus)
            for number, (name, (payload, reason)) in enumerate(BAD_PAYLOADS.items(), start=1):
                await stranger.publish("team.eve.status", payload)
                await stranger.publish("team.eve.status", b'{"number": %d}' % number)
                assert await inbox.get() == number, name
                event = (await events.wait("message_refused", number))[-1]
                assert event.subject == "team.eve.status", name
                assert reason in event.reason, name
                assert "team.eve.status" in event.reason, name
                assert bus.counters["message_refused"] == number, name
            assert any("message_refused" in record.message for record in caplog.records)
            assert inbox.empty


async def test_a_request_that_does_not_fit_is_answered_as_invalid(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("greeter"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        return Answer()

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            for number, (name, (payload, reason)) in enumerate(BAD_PAYLOADS.items(), start=1):
                answer = await other.request(f"{namespace}.endpoint.hello", payload, timeout=5)
                assert answer.headers is not None, name
                assert answer.headers["Nats-Service-Error-Code"] == "400", name
                assert answer.headers["Roost-Error"] == "invalid", name
                body = json.loads(answer.data)
                assert body["code"] == "invalid", name
                assert reason.removeprefix("field ").strip("'") in body["message"], name
                assert answer.headers["Nats-Service-Error"] == body["message"], name
                assert bus.counters["message_refused"] == number, name
                await bus.request(HELLO, Note(number=number))
                assert await inbox.get() == number, name


async def test_an_answer_that_does_not_fit_is_refused_with_its_reason(nats_url: str, namespace: str) -> None:
    asked = roost.Endpoint("asked", Note, Note)
    payload = b""

    async def answer(message: Msg) -> None:
        await message.respond(payload)

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        await other.subscribe(f"{namespace}.endpoint.asked", cb=answer)
        await known(other)
        for number, (name, (payload, reason)) in enumerate(BAD_PAYLOADS.items(), start=1):  # noqa: B007
            with pytest.raises(roost.InvalidMessage) as caught:
                await bus.request(asked, Note())
            assert reason in str(caught.value), name
            assert caught.value.subject == f"{namespace}.endpoint.asked", name
            assert bus.counters["message_refused"] == number, name


async def test_only_inboxes_are_answered(nats_url: str, namespace: str) -> None:
    """Who chooses the reply of a request chooses what the handler's credentials publish to."""
    agent, inbox = Agent("greeter"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        return Answer()

    replies = ["", "admin.cmd", "_inbox.x", "INBOX.x", "$JS.API.INFO", "team.ann.status", "a._INBOX.x"]
    async with raw(nats_url) as stranger, plain(nats_url) as other:
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
            events = Events(bus)
            seen = [await other.subscribe(reply) for reply in replies if reply]
            await known(other)
            for number, reply in enumerate(replies, start=1):
                await stranger.publish(f"{namespace}.endpoint.hello", b"{}", reply=reply)
                event = (await events.wait("request_refused", number))[-1]
                assert "no inbox to answer" in event.reason
                await bus.request(HELLO, Note(number=number))
                assert await inbox.get() == number, "the other reached no handler"
            await settle(bus)
            await known(other)
            assert [subscription.pending_msgs for subscription in seen] == [0] * len(seen)


async def test_a_reply_with_control_characters_is_no_failure_of_the_handler(
    nats_url: str, namespace: str
) -> None:
    agent, inbox = Agent("greeter"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        return Answer()

    async with raw(nats_url) as stranger, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            events = Events(bus)
            await stranger.send(f"PUB {namespace}.endpoint.hello _INBOX.a\x01b 2\r\n".encode(), b"{}\r\n")
            await stranger.send(
                f"PUB {namespace}.endpoint.hello ".encode(), b"_INBOX.\xff\xfe 2\r\n", b"{}\r\n"
            )
            await events.wait("answer_not_sent", 1)
            await bus.request(HELLO, Note(number=2))
            assert (await inbox.take(3))[2] == 2
            assert not events.of("handler_failed")


ODD_HEADERS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n: no name\r\n\r\n",
    b"NATS/1.0\r\ntraceparent: \xff\xff\r\n\r\n",
    b"NATS/1.0\r\ntraceparent: 00-0-0-00\r\nRoost-Timeout-Ms:\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0\r\nStatus: 408\r\nNats-Service-Error-Code: 500\r\n\r\n",
    b"NATS/1.0\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(1000)) + b"\r\n",
    b"GARBAGE WITHOUT END",
]


async def test_no_header_keeps_a_message_from_its_handler(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("both"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        return Answer(text="ok")

    @agent.handles(STATUS)
    async def heard(note: Note, ctx: roost.Context) -> None:
        inbox.put((note.number, len(ctx.trace.trace_id)))

    async with raw(nats_url) as stranger, plain(nats_url) as other:
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
            answers = await other.subscribe("_INBOX.stranger.1")
            await known(other)
            subject = f"{namespace}.endpoint.hello"
            for head in ODD_HEADERS:
                await stranger.publish(subject, b'{"number": 1}', reply="_INBOX.stranger.1", head=head)
                assert await inbox.get() == 1, head
                answer = await answers.next_msg(timeout=5)
                assert json.loads(answer.data) == {"text": "ok", "number": 0}, head
                assert not answer.headers, "the headers of a request are not sent back"
                await stranger.publish("team.eve.status", b'{"number": 2}', head=head)
                assert await inbox.get() == (2, 32), head


async def test_a_responders_status_header_does_not_pass_for_the_servers_word(
    nats_url: str, namespace: str
) -> None:
    async def answer(message: Msg) -> None:
        await other.publish(message.reply, b'{"text": "here I am"}', headers={"Status": "503"})

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        await other.subscribe(f"{namespace}.endpoint.hello", cb=answer)
        await known(other)
        assert (await bus.request(HELLO, Note())).text == "here I am"


@pytest.mark.parametrize(
    ("head", "body", "code", "message"),
    [
        (b"Nats-Service-Error-Code: 500\r\nNats-Service-Error: went wrong\r\n", b"", "500", "went wrong"),
        (b"Nats-Service-Error-Code: 418\r\n", b"[" * 50_000, "418", ""),
        (b"Nats-Service-Error-Code: 400\r\nRoost-Error: \x1b[31mred\r\n", b"{}", "\\x1b[31mred", ""),
        (b"Nats-Service-Error-Code: \r\nRoost-Error: odd\r\n", b'{"message": {"a": 1}}', "odd", "{'a': 1}"),
        (b"Nats-Service-Error-Code: 1\r\n", b'{"message": "' + b"x" * 100_000 + b'"}', "1", "xxx"),
    ],
)
async def test_an_error_of_a_responder_in_another_language_is_a_remote_error(
    nats_url: str, namespace: str, head: bytes, body: bytes, code: str, message: str
) -> None:
    async def answer(request: Msg) -> None:
        await stranger.publish(request.reply, body, head=b"NATS/1.0\r\n" + head + b"\r\n")

    stranger: Raw
    async with raw(nats_url) as stranger, plain(nats_url) as other:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await other.subscribe(f"{namespace}.endpoint.hello", cb=answer)
            await known(other)
            with pytest.raises(RemoteError) as caught:
                await bus.request(HELLO, Note())
            assert caught.value.code == code
            assert caught.value.message.startswith(message)
            assert len(str(caught.value)) < 1500
            assert str(caught.value).isprintable()


async def test_a_flood_of_bad_messages_is_counted_one_by_one_and_logged_once_a_second(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent, inbox = Agent("reader"), Inbox()

    @agent.handles(STATUS)
    async def heard(note: Note) -> None:
        inbox.put(note.number)

    async with raw(nats_url) as stranger, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            loop = asyncio.get_running_loop()
            begun = loop.time()
            await stranger.send(b"PUB team.eve.status 1\r\n{\r\n" * 5_000)
            await stranger.publish("team.eve.status", b'{"number": 7}')
            assert await inbox.get() == 7
            await settle(bus)
            assert bus.counters["message_refused"] == 5_000
            seconds = loop.time() - begun
    lines = [record for record in caplog.records if record.message.startswith("message_refused")]
    assert len(lines) <= seconds + 2
