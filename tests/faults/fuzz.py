"""Garbage of every kind at a live agent, while it works: `python -m faults.fuzz --count 100000 --seed N`.

One process serves a contract of each kind (`fuzz_agent`), another submits, asks, streams and waits, and a plain socket
sends what `roost.testing.faults` makes up. Afterwards each piece of legitimate work has its one outcome or answer,
both processes and all their loops are there, the agent takes as much memory as before, and has not written a line for
each message; and the commands of an operator read what is in the log. The result of the long form is kept in
`docs/fuzz.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from typer.testing import CliRunner

import roost
from faults.fuzz_agent import (
    LEGITIMATE,
    NAMES,
    PIECES,
    Figures,
    Note,
    book,
    chat,
    echo,
    figures,
    said,
    turn,
    work,
)
from faults.matrix import commit
from roost.cli.app import app
from roost.server import LocalServer
from roost.testing import faults

RESULT = Path(__file__).resolve().parents[2] / "docs" / "fuzz.json"
HERE = Path(__file__).resolve().parent
NAMESPACE = "fuzz"
KEPT = 100_000
"""Messages from which on a run is the long form, and its result is kept."""
BATCH = 250
"""Messages between two pieces of legitimate work of each kind."""
PATIENCE_S = 120.0
"""For what has to come."""
WARM = 0.3
"""Share of the messages after which memory is looked at first: by then caches and code are there."""
RSS_BOUND_BYTES = 8_000_000
"""By which the agent may have grown from then on; 70,000 messages kept would take several times that."""
LINES_PER_S = 40
"""Lines of log in a second: one for each kind of event, of which there are some thirty."""
COMMANDS = (
    "status",
    "doctor",
    "agents",
    "tasks ls",
    "dead ls",
    "dead groups",
    "runs ls",
    "runs show {run}",
    "schedules ls",
    "timeline --all",
)


@dataclass
class Fuzzed:
    """What came of it. `broken` says in sentences what did not hold."""

    seed: int
    messages: int = 0
    seconds: float = 0.0
    legitimate: dict[str, int] = field(default_factory=dict)
    """Pieces of legitimate work by kind; each was done, unless `broken` says so."""
    refused: dict[str, int] = field(default_factory=dict)
    """What the agent counted of the garbage."""
    rss_before_bytes: int = 0
    rss_after_bytes: int = 0
    log_lines: int = 0
    broken: list[str] = field(default_factory=list)


@asynccontextmanager
async def attacker(url: str) -> AsyncIterator[Callable[[list[bytes]], Awaitable[None]]]:
    """A plain connection; what it gives sends messages, and returns when the server has taken them."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')

    async def send(messages: list[bytes]) -> None:
        writer.writelines([*messages, b"PING\r\n"])
        async with asyncio.timeout(PATIENCE_S):
            while (line := await reader.readline()) != b"PONG\r\n":
                assert line, "the server has closed the connection of who sends the garbage"

    try:
        yield send
    finally:
        writer.close()


def everything(seed: int, seen: Figures, own: list[str], ids: list[str]) -> Iterator[bytes]:
    """Noise at every subject, and foreign records, in turn. `own`: inboxes of who asks; `ids`: of legitimate tasks."""
    base, at = f"{NAMESPACE}.run.", f"{NAMESPACE}.at.{seen.instance}"
    noise = faults.raw_messages(
        seed,
        [
            *(f"{NAMESPACE}.{kind}.{name}" for kind in ("endpoint", "every") for name in ("echo", "chat")),
            *(f"{at}.{name}" for name in ("echo", "chat")),
            *(f"{base}noise.{kind}.work.x" for kind in ("task", "end", "dead", "note", "step")),
            *(f"{base}noise.{kind}" for kind in ("task.book.x", "task.turn.x", "epoch", "state", "signal.s")),
            *(f"{NAMESPACE}.{one}" for one in ("sched.cron.x", "fired.work.cron.x", "upkeep", "beat.fuzz.x")),
            *(f"{NAMESPACE}.{one}" for one in ("cancel.work.x.x", "live.run.x.end.work.x")),
            "fuzz.eve.said",
            "$SRV.PING",
            "$SRV.INFO.fuzz",
            *(f"{inbox}.x" for inbox in own),
        ],
        most_bytes=1024,
    )
    inboxes = [*seen.inboxes, *own]
    foreign = faults.foreign_records(seed, NAMESPACE, NAMES, keys=("k0", "k1"), inboxes=inboxes, ids=ids)
    chance = random.Random(f"{seed}/both")
    while True:
        yield next(noise) if chance.random() < 0.5 else next(foreign)


