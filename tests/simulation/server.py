"""The simulated server: subjects, subscriptions, the JetStream API, and the faults between it and its clients.

A connection keeps what is sent over it in order, each way, as TCP does. A request or an answer may be lost
although the connection lives (a change of the stream's leader), or be lost with it.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from roost.transport import Message
from simulation.connection import Connection
from simulation.consumer import Consumer, Memory, Pull
from simulation.faults import Faults
from simulation.loop import NOWHERE, Process, SimLoop
from simulation.stream import Refused, Stored, Stream, matches

EPOCH_S = 1_800_000_000.0
"""Server time, in seconds since 1970, at loop time 0: 8 o'clock on 15 January 2027."""
MEMORY_S = 0.1
"""How much of a consumer's state a crash may forget: it is written down about every 100 ms."""
MOST_RESULTS = 1024
"""Of one read of the newest of several subjects."""
ERRORS = {
    10059: (404, "stream not found"),
    10014: (404, "consumer not found"),
    10058: (400, "stream name already in use with a different configuration"),
    10148: (400, "consumer already exists"),
    10037: (404, "no message found"),
}


class Server:
    """The one server of a simulation."""

    def __init__(self, loop: SimLoop, faults: Faults, trace: Callable[..., None]) -> None:
        self.loop = loop
        self.faults = faults
        self.trace = trace
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.connections: list[Connection] = []
        self._subs: list[tuple[Connection, int, str, list[str]]] = []
        self._inboxes: dict[str, tuple[Connection, int]] = {}
        self._memories: dict[tuple[str, str], tuple[float, Memory]] = {}
        self._alarms: dict[tuple[str, str], float] = {}

    # Connections ------------------------------------------------------------------------------------

    def connect(self, process: Process, receive: Callable[[int, Message], None]) -> Connection:
        connection = Connection(self, process, receive)
        self.connections.append(connection)
        return connection

    def forget(self, connection: Connection) -> None:
        self.connections.remove(connection)
        self._subs = [sub for sub in self._subs if sub[0] is not connection]
        self._inboxes = {prefix: one for prefix, one in self._inboxes.items() if one[0] is not connection}
        for consumer in self.consumers.values():
            consumer.pulls = [pull for pull in consumer.pulls if pull.owner is not connection]

    def crash(self) -> None:
        """The server dies and is back at once: connections, open batches and the newest of its memory are gone."""
        self.faults.count["crash"] += 1
        self.trace("server crashes")
        for connection in list(self.connections):
            connection.close(0)
        for stream in self.streams.values():
            stream.batches.clear()
        now = self.loop.time()
        for key, consumer in self.consumers.items():
            at, memory = self._memories.get(key, (0.0, None))
            consumer.crash(memory if memory is not None and now - at < MEMORY_S else consumer.remember(), now)
            self._turn(consumer)

    # What arrives -----------------------------------------------------------------------------------

    def take(self, connection: Connection, command: tuple[Any, ...]) -> None:
        """One command of a client."""
        kind = command[0]
        if kind == "pub":
            self._published(connection, *command[1:])
        elif kind == "sub":
            _, sid, pattern = command
            prefix, _, last = pattern.rpartition(".")
            if last == "*" and pattern.startswith("_INBOX"):
                self._inboxes[prefix] = (connection, sid)
            else:
                self._subs.append((connection, sid, pattern, pattern.split(".")))
        elif kind == "unsub":
            sid = command[1]
            self._subs = [sub for sub in self._subs if sub[0] is not connection or sub[1] != sid]
            self._inboxes = {p: one for p, one in self._inboxes.items() if one != (connection, sid)}
        else:
            connection.pong(command[1])

    def _published(self, connection: Connection, subject: str, data: bytes, reply: str, head: bytes) -> None:
        if subject.startswith("$JS."):
            if subject.startswith("$JS.ACK."):
                self._acknowledged(subject, data)
                return
            if self.faults.strikes("lose_request"):
                self.trace("  request lost: %s", subject)
                return
            if subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
                self._pull(connection, subject, data, reply)
            else:
                self._api(subject[8:], data, reply)
            return
        stream = self._stream_of(subject)
        if stream is None:
            heard = self._fan(subject, Message(subject, reply, head, data))
            if reply and not heard:
                self._reply(reply, head=b"NATS/1.0 503\r\n\r\n")
            return
        if reply and self.faults.strikes("lose_request"):
            self.trace("  request lost: %s", subject)
            return
        if reply and b"Nats-Batch" not in head and self.faults.strikes("late_request"):
            late_s = self.faults.rng.choice((0.05, 1.0, 10.0, 10.0)) * self.faults.rng.random()
            self.trace("  request held up for %.2f s: %s", late_s, subject)
            self.loop.call_later(late_s, self._write, stream, subject, data, reply, head, context=NOWHERE)
            return
        self._write(stream, subject, data, reply, head)

    def _write(self, stream: Stream, subject: str, data: bytes, reply: str, head: bytes) -> None:
        try:
            if reply and head and self.faults.strikes("refuse"):
                raise (
                    Refused(10176, "batch publish is incomplete and was abandoned")
                    if b"Batch" in head
                    else Refused(10164, "wrong last sequence")
                )
            answer = stream.publish(subject, head, data, self.loop.time(), answered=bool(reply))
        except Refused as refused:
            self.trace("  refused %s: %s", subject, refused)
            answer = {"error": refused.answer, "stream": stream.name, "seq": 0}
        if reply and answer is not None:
            self._reply(reply, json.dumps(answer).encode() if answer else b"")

    def _stream_of(self, subject: str) -> Stream | None:
        for stream in self.streams.values():
            for pattern in stream.config["subjects"]:
                if subject.startswith(pattern[:-1]) if pattern.endswith(".>") else subject == pattern:
                    return stream
        return None

    # What is sent -----------------------------------------------------------------------------------

    def _reply(self, reply: str, data: bytes = b"", head: bytes = b"", *, certain: bool = False) -> None:
        """An answer, which may be late or lost."""
        if certain:
            self._fan(reply, Message(reply, "", head, data))
        elif self.faults.strikes("lose_answer"):
            self.trace("  answer lost: %s %r", reply, data[:60])
        elif self.faults.strikes("slow_answer"):
            late_s = self.faults.rng.choice((0.05, 0.5, 6.0)) * self.faults.rng.random()
            self.loop.call_later(late_s, self._fan, reply, Message(reply, "", head, data), context=NOWHERE)
        else:
            self._fan(reply, Message(reply, "", head, data))

    def _fan(self, subject: str, message: Message) -> bool:
        """To all that subscribe; False when nobody does."""
        found = self._inboxes.get(subject.rpartition(".")[0])
        if found is not None:
            found[0].answer(found[1], message)
            return True
        tokens = subject.split(".")
        heard = False
        for connection, sid, _, pattern in self._subs:
            if matches(pattern, tokens):
                connection.answer(sid, message)
                heard = True
        return heard

    def _stored(self, record: Stored, before: int) -> None:
        """A message was stored: republish it, deliver it."""
        self.trace("  stored %d %s %r", record.seq, record.subject, record.data[:150])
        for stream in self.streams.values():
            if stream.get(record.seq) is not record:
                continue
            republish = stream.config.get("republish")
            if republish and matches(republish["src"].split("."), record.tokens):
                subject = republish["dest"][:-1] + record.subject[len(republish["src"]) - 1 :]
                head = (
                    f"NATS/1.0\r\nNats-Stream: {stream.name}\r\nNats-Subject: {record.subject}\r\n"
                    f"Nats-Sequence: {record.seq}\r\nNats-Last-Sequence: {before}\r\n\r\n"
                ).encode()
                data = b"" if republish.get("headers_only") else record.data
                if not self.faults.strikes("lose_hint"):
                    self._fan(subject, Message(subject, "", head, data))
                    if self.faults.strikes("double_hint"):
                        self._fan(subject, Message(subject, "", head, data))
            for consumer in self.consumers.values():
                if consumer.stream is stream and consumer.pulls and matches(consumer.filter, record.tokens):
                    self._turn(consumer)

    # The API ----------------------------------------------------------------------------------------

    def _api(self, call: str, data: bytes, reply: str) -> None:
        if call.startswith("DIRECT.GET."):
            self._direct(call[11:], data, reply)
            return
        body = json.loads(data) if data else {}
        words = call.split(".")
        try:
            answer = getattr(self, "_" + "_".join(words[:2]).lower(), self._unknown)(words, body)
        except Refused as refused:
            answer = {"error": refused.answer}
        self._reply(reply, json.dumps(answer).encode())

    def _unknown(self, words: list[str], body: dict[str, Any]) -> Any:
        raise NotImplementedError(f"the simulated server has no {'.'.join(words)}")

    def _named(self, name: str) -> Stream:
        try:
            return self.streams[name]
        except KeyError:
            raise refusal(10059) from None

    def _stream_create(self, words: list[str], body: dict[str, Any]) -> Any:
        name = words[2]
        if name in self.streams and self.streams[name].config != body:
            raise refusal(10058)
        if name not in self.streams:
            self.streams[name] = Stream(name, body, self._stored)
        return self._stream_info(words, {})

    def _stream_info(self, words: list[str], body: dict[str, Any]) -> Any:
        stream = self._named(words[2])
        answer: dict[str, Any]
        state: dict[str, Any] = {"bytes": 0, "last_seq": stream.last_seq, "messages": 0}
        state["messages"] = sum(record is not None for record in stream.records)
        answer = {"config": stream.config, "state": state, "ts": stamp(self.loop.time())}
        if "subjects_filter" in body:
            found = stream.subjects(body["subjects_filter"])
            names = sorted(found)[int(body.get("offset", 0)) :]
            state["subjects"] = {name: found[name] for name in names}
            answer["total"] = len(found)
        return answer

    def _stream_purge(self, words: list[str], body: dict[str, Any]) -> Any:
        gone = self._named(words[2]).purge(body["filter"])
        self.trace("  purged %d of %s", gone, body["filter"])
        return {"success": True, "purged": gone}

    def _stream_msg(self, words: list[str], body: dict[str, Any]) -> Any:
        stream = self._named(words[3])
        if "last_by_subj" in body:
            record = stream.get(stream.last_on(body["last_by_subj"]))
        else:
            record = next(iter(stream.following(body["seq"], body["next_by_subj"], 1, math.inf)), None)
        if record is None:
            raise refusal(10037)
        message = {"subject": record.subject, "seq": record.seq, "data": b64encode(record.data).decode()}
        return {"message": message | {"time": stamp(record.at)}}

    def _consumer_create(self, words: list[str], body: dict[str, Any]) -> Any:
        stream = self._named(words[2])
        key = (words[2], words[3])
        there = self.consumers.get(key)
        if there is not None and there.config != body["config"]:
            raise refusal(10148)
        if there is None:
            self.consumers[key] = Consumer(
                words[3], stream, body["config"], self.loop.time(), self._send_delivery
            )
        return self._consumer_info(words, {})

    def _consumer_info(self, words: list[str], body: dict[str, Any]) -> Any:
        consumer = self.consumers.get((words[2], words[3]))
        if consumer is None:
            raise refusal(10014)
        return {
            "name": consumer.name,
            "config": consumer.config,
            "created": stamp(consumer.created),
            "num_pending": consumer.pending(),
            "num_ack_pending": len(consumer.due),
        }

    def _direct(self, call: str, data: bytes, reply: str) -> None:
        """Direct gets: of one subject, or several messages in a row. A replica that lags answers now and then."""
        name, _, subject = call.partition(".")
        stream = self.streams.get(name)
        if stream is None:
            self._reply(reply, head=b"NATS/1.0 503\r\n\r\n")
            return
        seen = self.loop.time()
        if self.faults.strikes("stale"):
            seen -= self.faults.rng.choice((0.003, 0.05, 0.5)) * self.faults.rng.random()
        if subject:
            record = stream.newest_seen(subject, seen)
            if record is None:
                self._reply(reply, head=b"NATS/1.0 404 Message Not Found\r\n\r\n")
            else:
                self._reply(reply, record.data, with_headers(stream, record, ""))
            return
        query = json.loads(data)
        if "multi_last" in query and "next_by_subj" not in query:
            found = stream.newest_of_each(query["multi_last"], seen)
            if len(found) > MOST_RESULTS:
                self._reply(reply, head=b"NATS/1.0 413 Too Many Results\r\n\r\n")
                return
        elif "next_by_subj" in query and "multi_last" not in query:
            found = stream.following(query["seq"], query["next_by_subj"], query["batch"], seen)
        else:
            self._reply(reply, head=b"NATS/1.0 408 Bad Request\r\n\r\n")
            return
        if not found:
            self._reply(reply, head=b"NATS/1.0 404 No Results\r\n\r\n")
            return
        if self.faults.strikes("lose_answer"):
            self.trace("  answers lost: %s", reply)
            return
        for number, record in enumerate(found, 1):
            more = f"Nats-Num-Pending: {len(found) - number}\r\n"
            self._reply(reply, record.data, with_headers(stream, record, more), certain=True)
        end = f"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: {found[-1].seq}\r\n\r\n"
        self._reply(reply, head=end.encode(), certain=True)

    # Consumers --------------------------------------------------------------------------------------

    def _pull(self, connection: Connection, subject: str, data: bytes, reply: str) -> None:
        name, _, durable = subject[26:].partition(".")
        consumer = self.consumers.get((name, durable))
        if consumer is None:
            self._reply(reply, head=b"NATS/1.0 503\r\n\r\n")
            return
        body = json.loads(data)
        now = self.loop.time()
        beat_s = body.get("idle_heartbeat", 0) / 1e9
        pull = Pull(connection, reply, body["batch"], now + body["expires"] / 1e9, beat_s, now)
        consumer.pulls.append(pull)
        self._turn(consumer)
        self.loop.call_at(
            min(pull.expires, now + (beat_s or 1e9)), self._beat, consumer, pull, context=NOWHERE
        )

    def _beat(self, consumer: Consumer, pull: Pull) -> None:
        """Heartbeats of an idle pull, and its end."""
        if pull not in consumer.pulls:
            return
        now = self.loop.time()
        if now >= pull.expires:
            consumer.pulls.remove(pull)
            head = f"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: {pull.left}\r\n\r\n"
            self._fan(pull.inbox, Message(pull.inbox, "", head.encode(), b""))
            return
        if now - pull.heard >= pull.beat_s - 0.001:
            pull.heard = now
            self._fan(pull.inbox, Message(pull.inbox, "", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b""))
        self.loop.call_at(
            min(pull.expires, pull.heard + pull.beat_s), self._beat, consumer, pull, context=NOWHERE
        )

    def _turn(self, consumer: Consumer) -> None:
        now = self.loop.time()
        key = (consumer.stream.name, consumer.name)
        if self.faults.crashes and self.faults.active:
            at, _ = self._memories.get(key, (-1.0, None))
            if now - at >= MEMORY_S:
                self._memories[key] = (now, consumer.remember())
        consumer.turn(now)
        due = consumer.due_next()
        if due is not None and due < self._alarms.get(key, 1e18):
            self._alarms[key] = due
            self.loop.call_at(due, self._alarm, key, due, context=NOWHERE)

    def _alarm(self, key: tuple[str, str], due: float) -> None:
        if self._alarms.get(key) == due:
            del self._alarms[key]
        self._turn(self.consumers[key])

    def _send_delivery(self, consumer: Consumer, pull: Pull, record: Stored, count: int) -> None:
        owner: Connection = pull.owner
        self.trace("  deliver %d (%d) to %s", record.seq, count, owner.process)
        if self.faults.strikes("forget_delivery"):
            return
        at_ns = int((EPOCH_S + record.at) * 1e9)
        reply = (
            f"$JS.ACK.{consumer.stream.name}.{consumer.name}.{count}.{record.seq}.{consumer.serial}.{at_ns}.0"
        )
        found = self._inboxes.get(pull.inbox.rpartition(".")[0])
        if found is not None:
            found[0].answer(found[1], Message(record.subject, reply, record.head, record.data))
        if self.faults.strikes("deliver_twice"):  # its acknowledgement will be too late, or was forgotten
            consumer.due[record.seq] = self.loop.time() + self.faults.rng.random()

    def _acknowledged(self, subject: str, data: bytes) -> None:
        words = subject.split(".")
        consumer = self.consumers.get((words[2], words[3]))
        if consumer is None:
            return
        delay_s = 0.0
        if data.startswith(b"-NAK {"):
            delay_s = json.loads(data[5:])["delay"] / 1e9
        self.trace("  %s %s", data[:40].decode(), words[5])
        consumer.acknowledge(int(words[5]), data, delay_s, self.loop.time())
        self._turn(consumer)


def refusal(err_code: int) -> Refused:
    code, description = ERRORS[err_code]
    return Refused(err_code, description, code)


def stamp(at: float) -> str:
    """Loop time as the server writes time."""
    seconds, micros = divmod(int(at * 1e6), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"2027-01-15T{8 + hours:02d}:{minutes:02d}:{seconds:02d}.{micros:06d}000Z"


def with_headers(stream: Stream, record: Stored, more: str) -> bytes:
    """The publisher's headers, and behind them the server's."""
    own = record.head[:-2] if record.head else b"NATS/1.0\r\n"
    return (
        own
        + (
            f"Nats-Stream: {stream.name}\r\nNats-Subject: {record.subject}\r\nNats-Sequence: {record.seq}\r\n"
            f"Nats-Time-Stamp: {stamp(record.at)}\r\n{more}\r\n"
        ).encode()
    )
