"""Many dead letters: counted by what killed them, and replayed at a rate, in a run that may be interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path

import pytest
from pydantic import BaseModel
from test_operator import Operator
from typer.testing import CliRunner

import roost
from roost import Agent, Bus, Reject, Retry, Task
from roost.cli.app import app
from roost.cli.units import parse_duration, parse_rate
from roost.tasks.groups import error_of
from roost.tasks.replaying import candidates, replay_each


class Page(BaseModel):
    n: int


once = Retry(attempts=1)
digest, other = Task("digest", Page, int, retry=once), Task("other", Page, int, retry=once)


def agent_of(*, broken: bool) -> Agent[None]:
    agent = Agent("digester")

    @agent.handles(digest)
    async def do(page: Page) -> int:
        if broken and page.n % 2:
            raise ValueError(f"page {page.n} of request req_8f{page.n:04} has no text")
        if broken:
            raise Reject("never")
        return page.n

    @agent.handles(other)
    async def fail(page: Page) -> int:
        raise ValueError(f"page {page.n} of request req_8f{page.n:04} has no text")

    return agent


async def die(bus: Bus, count: int) -> None:
    """As many letters of `digest`, and one of `other`."""
    async with bus.serving(agent_of(broken=True)):
        handles = await bus.submit_many(digest, [Page(n=n) for n in range(count)])
        handles.append(await bus.submit(other, Page(n=7)))
        await asyncio.gather(*(handle.outcome(timeout_s=20) for handle in handles))


async def replays(bus: Bus) -> list[float]:
    """When each replay of the log was stored, in log order; none is there twice."""
    found = [one for one in await bus.log.read_all(f"{bus.namespace}.run.*.task.*.*") if ":r" in one.subject]
    assert len({one.subject for one in found}) == len(found)
    return [one.stored_s for one in found]


async def test_letters_with_one_error_but_for_numbers_and_ids_are_one_group_of_their_contract(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await die(bus, 5)
        found = await bus.dead_groups()
        assert [(one.name, one.error, one.count, one.replayed) for one in found] == [
            ("digest", "Reject: never", 3, 0),
            ("digest", "ValueError: page # of request # has no text", 2, 0),
            ("other", "ValueError: page # of request # has no text", 1, 0),
        ]
        letters = {str(one.ref): one for one in await bus.dead_letters()}
        for group in found:
            ours = [
                one.died_s
                for one in letters.values()
                if (one.name, error_of(one)) == (group.name, group.error)
            ]
            assert (group.first_s, group.last_s) == (min(ours), max(ours))
            assert letters[str(group.example)].died_s == group.last_s
        operator = Operator(bus, nats_url, tmp_path)
        told = await operator.json("dead", "groups", "digest")
        assert [(one["group"], one["count"]) for one in told] == [(one.id, one.count) for one in found[:2]]
        listed = await operator.json("dead", "ls", "--group", found[1].id)
        assert sorted(one["input"]["n"] for one in listed) == [1, 3]


async def test_a_mass_replay_keeps_its_rate_can_be_interrupted_and_goes_on_without_doubling(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await die(bus, 24)
        operator = Operator(bus, nats_url, tmp_path)
        command = ["dead", "replay", "--task", "digest", "--url", nats_url, "--namespace", namespace]
        dry = await operator("dead", "replay", "--all", "--dry-run", "--limit", "20")
        assert "would replay 20 dead letters of digest" in dry.stderr
        assert await replays(bus) == []

        first = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("roost")),
            *command,
            "--rate=20/s",
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert first.stdout is not None
        for _ in range(8):
            await first.stdout.readline()
        first.send_signal(signal.SIGINT)
        said, complained = await first.communicate()
        done = 8 + said.count(b"replayed as")
        assert first.returncode == 130
        assert (
            f"{done} of 24 dead letters replayed; the same command goes on with the rest"
            in complained.decode()
        )
        times = await replays(bus)
        assert done <= len(times) <= done + 1 < 24, "the last one may be stored and not be told of"
        # Each was sent 50 ms after the last or later; the first takes a while to be stored, the second does not.
        assert all(later - times[0] >= (number - 1) / 20 - 0.03 for number, later in enumerate(times))

        async with bus.serving(agent_of(broken=False)):
            rest = await operator("dead", "replay", "--task", "digest", "--rate", "600/s")
            assert rest.returncode == 0, rest.stderr
        assert len(await replays(bus)) == 24
        assert Counter(one.replays for one in await bus.dead_letters(digest) if len(one.replays) != 1) == {}


async def test_a_replay_that_was_stored_and_not_noted_is_found_not_doubled(
    nats_url: str, namespace: str
) -> None:
    """As a SIGKILL between the two leaves it. And two operators at once do each letter once."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await die(bus, 6)
        chosen = [one.ref for one in await candidates(bus.log, "digest")]
        letter = (await bus.dead_letters(digest))[0]
        index = await bus.log.last(bus.log.subjects.dead(letter.ref))
        assert index is not None
        await bus.replay(digest, letter)
        await bus.log.link.jetstream.publish(bus.log.subjects.dead(letter.ref), index.data)

        async def replay_all() -> list[str]:
            return [one.note async for one in replay_each(bus.log, chosen, rate=1000)]

        notes = Counter([note for part in await asyncio.gather(replay_all(), replay_all()) for note in part])
        assert notes[""] == 5
        assert set(notes) <= {"", "it was there already", "it was replayed meanwhile"}
        assert len(await replays(bus)) == 6


def test_what_is_to_be_replayed_is_to_be_said() -> None:
    answer = CliRunner().invoke(app, ["dead", "replay"])
    assert answer.exit_code == 2
    assert "give either IDs or some of --task, --group and --all" in answer.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("1h30m", 5400), ("1.5 h", 5400), ("2d", 172_800), ("5min", 300)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text, option="--for") == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "1x", "h", "-1h", "1h-", "s30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(roost.ConfigError, match="write a duration"):
        parse_duration(text, option="--for")


def test_a_rate_is_read_or_refused() -> None:
    assert [parse_rate(text, option="--rate") for text in ("10/s", "10", "300/min", "36/h")] == [
        10,
        10,
        5,
        0.01,
    ]
    for wrong in ("", "0/s", "-1", "10/x", "/s"):
        with pytest.raises(roost.ConfigError, match="write how many"):
            parse_rate(wrong, option="--rate")