class Work:
    """Legitimate work of every kind, begun all the time, and what is still to come of it."""

    def __init__(self, bus: roost.Bus, found: Fuzzed) -> None:
        self._bus = bus
        self._found = found
        self._number = LEGITIMATE
        self._waiting: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.runs: list[str] = []

    async def begin(self) -> None:
        """One piece of each kind; returns when the quick ones are answered, which paces who sends the garbage."""
        self._number += 10
        number = self._number
        note = Note(text=f"k{number // 10 % 2}", number=number)
        bus = self._bus
        await bus.publish(said.at(who="ann"), note)
        self.counts["topic"] += 1
        await self._expect("request", bus.request(echo, note, timeout_s=PATIENCE_S), note)
        pieces = []
        async with bus.stream(chat, note) as answers:
            async for piece in answers:
                pieces.append(piece.number - number)
        self._tell("stream", pieces, [0, 1, 2])
        if not any(one.agent == "fuzz" for one in await bus.agents(agent="fuzz", timeout_s=5)):
            self._found.broken.append("the agent is not among those that answer")
        self.counts["listing"] += 1
        for kind, handle in (
            ("task", await bus.submit(work, note, key=f"legit-{number}")),
            ("ordered task", await bus.submit(turn, note, key=f"legit-{number}")),
        ):
            self._later(kind, handle.result(timeout_s=PATIENCE_S), note)
        if number // 10 % 4 == 0:
            run = await bus.start(book, note, key=f"legit-{number}")
            self.runs.append(run.id)
            total = Note(text=note.text, number=number + sum(range(PIECES)))
            self._later("workflow", run.result(timeout_s=PATIENCE_S), total)
        if number // 10 % 3 == 0:
            said_by = Note(text="chunks", number=number + 5)  # of such numbers the agent emits
            self._later("chunks", self._chunks(said_by), [said_by])

    async def _chunks(self, note: Note) -> list[Note]:
        handle = await self._bus.submit(work, note, key=f"chunks-{note.number - 5}")
        return [one.value async for one in handle.chunks(Note)]

    async def end(self) -> None:
        """Returns when nothing is to come any more."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=PATIENCE_S)
        for one in self._waiting:
            self._found.broken.append(f"{one.get_name()} never came")
            one.cancel()

    def _later(self, kind: str, coming: Any, wanted: Any) -> None:
        task = asyncio.create_task(self._expect(kind, coming, wanted), name=f"{kind} {self._number}")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _expect(self, kind: str, coming: Any, wanted: Any) -> None:
        try:
            self._tell(kind, await coming, wanted)
        except Exception as error:
            self._tell(kind, f"{type(error).__name__}: {error}", wanted)

    def _tell(self, kind: str, came: Any, wanted: Any) -> None:
        self.counts[kind] += 1
        if came != wanted:
            self._found.broken.append(f"{kind}: {str(came)[:300]} instead of {wanted}")


@asynccontextmanager
async def agent_process(url: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "faults.fuzz_agent", url, NAMESPACE, cwd=HERE.parent, stdout=-1, stderr=file
        )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


async def fuzz(seed: int, count: int, folder: Path, *, commands: bool = True) -> Fuzzed:
    """Send so many messages at an agent on a server of its own, and see what comes of it."""
    found = Fuzzed(seed)
    log = folder / "agent.log"
    began = time.monotonic()
    with LocalServer() as server:
        async with agent_process(server.url, log) as process:
            async with roost.connect(server.url, namespace=NAMESPACE) as bus:
                doing = Work(bus, found)
                await _send(bus, doing, found, count, server.url)
                await _look(bus, doing, found)
                if commands:
                    await asyncio.to_thread(_read, server.url, doing.runs[-1], found)
            if process.returncode is not None:
                found.broken.append(f"the agent ended with {process.returncode}")
        if process.returncode:
            found.broken.append(f"told to stop, the agent ended with {process.returncode}")
    found.seconds = round(time.monotonic() - began, 1)
    found.legitimate = dict(sorted(doing.counts.items()))
    _judge(found, log.read_text(errors="replace"))
    return found


async def _send(bus: roost.Bus, doing: Work, found: Fuzzed, count: int, url: str) -> None:
    own = [bus.link.requests.inbox.removesuffix(".*")]
    await doing.begin()
    numbers = [LEGITIMATE + 10 * n for n in range(count // BATCH + 3)]
    ids = [
        f"{kind}-{number}"
        for number in numbers
        for kind in ("work:legit", "work:chunks", "turn:legit", "book:legit")
    ]
    messages = everything(found.seed, await seen(bus), own, ids)
    async with attacker(url) as send:
        while found.messages < count:
            size = min(BATCH, count - found.messages)
            await send(list(islice(messages, size)))
            found.messages += size
            await doing.begin()
            if not found.rss_before_bytes and found.messages >= WARM * count:
                found.rss_before_bytes = (await seen(bus)).rss_bytes
            _show(found.messages, count)
    await doing.begin()  # when all of it has arrived, everything still works
    await doing.end()


async def _look(bus: roost.Bus, doing: Work, found: Fuzzed) -> None:
    """What the agent says of itself, once its reporter has followed."""
    tasks = doing.counts["task"] + doing.counts["chunks"]
    until = time.monotonic() + PATIENCE_S
    last = await seen(bus)
    while len(last.reported) < tasks and time.monotonic() < until:
        await asyncio.sleep(0.2)
        last = await seen(bus)
    if len(last.reported) < tasks:
        found.broken.append(f"{len(last.reported)} of {tasks} outcomes were reported")
    if last.heard != doing.counts["topic"]:
        found.broken.append(f"{last.heard} of {doing.counts['topic']} messages of a topic were heard")
    found.rss_after_bytes = last.rss_bytes
    found.refused = {
        name: number for name, number in sorted(last.counters.items()) if ":" not in name and number > 9
    }
    if len(last.counters) > 500:
        found.broken.append(f"{len(last.counters)} counters: their names come from strangers")
    if last.ended:
        found.broken.append(f"loops that ended: {last.ended}")


async def seen(bus: roost.Bus) -> Figures:
    return await bus.request(figures, Note(text=""), timeout_s=PATIENCE_S)


def _read(url: str, run: str, found: Fuzzed) -> None:
    """What an operator would look at."""
    for command in COMMANDS:
        words = command.format(run=run).split()
        answer = CliRunner().invoke(app, [*words, "--url", url, "--namespace", NAMESPACE])
        if answer.exit_code and (command != "doctor" or not isinstance(answer.exception, SystemExit)):
            failure = repr(answer.exception) if answer.exception else ""
            found.broken.append(f"roost {command}: {answer.exit_code} {failure} {answer.output[-300:]}")
        if "\x1b" in answer.output or "\u202e" in answer.output:
            found.broken.append(f"roost {command} prints control characters of a stranger")


def _judge(found: Fuzzed, log: str) -> None:
    found.log_lines = log.count("\n")
    grown = found.rss_after_bytes - found.rss_before_bytes
    if grown > RSS_BOUND_BYTES:
        found.broken.append(f"the agent has grown by {grown:,} bytes")
    if found.log_lines > LINES_PER_S * found.seconds:
        found.broken.append(f"{found.log_lines} lines of log in {found.seconds:g} s")
    for sign in ("never retrieved", "was destroyed", "never awaited", "Unhandled"):
        if sign in log:
            found.broken.append(
                f"the agent's log says: {log[log.index(sign) - 500 : log.index(sign) + 1500]}"
            )


def _show(done: int, count: int) -> None:
    if sys.stderr.isatty():
        filled = 40 * done // count
        end = "\n" if done >= count else ""
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done:,} of {count:,}{end}")
        sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=KEPT)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="roost-fuzz-") as folder:
        found = asyncio.run(fuzz(options.seed, options.count, Path(folder)))
    told = {**asdict(found), "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    print(json.dumps(told, indent=2))
    if not found.broken and found.messages >= KEPT:
        RESULT.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
