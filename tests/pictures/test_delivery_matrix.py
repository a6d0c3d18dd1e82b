"""The delivery matrix: each cell is what arrived, and what differs from the server's word is seen and said."""

from __future__ import annotations

import asyncio
from typing import Any
from xml.etree import ElementTree

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roost
from roost import ConfigError, DeliveryMatrix, Explanation, Receiver, delivery_matrix
from roost.pictures._timeline_text import cells

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script> & "quotes" \x1b[31m \x00 ]]> \u202e end'
BOARD, ALL, ONE = "a.*.status", "a.>", "a.w1.status"
NAMES = {"board": BOARD, "all": ALL, "one": ONE}


def said(subject: str, *receivers: tuple[str, str] | tuple[str, str, str]) -> Explanation:
    """Of (client, pattern) or (client, pattern, queue group)."""
    found = [
        Receiver(
            client=client, client_id=number, server="n", pattern=pattern, queue="".join(queue), account="$G"
        )
        for number, (client, pattern, *queue) in enumerate(receivers)
    ]
    return Explanation(subject=subject, streams=(), receivers=tuple(found), account="$G", servers=("n",))


def drawn(picture: DeliveryMatrix) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg())


def count(root: ElementTree.Element, name: str) -> int:
    """How many elements of a class, without those of the legend."""
    parents = {child: parent for parent in root.iter() for child in parent}
    found = [one for one in root.iter() if name in (one.get("class") or "").split()]
    return sum(not (parents[one].get("transform") or "").startswith("translate") for one in found)


def words(root: ElementTree.Element) -> str:
    return " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


def test_all_as_the_server_said() -> None:
    arrived = [("a.w1.status", name) for name in NAMES] + [("a.boss.command", "all")]
    explained = [
        said("a.w1.status", ("me", BOARD), ("me", ALL), ("me", ONE)),
        said("a.boss.command", ("me", ALL)),
    ]
    picture = delivery_matrix(NAMES, ["a.w1.status", "a.boss.command"], arrived, explained)
    assert picture.agrees
    assert picture.differences == ()
    root = drawn(picture)
    assert (count(root, "done"), count(root, "cross"), count(root, "failed")) == (4, 0, 0)
    assert "all as the server said" in words(root)
    lines = picture.text().splitlines()
    assert lines[4].split() == ["a.w1.status", "●", "●", "●", "agrees"]
    assert lines[5].split() == ["a.boss.command", "·", "●", "·", "agrees"]


def test_what_is_missing_and_what_is_too_much_is_marked_and_listed() -> None:
    arrived = [
        ("a.w1.status", "board"),
        ("a.w1.status", "one"),
        ("a.w1.status", "one"),
        ("a.x", "board"),
        ("a.x", "all"),
    ]
    explained = [said("a.w1.status", ("me", BOARD), ("me", ALL), ("me", ONE)), said("a.x", ("me", ALL))]
    picture = delivery_matrix(NAMES, ["a.w1.status", "a.x"], arrived, explained)
    assert not picture.agrees
    assert picture.differences == (
        "a.w1.status: all got nothing, though the server named it.",
        "a.w1.status: one got it 2 times, though it was sent once.",
        "a.x: board got it once, though the server did not name it.",
    )
    root = drawn(picture)
    assert (count(root, "done"), count(root, "cross"), count(root, "failed")) == (2, 1, 2)
    for one in picture.differences:
        assert one in words(root)
        assert f"differs: {one}" in picture.text()
    assert all(cells(line) <= 40 for line in picture.text(10).splitlines())
    assert "3 differences" in repr(picture)


WORKERS = {"w1": "tasks", "w2": "tasks", "w3": "tasks"}


@pytest.mark.parametrize(
    ("got", "differs"),
    [
        ([4, 2, 0], ""),
        ([0, 0, 6], ""),
        ([3, 2, 0], "queue group crew got it 5 times, though it was sent 6 times"),
        ([0, 0, 0], "queue group crew got nothing, though the server named it"),
        ([4, 3, 0], "queue group crew got it 7 times, though it was sent 6 times"),
    ],
)
@pytest.mark.parametrize("clients", [["w1", "w2", "w3"], ["me"]])
def test_one_member_of_a_queue_group_suffices(got: list[int], differs: str, clients: list[str]) -> None:
    arrived = [("tasks", f"w{at + 1}") for at, number in enumerate(got) for _ in range(number)]
    explained = [said("tasks", *((one, "tasks", "crew") for one in clients))]
    picture = delivery_matrix(WORKERS, ["tasks"] * 6, arrived, explained)
    assert picture.agrees is not bool(differs)
    assert picture.differences == ((f"tasks: {differs}.",) if differs else ())
    assert "queue crew" in words(drawn(picture))


def test_a_member_that_is_not_in_the_picture_may_have_got_it() -> None:
    explained = [said("tasks", *((one, "tasks", "crew") for one in ("w1", "w2", "w3", "elsewhere")))]
    picture = delivery_matrix(WORKERS, ["tasks"], [], explained)
    assert picture.agrees
    assert "Besides, the server named 1 subscription that is not in this picture." in words(drawn(picture))


def test_one_connection_with_and_without_a_queue_group() -> None:
    names = {"w1": ("tasks", "crew"), "w2": ("tasks", "crew"), "audit": ("tasks", "")}
    explained = [said("tasks", ("me", "tasks"), ("me", "tasks", "crew"))]
    arrived = [("tasks", "w2"), ("tasks", "audit")]
    assert delivery_matrix(names, ["tasks"], arrived, explained).agrees
    assert not delivery_matrix(names, ["tasks"], arrived[:1], explained).agrees


