"""Each line of the printed permissions is needed: without it the start fails and names the subject.

One server has, beside each agent's own user, one user for each line, who lacks that line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import team
from security_kit import (
    SOON_S,
    ConfiguredServer,
    as_user,
    lines_of,
    provisioned,
    server_for,
    users_of,
    without,
)

import roost
from roost.permissions import ANSWERS, OWN, Rights, User


def only_asks(user: User) -> Rights:
    """Nothing but to ask what it may do."""
    inbox = f"{user.inbox}.>"
    return Rights(publish={OWN: "start"}, subscribe={inbox: "answers"})


AGENTS = {one.name: one for one in (team.packer, team.planner, team.clerk)}
FULL = {one.name: one for one in users_of(*AGENTS.values())}
CASES = [
    (name, action, subject)
    for name, user in FULL.items()
    for action, subject in lines_of(user.rights)
    if subject != OWN
]
LESS = {
    (name, action, subject): without(FULL[name], action, subject, f"{name}-{number}")
    for number, (name, action, subject) in enumerate(CASES)
}
BLIND = {name: without(user, "publish", OWN, f"{name}-blind") for name, user in FULL.items()}
NOTHING = [
    User(name=f"{name}-nothing", does="nothing", rights=only_asks(user)) for name, user in FULL.items()
]
CALLER = users_of(*AGENTS.values(), team.approve, roles=["caller"])[0]
TURN = "shop.run.*.task.serve_in_turn.*.*.*"
UNTOLD = without(BLIND["packer"], "publish", TURN, "packer-untold")
BEHIND = {
    "shop.run.*.queue.serve_in_turn.*.*": (team.serve_in_turn, "place in the queue of its order key"),
    "shop.run.*.deadline.pack.*.*": (team.pack, "deadline"),
}
USES = [one for one in CALLER.rights.publish if one.startswith(("shop.", "branches."))]
LESS_CALLER = {one: without(CALLER, "publish", one, f"caller-{number}") for number, one in enumerate(USES)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [*FULL.values(), *LESS.values(), *BLIND.values(), UNTOLD, *NOTHING, CALLER, *LESS_CALLER.values()]
    with server_for(tmp_path_factory.mktemp("server"), [*users, *users_of(roles=["admin"])]) as running:
        asyncio.run(provisioned(running, [one.job for one in (*AGENTS.values(), team.keeper)]))
        yield running


async def refusal(server: ConfiguredServer, user: str, agent: str) -> roost.PermissionDenied:
    """How the start of an agent ends as a user who lacks something."""
    async with roost.connect(
        server.url,
        namespace="shop",
        credentials=roost.Credentials(user=user, password="pw"),
        inbox_prefix=f"_INBOX_{agent}",
    ) as bus:
        with pytest.raises(roost.PermissionDenied) as denied:
            async with bus.serving(AGENTS[agent], grace_s=0):
                pytest.fail("it started")
    return denied.value


def as_it_is_said(subject: str, said: str) -> bool:
    """Whether a line of the block is what an error names: there the instance stands where the block has `*`."""
    words, others = subject.split("."), said.split(".")
    return len(words) == len(others) and all(
        word == other or word == "*" for word, other in zip(words, others, strict=True)
    )


@pytest.mark.parametrize(("agent", "action", "subject"), CASES)
async def test_a_start_without_one_permission_names_it(
    server: ConfiguredServer, agent: str, action: str, subject: str
) -> None:
    inbox = f"_INBOX_{agent}.>"
    error = await refusal(server, LESS[agent, action, subject].name, agent)
    if subject == inbox:  # nothing can be asked then: the request for its permissions says so itself
        assert error.subject.startswith(f"_INBOX_{agent}.")
    elif subject == ANSWERS:
        assert error.missing == ((ANSWERS, "publish"),)
    else:
        assert [(as_it_is_said(subject, said), verb) for said, verb in error.missing] == [(True, action)]
        assert error.subject in str(error)


@pytest.mark.parametrize("agent", list(FULL))
async def test_a_start_without_any_permission_lists_all_of_them(server: ConfiguredServer, agent: str) -> None:
    error = await refusal(server, f"{agent}-nothing", agent)
    wanted = [line for line in lines_of(FULL[agent].rights) if line[1] not in (OWN, f"_INBOX_{agent}.>")]
    assert len(error.missing) == len(wanted)
    for (action, subject), (said, verb) in zip(wanted, error.missing, strict=True):
        assert as_it_is_said(subject, said), (subject, said)
        assert verb == action
        assert repr(said) in str(error)


@pytest.mark.parametrize("agent", list(FULL))
async def test_who_may_not_ask_for_its_permissions_starts_and_is_told_later(
    server: ConfiguredServer, agent: str
) -> None:
    async with roost.connect(
        server.url,
        namespace="shop",
        credentials=roost.Credentials(user=BLIND[agent].name, password="pw"),
        inbox_prefix=f"_INBOX_{agent}",
    ) as bus:
        async with bus.serving(AGENTS[agent], grace_s=0):
            assert bus.counters["permissions_unknown"] == 1


@pytest.mark.parametrize("agent", list(FULL))
async def test_with_all_of_them_it_starts(server: ConfiguredServer, agent: str) -> None:
    async with as_user(server, agent) as bus, bus.serving(AGENTS[agent], grace_s=0):
        assert bus.counters["permission_denied"] == 0


@pytest.mark.parametrize("subject", USES)
async def test_a_callers_call_without_its_permission_fails_at_once_and_names_it(
    server: ConfiguredServer, subject: str
) -> None:
    denied = asyncio.Event()
    said: list[str] = []

    def watch(event: roost.Event) -> None:
        if event.kind == "permission_denied":
            said.append(event.reason or event.subject)
            denied.set()

    async with roost.connect(
        server.url,
        namespace="shop",
        credentials=roost.Credentials(user=LESS_CALLER[subject].name, password="pw"),
        inbox_prefix="_INBOX_caller",
        watch=watch,
    ) as bus:
        if subject == "branches.*.news":  # nothing waits for an answer to that
            await everything(bus)
        else:
            with pytest.raises(roost.PermissionDenied) as error:
                await everything(bus)
            assert as_it_is_said(subject, error.value.subject)
        async with asyncio.timeout(5):
            await denied.wait()
        assert as_it_is_said(subject, said[0].removeprefix("publish "))


@pytest.mark.parametrize("subject", list(BEHIND))
async def test_a_task_whose_turn_or_deadline_may_not_be_stored_is_said_to_be_stored(
    server: ConfiguredServer, subject: str
) -> None:
    """The caller was told that nothing was delivered, and the task ran."""
    task, what = BEHIND[subject]
    async with roost.connect(
        server.url,
        namespace="shop",
        credentials=roost.Credentials(user=LESS_CALLER[subject].name, password="pw"),
        inbox_prefix="_INBOX_caller",
    ) as bus:
        with pytest.raises(roost.PermissionDenied) as error:
            await bus.submit(task, team.Order(n=4), key="half")
    said = str(error.value)
    assert f"Task '{task.name}:half' is stored and will run; only its {what} is not" in said
    assert "Nothing was delivered" not in said
    async with as_user(server, "caller") as caller, as_user(server, "packer") as packer:
        handle = await caller.submit(task, team.Order(n=4), key="half")
        assert handle.created is False
        async with packer.serving(team.packer, grace_s=1):
            assert (await handle.result(timeout_s=SOON_S)).n == 4


async def test_a_worker_that_may_not_give_a_turn_says_so_and_asks_less_and_less_often(
    server: ConfiguredServer,
) -> None:
    """Each second it handed the task back because "nothing was delivered". It could not ask what it may do."""
    reasons: list[str] = []
    twice = asyncio.Event()

    def watch(event: roost.Event) -> None:
        if event.kind == "task_handed_back" and event.subject == "serve_in_turn:turn":
            reasons.append(event.reason)
            if len(reasons) == 2:
                twice.set()

    async with (
        as_user(server, "caller") as caller,
        roost.connect(
            server.url,
            namespace="shop",
            credentials=roost.Credentials(user=UNTOLD.name, password="pw"),
            inbox_prefix="_INBOX_packer",
            watch=watch,
        ) as bus,
    ):
        handle = await caller.submit(team.serve_in_turn, team.Order(n=6, customer="bo"), key="turn")
        async with bus.serving(team.packer, grace_s=0), asyncio.timeout(SOON_S):
            await twice.wait()
        async with as_user(server, "packer") as packer, packer.serving(team.packer, grace_s=1):
            assert (await handle.result(timeout_s=SOON_S)).n == 6
    first, second = reasons
    assert "user may not publish on 'shop.run.serve_in_turn::" in first
    assert "Nothing was delivered" not in first
    assert "again in 1 s" in first
    assert "again in 2 s" in second


async def first_of(bus: roost.Bus, instance: str | None) -> team.Total:
    async with bus.stream(team.tail, team.Order(n=1), instance=instance) as chunks:
        return await anext(chunks)


async def everything(bus: roost.Bus) -> None:
    """One use of each permission of the caller; nobody serves, so requests say that."""
    order = team.Order(n=1)
    await bus.publish(team.news.at(branch="north"), team.News(text="x"))
    await bus.link.client.flush()
    for task in (team.pack, team.serve_in_turn):
        await bus.submit(task, order)
    run = await bus.start(team.plan, order)
    await bus.signal(run.id, team.approve, order)
    for instance in (None, "packer-1"):
        with pytest.raises(roost.NoResponders):
            await bus.request(team.price, order, instance=instance)
        with pytest.raises(roost.NoResponders):
            await first_of(bus, instance)
    with pytest.raises(roost.NoResponders):
        async for _ in bus.ask_all(team.price, order):
            pass
