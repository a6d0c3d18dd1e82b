"""Slots, and who holds one."""

from __future__ import annotations

import asyncio

from roost.runs.activity import Activity
from roost.runs.slots import Slots


def nothing() -> None:
    pass


async def test_slots_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    slots = Slots(1, nothing)
    order: list[int] = []

    async def use(number: int) -> None:
        await slots.take()
        order.append(number)
        slots.give()

    await slots.take()
    users = [asyncio.ensure_future(use(n)) for n in range(5)]
    await asyncio.sleep(0)
    assert slots.free == -5
    slots.give()
    await asyncio.gather(*users)
    assert order == [0, 1, 2, 3, 4]
    assert slots.free == 1


async def test_a_wait_that_is_cancelled_loses_no_slot() -> None:
    slots = Slots(1, nothing)
    await slots.take()
    first, second = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
    await asyncio.sleep(0)
    slots.give()  # it is the first one's turn now, and at this moment it is cancelled
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert not second.cancelled()
    third = asyncio.ensure_future(slots.take())
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.wait([third])
    slots.give()
    assert slots.free == 1


async def test_who_waits_for_the_log_holds_no_slot_and_a_step_gets_it_back() -> None:
    slots = Slots(1, nothing)
    await slots.take()
    one = Activity(slots, nothing)
    one.wait_begins()
    assert one.waiting
    assert slots.free == 1
    await slots.take()
    other = Activity(slots, nothing)
    one.wait_ends()
    step = asyncio.ensure_future(one.step_begins())
    await asyncio.sleep(0)
    assert not step.done(), "two workflows are at work, and there is one slot"
    other.close()
    await step
    one.step_ends()
    one.close()
    assert slots.free == 1


async def test_steps_side_by_side_need_one_slot_and_keep_it_until_the_last_has_ended() -> None:
    slots = Slots(1, nothing)
    await slots.take()
    activity = Activity(slots, nothing)
    activity.wait_begins()
    await asyncio.gather(activity.step_begins(), activity.step_begins())
    assert slots.free == 0
    activity.step_ends()
    assert slots.free == 0
    activity.step_ends()
    assert slots.free == 1, "what is left of this workflow waits"


async def test_a_step_that_gets_its_slot_after_the_end_gives_it_back() -> None:
    slots = Slots(1, nothing)
    await slots.take()
    activity = Activity(slots, nothing)
    activity.wait_begins()
    await slots.take()
    late = asyncio.ensure_future(activity.step_begins())
    await asyncio.sleep(0)
    activity.close()
    slots.give()
    await late
    assert slots.free == 1
