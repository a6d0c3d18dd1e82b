"""The pool: its width, its queue, and that everything put into it is handled once, or handed back at the end."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.messaging.pool import Pool

End = Literal["return", "fail", "exit", "cancelled", "cancel itself", "context"]

mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)


@dataclass(frozen=True)
class Put:
    waits: bool  # whether the handler has to be let go
    end: End  # how it ends


@dataclass(frozen=True)
class LetGo:
    index: int  # which of the running handlers


@dataclass(frozen=True)
class Turn:
    number: int  # of the loop


Step = Put | LetGo | Turn

ends = st.sampled_from(["return", "return", "fail", "exit", "cancelled", "cancel itself", "context"])
steps = st.lists(
    st.builds(Put, st.booleans(), ends)
    | st.builds(Put, st.just(True), ends)
    | st.builds(LetGo, st.integers(0, 5))
    | st.builds(Turn, st.integers(1, 3)),
    max_size=40,
)


@dataclass
class Model:
    """What the handlers saw, and in `broken` where the pool did not keep its word."""

    concurrency: int
    backlog: int
    accepted: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    running: dict[int, asyncio.Event] = field(default_factory=dict)
    plans: dict[int, Put] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def _expect(self, holds: bool, complaint: str) -> None:
        if not holds:  # an assertion would end in the pool's log
            self.broken.append(complaint)

    async def handle(self, item: int) -> None:
        plan = self.plans[item]
        self._expect(item not in self.begun, f"{item} was handled twice")
        self._expect(mark.get() == 0, f"{item} saw what another message had set")
        self.begun.append(item)
        self.running[item] = asyncio.Event()
        self._expect(len(self.running) <= self.concurrency, f"{len(self.running)} ran at once")
        finished = False
        try:
            if plan.waits:
                await self.running[item].wait()
            finished = True
            await self._end(plan.end)
        finally:
            del self.running[item]
            (self.ended if finished else self.cut).append(item)

    async def _end(self, end: End) -> None:
        if end == "fail":
            raise ValueError(end)
        if end == "exit":
            raise SystemExit(end)
        if end == "cancelled":
            raise asyncio.CancelledError
        if end == "cancel itself":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if end == "context":
            mark.set(1)

    @property
    def inside(self) -> int:
        return len(self.accepted) - len(self.ended) - len(self.cut)


async def settle() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def play(script: list[Step], model: Model, pool: Pool[int]) -> None:
    for number, step in enumerate(script):
        if isinstance(step, Put):
            model.plans[number] = step
            expected = model.inside < model.concurrency + model.backlog
            assert pool.put(number) == expected
            if expected:
                model.accepted.append(number)
        elif isinstance(step, LetGo):
            running = list(model.running.values())
            if running:
                running[step.index % len(running)].set()
        else:
            for _ in range(step.number):
                await asyncio.sleep(0)
    await settle()
    assert len(model.running) == min(model.concurrency, model.inside), "work waits although there is room"
    assert pool.running == len(model.running)
    assert pool.waiting == model.inside - pool.running


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(1, 4), st.integers(0, 5))
def test_everything_is_handled_once_and_never_more_at_once_than_stated(
    script: list[Step], concurrency: int, backlog: int
) -> None:
    async def main() -> None:
        model = Model(concurrency, backlog)
        pool = Pool(model.handle, concurrency=concurrency, backlog=backlog, name="tested")
        await play(script, model, pool)
        closing = asyncio.create_task(pool.close(60))
        await asyncio.sleep(0)
        while not closing.done():
            assert not pool.put(-1), "a closed pool takes nothing"
            for event in list(model.running.values()):
                event.set()
            await asyncio.sleep(0)
        assert closing.result() == ([], 0)
        assert sorted(model.begun) == model.accepted
        assert sorted(model.ended) == model.accepted
        assert model.broken == []

    asyncio.run(main())


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(1, 4), st.integers(0, 5))
def test_what_a_close_without_grace_cuts_off_is_handed_back(
    script: list[Step], concurrency: int, backlog: int
) -> None:
    async def main() -> None:
        model = Model(concurrency, backlog)
        pool = Pool(model.handle, concurrency=concurrency, backlog=backlog, name="tested")
        await play(script, model, pool)
        running = list(model.running)
        lost = await pool.close(0)
        assert lost.running == len(running)
        assert not model.running
        assert sorted([*lost.waiting, *model.begun]) == model.accepted
        assert sorted(model.cut) == sorted(running)
        assert model.broken == []
        assert await pool.close(0) == ([], 0)
        assert not pool.put(-1)
        assert [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}] == []

    asyncio.run(main())


async def test_items_begin_in_the_order_they_came() -> None:
    begun: list[int] = []

    async def handle(item: int) -> None:
        begun.append(item)
        if item % 3 == 0:
            await asyncio.sleep(0)

    pool = Pool(handle, concurrency=4, backlog=1000, name="tested")
    for number in range(1000):
        assert pool.put(number)
    await pool.close(10)
    assert begun == list(range(1000))


async def test_a_burst_as_wide_as_the_pool_needs_no_backlog() -> None:
    """What free workers are about to take is not waiting: a burst in one read was refused for it."""
    begun: list[int] = []

    async def handle(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(0)

    pool = Pool(handle, concurrency=8, backlog=0, name="tested")
    assert [pool.put(number) for number in range(9)] == [True] * 8 + [False]
    await pool.close(10)
    assert begun == list(range(8))


async def test_a_value_that_cannot_be_compared_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous, as arrays are")

        __hash__ = None  # type: ignore[assignment]

    odd: contextvars.ContextVar[Odd] = contextvars.ContextVar("odd")
    odd.set(Odd())
    seen: list[int] = []

    async def handle(item: int) -> None:
        odd.set(Odd())
        seen.append(item)

    pool = Pool(handle, concurrency=1, backlog=10, name="tested")
    for number in range(5):
        pool.put(number)
    await pool.close(10)
    assert seen == [0, 1, 2, 3, 4]
    assert not caplog.records


async def test_an_error_that_the_owner_let_through_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(item: int) -> None:
        raise ValueError("let through")

    pool = Pool(handle, concurrency=1, backlog=10, name="tested")
    pool.put(1)
    await pool.close(10)
    assert "tested failed outside its own error handling" in caplog.text
    assert "let through" in caplog.text


async def test_a_close_that_is_cancelled_leaves_no_handler_running() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handle(item: int) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    pool = Pool(handle, concurrency=1, backlog=10, name="tested")
    pool.put(1)
    await began.wait()
    closing = asyncio.create_task(pool.close(60))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.wait_for(ended.wait(), 1)
    assert pool.running == 0


async def test_a_handler_may_put_more() -> None:
    seen: list[int] = []

    async def handle(item: int) -> None:
        seen.append(item)
        if item < 50:
            assert pool.put(item + 1)

    pool: Pool[int] = Pool(handle, concurrency=1, backlog=1, name="tested")
    pool.put(0)
    await settle()
    await pool.close(1)
    assert seen == list(range(51))