def test_a_worker_that_the_server_no_longer_names() -> None:
    explained = [said("tasks", ("w1", "tasks", "crew"), ("w2", "tasks", "crew"))]
    picture = delivery_matrix(WORKERS, ["tasks"] * 2, [("tasks", "w1"), ("tasks", "w3")], explained)
    assert "tasks: w3 got it once, though the server did not name it." in picture.differences


def test_without_explanations_nothing_is_said_to_agree() -> None:
    picture = delivery_matrix(NAMES, ["a.w1.status", "a.x"], [("a.x", "all")], [said("a.x", ("me", ALL))])
    assert not picture.agrees
    assert picture.differences == ()
    assert "1 of 2 subjects checked" in picture.text()
    assert "not checked" in words(drawn(picture))
    assert "not checked against the server" in delivery_matrix(NAMES, ["a.x"], []).text()
    assert not delivery_matrix({}, [], []).agrees
    assert "No messages" in words(drawn(delivery_matrix({}, [], [])))


@pytest.mark.parametrize(
    ("subscriptions", "messages", "arrived", "named"),
    [
        (NAMES, ["a.x"], [("a.y", "all")], "a.y"),
        (NAMES, ["a.x"], [("a.x", "other")], "other"),
        (NAMES, "a.x", [], "a.x"),
        ({"all": 5}, ["a.x"], [], "all"),
    ],
)
def test_what_is_not_listed_is_refused(subscriptions: Any, messages: Any, arrived: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        delivery_matrix(subscriptions, messages, arrived)


def test_very_many_are_counted_and_those_that_differ_are_shown() -> None:
    names = {f"subscriber-{number}": f"fleet.{number}.>" for number in range(50)}
    messages = [f"fleet.{number % 50}.m{number}" for number in range(200)]
    explained = [said(one, ("me", f"fleet.{one.split('.')[1]}.>")) for one in messages]
    arrived = [(one, f"subscriber-{one.split('.')[1]}") for one in messages[:-1]]
    picture = delivery_matrix(names, messages, arrived, explained)
    root = drawn(picture)
    assert "and 140 more subjects" in words(root)
    assert messages[-1] in [one.text for one in root.iter(f"{SVG}text")], "its own row"
    assert all(cells(line) <= 60 for line in picture.text(60).splitlines())
    wide = float(root.get("width") or 0)
    assert all(float(one.get("x") or 0) <= wide for one in root.iter(f"{SVG}text"))


def test_foreign_text_stays_text() -> None:
    picture = delivery_matrix(
        {EVIL: EVIL}, [EVIL], [(EVIL, EVIL)], [said(EVIL, (EVIL, EVIL, EVIL))], title=EVIL
    )
    root = drawn(picture)
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    for shown in (picture.text(), picture.svg(), repr(picture)):
        assert not [one for one in shown if not one.isprintable() and one != "\n"]


numbers = st.integers(0, 3)


@given(
    st.lists(st.tuples(numbers, numbers)), st.sets(st.tuples(numbers, numbers)), st.lists(numbers, max_size=6)
)
def test_it_agrees_exactly_when_each_cell_does(
    deliveries: list[tuple[int, int]], named: set[tuple[int, int]], messages: list[int]
) -> None:
    names = {f"s{number}": f"p{number}" for number in range(4)}
    arrived = [(f"m{row}", f"s{column}") for row, column in deliveries if row in messages]
    explained = [
        said(f"m{row}", *((f"s{at}", f"p{at}") for at in range(4) if (row, at) in named))
        for row in set(messages)
    ]
    picture = delivery_matrix(names, [f"m{row}" for row in messages], arrived, explained)

    def due(row: int, column: int) -> int:
        return messages.count(row) if (row, column) in named else 0

    wrong = [
        (row, column)
        for row in set(messages)
        for column in range(4)
        if arrived.count((f"m{row}", f"s{column}")) != due(row, column)
    ]
    assert len(picture.differences) == len(wrong)
    assert picture.agrees == (bool(messages) and not wrong)
    drawn(picture)
    for line in picture.text(60).splitlines():
        assert cells(line) <= 60


async def test_what_arrives_on_a_real_server_is_what_it_explains(nats_url: str, namespace: str) -> None:
    names = {"board": f"{namespace}x.*.status", "all": f"{namespace}x.>", "one": f"{namespace}x.w1.status"}
    crew = {"w1": (f"{namespace}x.*.task", "crew"), "w2": (f"{namespace}x.*.task", "crew")}
    messages = [
        f"{namespace}x.{one}" for one in ("w1.status", "w2.status", "boss.command", "w1.task", "w1.task")
    ]
    listed: dict[str, str | tuple[str, str]] = {**names, **crew}
    arrived: list[tuple[str, str]] = []
    news = asyncio.Event()

    def heard(name: str) -> Any:
        async def one(message: Any) -> None:
            arrived.append((message.subject, name))
            news.set()

        return one

    client = await nats.connect(nats_url.split(",")[0])
    try:
        async with roost.connect(nats_url.split(",")[0], namespace=namespace) as bus:
            for name, pattern in names.items():
                await client.subscribe(pattern, cb=heard(name))
            for name, (pattern, queue) in crew.items():
                await client.subscribe(pattern, queue, cb=heard(name))
            await client.flush()
            async with asyncio.timeout(10):
                explained = [await bus.explain(one) for one in dict.fromkeys(messages)]
                for subject in messages:
                    await client.publish(subject)
                while len(arrived) < 3 + 2 + 1 + 2 * 2:
                    news.clear()
                    await news.wait()
    finally:
        await client.close()
    picture = delivery_matrix(listed, messages, arrived, explained)
    assert picture.agrees, picture.text()
    assert not delivery_matrix(listed, messages, arrived[1:], explained).agrees
