"""The roster by itself: times are given, nothing waits."""

from __future__ import annotations

from dataclasses import replace

from roost import AgentInfo, HandlerInfo
from roost.discovery.roster import MOST, Roster

DIGEST = HandlerInfo(
    kind="task",
    name="digest",
    hash="a",
    running=0,
    limit=1,
    waiting=0,
    handled=0,
    errors=0,
    texts=(("input", "{}"),),
)
ONE = AgentInfo(
    instance="w-1",
    agent="w",
    state="ready",
    version="1.0.0",
    roost="0.1.0",
    host="h",
    pid=1,
    started_s=100.0,
    interval_s=2.0,
    handlers=(DIGEST,),
    heard_s=0.0,
)


def roster() -> Roster:
    return Roster(lambda info: True)


def kinds(*told: object) -> list[str]:
    return [change.kind for changes in told for change in changes]  # type: ignore[attr-defined]


def test_who_is_heard_joins_once_and_the_same_again_is_no_change() -> None:
    here = roster()
    again = replace(ONE, heard_s=9.0)
    assert kinds(here.heard(ONE, 0), here.heard(again, 1)) == ["joined"]
    assert kinds(here.heard(replace(ONE, state="busy"), 2)) == ["changed"]


def test_an_instance_is_asked_after_one_and_a_half_intervals_and_then_once_an_interval() -> None:
    here = roster()
    here.heard(ONE, 10)
    assert here.overdue(12.9) == []
    assert here.overdue(13.0) == [ONE]
    assert here.overdue(14.9) == []
    assert here.overdue(15.0) == [ONE]


def test_an_answer_that_came_while_it_was_asked_counts() -> None:
    here = roster()
    here.heard(ONE, 0)
    (asked,) = here.overdue(5)
    here.heard(replace(ONE, heard_s=5.0), 5)
    assert here.no_answer(asked) == []


def test_who_does_not_answer_is_silent_once() -> None:
    here = roster()
    here.heard(ONE, 0)
    assert kinds(here.no_answer(*here.overdue(5))) == ["silent"]
    assert kinds(here.no_answer(*here.overdue(8))) == []
    assert kinds(here.heard(ONE, 9)) == ["changed"]


def test_nobody_there_is_the_end_of_the_one_that_was_asked_only() -> None:
    here = roster()
    here.heard(ONE, 0)
    (asked,) = here.overdue(5)
    successor = replace(ONE, started_s=200.0)
    assert kinds(here.heard(successor, 5)) == ["gone", "joined"]
    assert here.nobody_there(asked) == []
    assert kinds(here.nobody_there(successor)) == ["gone"]
    assert here.agents == ()


def test_the_goodbye_of_one_that_is_not_known_is_nothing() -> None:
    here = roster()
    assert here.heard(replace(ONE, state="left"), 0) == []
    here.heard(ONE, 0)
    assert here.heard(replace(ONE, state="left", started_s=1.0), 1) == []
    assert kinds(here.heard(replace(ONE, state="left"), 1)) == ["left"]


def test_one_that_no_longer_can_do_it_is_gone() -> None:
    here = Roster(lambda info: info.handles("digest"))
    here.heard(ONE, 0)
    assert kinds(here.heard(replace(ONE, started_s=200.0, handlers=()), 1)) == ["gone"]
    assert here.heard(replace(ONE, started_s=200.0, handlers=()), 2) == []


def test_schemas_once_learnt_are_kept_while_their_hash_holds() -> None:
    here = roster()
    here.heard(ONE, 0)
    bare = replace(ONE, handlers=(replace(DIGEST, texts=(), running=1),))
    (change,) = here.heard(bare, 1)
    assert change.agent.handlers[0].texts == DIGEST.texts
    (change,) = here.heard(replace(ONE, handlers=(replace(DIGEST, texts=(), hash="b"),)), 2)
    assert change.agent.handlers[0].texts == ()


def test_a_pardon_postpones_all_questions() -> None:
    here = roster()
    here.heard(ONE, 0)
    here.pardon(20)
    assert here.next_due() == 20
    assert here.overdue(19) == []


def test_more_instances_than_can_be_followed_are_counted() -> None:
    here = roster()
    for number in range(MOST):
        here.heard(replace(ONE, instance=f"w-{number}"), 0)
    assert here.heard(replace(ONE, instance="one-more"), 0) == []
    assert here.refused == 1
    assert len(here.agents) == MOST
