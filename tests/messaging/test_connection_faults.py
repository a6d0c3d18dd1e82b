"""The server is killed, frozen, absent or says no: what callers hear, how soon, and that service goes on."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest
from messaging_kit import HELLO, SECOND, STATUS, Answer, Events, Inbox, Note, known, plain, settle

import roost
from roost import (
    Agent,
    ConfigError,
    ConnectError,
    ConnectionClosed,
    Disconnected,
    Endpoint,
    NotConnected,
    PermissionDenied,
    Topic,
)
from roost.server import LocalServer
from roost.server.options import ServerOptions

USERS = """
authorization {
  users: [
    { user: all, password: right }
    { user: few, password: right, permissions: {
        publish: { deny: ["Team.*.Secret", "ns.endpoint.Closed"] }
        subscribe: { deny: ["Team.*.Secret", "ns.endpoint.Closed"] } } }
  ]
}
"""


@contextmanager
def guarded_server() -> Iterator[LocalServer]:
    """A server that lets user `all` do everything and forbids user `few` something."""
    with LocalServer(ServerOptions(extra_config=USERS)) as server:
        yield server


def as_user(server: LocalServer, user: str, password: str = "right") -> str:
    return server.url.replace("nats://", f"nats://{user}:{password}@")


async def test_after_a_restart_of_the_server_subscriptions_are_back(own_server: LocalServer) -> None:
    agent, inbox, go = Agent("both"), Inbox(), asyncio.Event()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        inbox.put(("request", note.number))
        if note.number == 1:
            await go.wait()
        return Answer(number=note.number)

    @agent.handles(STATUS)
    async def heard(note: Note) -> None:
        inbox.put(("status", note.number))

    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as other:
        async with other.serving(agent):
            ours, theirs = Events(bus), Events(other)
            call = asyncio.create_task(bus.request(HELLO, Note(number=1), timeout_s=30))
            assert await inbox.get() == ("request", 1)
            begun = bus.clock()
            await asyncio.to_thread(own_server.kill)
            with pytest.raises(Disconnected, match=r"a request to roost\.endpoint\.hello"):
                await call
            assert bus.clock() - begun < 2
            await theirs.wait("connection_lost")
            go.set()  # its answer cannot be sent
            await theirs.wait("answer_not_sent")
            assert not theirs.of("handler_failed")
            with pytest.raises(NotConnected, match="was not sent"):
                await bus.publish(STATUS.at(agent="ann"), Note(number=2))
            with pytest.raises(NotConnected):
                await bus.request(HELLO, Note(number=3))
            await asyncio.to_thread(own_server.restart)
            await ours.wait("reconnected")
            await theirs.wait("reconnected")
            await settle(other)  # the server knows its subscriptions again
            await bus.publish(STATUS.at(agent="ann"), Note(number=4))
            assert await inbox.get() == ("status", 4)
            assert (await bus.request(HELLO, Note(number=5))).number == 5
            assert await inbox.get() == ("request", 5)
            assert inbox.empty, "what was refused meanwhile was not sent later"


async def test_serving_ends_within_its_grace_while_the_server_is_down(own_server: LocalServer) -> None:
    agent, began = Agent("slow"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        began.put(1)
        await asyncio.Event().wait()
        return Answer()

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(roost.connect(own_server.url))
        await stack.enter_async_context(bus.serving(agent, grace_s=0.5))
        call = asyncio.create_task(bus.request(HELLO, Note()))
        await began.get()
        await asyncio.to_thread(own_server.kill)
        with pytest.raises(Disconnected):
            await call
        begun = loop.time()
        await stack.aclose()
        assert 0.4 < loop.time() - begun < 1.5


async def test_serving_ends_soon_while_the_server_is_frozen(own_server: LocalServer) -> None:
    agent = Agent("idle")

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        return Answer()

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(roost.connect(own_server.url))
        await stack.enter_async_context(bus.serving(agent, grace_s=0.5))
        await asyncio.to_thread(own_server.pause)
        begun = loop.time()
        await stack.aclose()
        assert loop.time() - begun < 6
        await asyncio.to_thread(own_server.resume)


@pytest.mark.parametrize("contract", [Topic("Team.{agent}.Secret", Note), Endpoint("Closed", Note, Answer)])
async def test_a_subscription_that_is_not_permitted_fails_the_start_and_names_its_subject(
    contract: Topic[Note] | Endpoint[Note, Answer],
) -> None:
    agent, stopped = Agent("curious"), Inbox()
    agent.handles(contract)(lambda note: None)  # type: ignore[arg-type]
    agent.handles(HELLO)(lambda note: Answer())
    subject = "Team.*.Secret" if isinstance(contract, Topic) else "ns.endpoint.Closed"
    with guarded_server() as server:
        async with roost.connect(as_user(server, "few"), namespace="ns") as bus:
            with pytest.raises(PermissionDenied, match="to subscribe on") as caught:
                async with bus.serving(agent):
                    stopped.put("never")
            assert (caught.value.subject, stopped.empty) == (subject, True)
            with pytest.raises(roost.NoResponders):
                await bus.request(HELLO, Note())  # the permitted ones were ended too
        async with roost.connect(as_user(server, "all"), namespace="ns") as bus, bus.serving(agent):
            pass


async def test_a_request_that_is_not_permitted_fails_at_once() -> None:
    closed = Endpoint("Closed", Note, Answer)
    with guarded_server() as server:
        async with roost.connect(as_user(server, "few"), namespace="ns") as bus:
            begun = bus.clock()
            with pytest.raises(PermissionDenied, match="to publish on"):
                await bus.request(closed, Note(), timeout_s=5)
            assert bus.clock() - begun < 1


async def test_a_publish_that_is_not_permitted_is_counted_and_told() -> None:
    with guarded_server() as server:
        async with roost.connect(as_user(server, "few"), namespace="ns") as bus:
            events = Events(bus)
            await bus.publish(Topic("Team.{agent}.Secret", Note).at(agent="Ann"), Note())
            [event] = await events.wait("permission_denied")
            assert "publish Team.Ann.Secret" in event.reason
            assert bus.counters["permission_denied"] == 1


async def test_refused_credentials_fail_at_once_and_are_not_shown() -> None:
    with guarded_server() as server:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(ConnectError, match=r"cannot connect to nats://\*\*\*@127.0.0.1") as caught:
            async with roost.connect(as_user(server, "few", "wr0ng")):
                raise AssertionError
        assert loop.time() - begun < 2
        assert "uthorization" in caught.value.reason
        assert "wr0ng" not in f"{caught.value} {caught.value!r} {caught.value.url}"
        assert "wr0ng" not in repr(caught.value.__cause__)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize(("level", "shown"), [(logging.INFO, False), (logging.DEBUG, True)])
async def test_frames_of_sockets_are_shown_to_who_debugs_only(
    level: int, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "roost.transport")
    with pytest.raises(ConnectError) as caught:
        async with roost.connect(f"nats://127.0.0.1:{closed_port()}", connect_timeout_s=0.2):
            raise AssertionError
    text = "".join(traceback.format_exception(caught.value))
    assert ("ConnectionRefusedError" in text) is shown
    assert "Connect call failed" in str(caught.value)


async def test_nobody_at_the_address_is_said_within_the_time() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(ConnectError) as caught:
        async with roost.connect(f"nats://ann:s3cret@127.0.0.1:{closed_port()}"):
            raise AssertionError
    assert loop.time() - begun < 6
    text = str(caught.value)
    assert "Check that the server runs" in text
    assert "NATS_URL" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("url", ["", " , ", "http://127.0.0.1:4222"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        async with roost.connect(url):
            raise AssertionError


@pytest.mark.parametrize("namespace", ["a.b", "*", "", "x" * 65])
async def test_an_unsafe_namespace_is_refused_by_name(nats_url: str, namespace: str) -> None:
    with pytest.raises(roost.UnsafeToken, match=r"^namespace = "):
        async with roost.connect(nats_url, namespace=namespace):
            raise AssertionError


async def test_a_bus_that_was_left_says_so(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        pass
    with pytest.raises(ConnectionClosed):
        await bus.publish(STATUS.at(agent="ann"), Note())
    with pytest.raises(ConnectionClosed):
        await bus.request(HELLO, Note())


async def test_leaving_a_bus_with_a_request_in_flight_ends_the_request(nats_url: str, namespace: str) -> None:
    async with plain(nats_url) as other:
        await other.subscribe(f"{namespace}.endpoint.hello")
        await known(other)
        async with roost.connect(nats_url, namespace=namespace) as bus:
            call = asyncio.create_task(bus.request(HELLO, Note(), timeout_s=30))
            await bus.link.client.flush()
        with pytest.raises((ConnectionClosed, Disconnected)):
            await asyncio.wait_for(call, 2)


async def test_a_bus_used_from_another_loop_says_so(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:

        def elsewhere() -> None:
            asyncio.run(bus.publish(STATUS.at(agent="ann"), Note()))

        with pytest.raises(roost.WrongLoop, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(elsewhere)


async def test_two_buses_in_one_process_are_independent(nats_url: str, namespace: str) -> None:
    agent = Agent("greeter")

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        return Answer(text="first")

    second = Agent("greeter")

    @second.handles(SECOND)
    async def other_greet(note: Note) -> Answer:
        return Answer(text="second")

    async with (
        roost.connect(nats_url, namespace=namespace) as one,
        roost.connect(nats_url, namespace=namespace) as two,
    ):
        async with one.serving(agent), two.serving(second):
            assert (await two.request(HELLO, Note())).text == "first"
            assert (await one.request(SECOND, Note())).text == "second"
            assert one.counters["handled:endpoint:hello"] == two.counters["handled:endpoint:second"] == 1
            assert one.counters["handled:endpoint:second"] == two.counters["handled:endpoint:hello"] == 0
