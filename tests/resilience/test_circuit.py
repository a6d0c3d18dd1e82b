"""The states of a breaker against a naive model, with any number of calls under way at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roost.errors import ConfigError, InvalidMessage, NoResponders, Overloaded, Reject, RemoteError
from roost.resilience import BreakerPolicy, Circuit, Permit

POLICY = BreakerPolicy(
    window_s=10,
    minimum_calls=4,
    failure_rate=0.5,
    slow_call_s=3,
    slow_call_rate=0.75,
    open_s=4,
    open_cap_s=20,
)
SECONDS = st.sampled_from((0.0, 0.25, 0.5, 1.0, 1.0, 3.0, 9.5, 10.0, 25.0))


@dataclass(eq=False)
class Under:
    """A call under way, as the model sees it."""

    permit: Permit
    begun: float
    generation: int
    probe: bool


class Model(RuleBasedStateMachine):
    """All that ended is kept in a list, and counted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.jitter = itertools.cycle((0.0, 0.5, 0.9, 0.2))
        self.drawn = itertools.cycle((0.0, 0.5, 0.9, 0.2))
        self.real = Circuit(POLICY, lambda: next(self.jitter))
        self.state = "closed"
        self.generation = 0
        self.ended: list[tuple[float, bool, bool]] = []  # when, failed, slow
        self.calls: list[Under] = []
        self.until = 0.0
        self.fails_in_a_row = 0
        self.probe: Under | None = None

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 12))
    def calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.call_begins()

    def call_begins(self) -> None:
        may = self.state == "closed"
        if self.state == "open" and self.now >= self.until:
            self.state = "half_open"
        if self.state == "half_open":
            lost = self.probe is not None and self.now - self.probe.begun >= POLICY.open_cap_s
            may = self.probe is None or lost
        assert self.real.would_admit(self.now) == may
        permit = self.real.admit(self.now)
        assert (permit is not None) == may
        if permit is None:
            return
        call = Under(permit, self.now, self.generation, self.state == "half_open")
        if call.probe:
            self.probe = call
        self.calls.append(call)

    @rule(data=st.data(), failed=st.booleans())
    def call_ends(self, data: st.DataObject, failed: bool) -> None:
        if not self.calls:
            return
        call = data.draw(st.sampled_from(self.calls))
        self.calls.remove(call)
        took_s = self.now - call.begun
        self.real.reported(call.permit, self.now, took_s, "it broke" if failed else "")
        if self.probe is call:
            self.probe = None
        if call.generation != self.generation:
            return
        slow = took_s >= 3
        if self.state == "half_open":
            if failed or slow:
                self.fails_in_a_row += 1
                self.open()
            else:
                self.state, self.fails_in_a_row = "closed", 0
                self.begin()
            return
        self.ended.append((self.now, failed, slow))
        tenth = int(self.now // 1)
        recent = [one for one in self.ended if int(one[0] // 1) > tenth - 10]
        if len(recent) >= 4 and (
            sum(one[1] for one in recent) * 2 >= len(recent)
            or sum(one[2] for one in recent) * 4 >= 3 * len(recent)
        ):
            self.open()

    @rule(data=st.data())
    def call_is_cancelled(self, data: st.DataObject) -> None:
        if not self.calls:
            return
        call = data.draw(st.sampled_from(self.calls))
        self.calls.remove(call)
        self.real.released(call.permit)
        if self.probe is call:
            self.probe = None

    @rule(data=st.data())
    def call_is_never_heard_of_again(self, data: st.DataObject) -> None:
        if self.calls:
            self.calls.remove(data.draw(st.sampled_from(self.calls)))

    def open(self) -> None:
        self.state = "open"
        longest = min(20.0, 4.0 * 2**self.fails_in_a_row)
        self.until = self.now + longest * (0.5 + next(self.drawn) / 2)
        self.begin()

    def begin(self) -> None:
        self.generation += 1
        self.ended.clear()
        self.probe = None

    @invariant()
    def both_agree(self) -> None:
        assert self.real.state == self.state
        if self.state == "open":
            assert self.real.probe_at == self.until
        assert all(self.real.holds(one.permit) == (one.generation == self.generation) for one in self.calls)

    @invariant()
    def one_probe_at_most_is_awaited(self) -> None:
        young = [one for one in self.calls if one.probe and one.generation == self.generation]
        assert len([one for one in young if self.now - one.begun < POLICY.open_cap_s]) <= 1

    @invariant()
    def it_is_never_shut_for_longer_than_the_cap(self) -> None:
        assert self.real.would_admit(self.now + POLICY.open_cap_s)


TestAgainstTheModel = Model.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def opened(policy: BreakerPolicy = POLICY) -> Circuit:
    circuit = Circuit(policy, lambda: 0.0)
    for _ in range(policy.minimum_calls):
        permit = circuit.admit(0)
        assert permit is not None
        circuit.reported(permit, 0, 0.1, "it broke")
    assert circuit.state == "open"
    return circuit


def test_of_ten_that_ask_at_once_when_half_open_one_goes_through() -> None:
    circuit = opened()
    assert [circuit.admit(2) is not None for _ in range(10)] == [True] + [False] * 9
    assert circuit.state == "half_open"


def test_what_began_before_it_opened_cannot_close_it() -> None:
    circuit = Circuit(POLICY, lambda: 0.0)
    early = [circuit.admit(0) for _ in range(8)]
    for permit in early[:4]:
        assert permit is not None
        circuit.reported(permit, 0, 0.1, "it broke")
    probe = circuit.admit(2)
    assert probe is not None
    for permit in early[4:]:
        assert permit is not None
        circuit.reported(permit, 3, 3.0)
    states = [str(circuit.state)]
    circuit.reported(probe, 3, 1.0)
    assert [*states, circuit.state] == ["half_open", "closed"]


@pytest.mark.parametrize(("later", "state"), [(9.9, "open"), (10.0, "closed")])
def test_what_is_older_than_the_window_is_forgotten(later: float, state: str) -> None:
    circuit = Circuit(POLICY, lambda: 0.0)
    for now in (0.0, 0.0, later, later):
        permit = circuit.admit(now)
        assert permit is not None
        circuit.reported(permit, now, 0.1, "it broke")
    assert circuit.state == state


def test_a_slow_probe_is_no_success() -> None:
    circuit = opened()
    probe = circuit.admit(2)
    assert probe is not None
    circuit.reported(probe, 5, 3.0)
    assert (circuit.state, circuit.reason) == ("open", "its probe took 3 s")


def test_each_failed_probe_doubles_the_wait_up_to_the_cap() -> None:
    circuit, now = opened(), 0.0
    waits = []
    for _ in range(5):
        waits.append(circuit.probe_at - now)
        now = circuit.probe_at
        probe = circuit.admit(now)
        assert probe is not None
        circuit.reported(probe, now, 0.1, "it broke")
    assert waits == [2, 4, 8, 10, 10]  # the lower end of each: the random number is 0


def test_what_counts_is_the_other_sides_failure() -> None:
    policy = BreakerPolicy(never_on=(KeyError,))
    assert all(map(policy.counts, (ValueError(), TimeoutError(), NoResponders("a"), Overloaded(subject="a"))))
    assert policy.counts(RemoteError("failed", "it broke", subject="a"))
    for mistake in (
        Reject("no"),
        InvalidMessage(subject="a", field="", reason="no"),
        ConfigError("no"),
        KeyError(),
        RemoteError("invalid", "no", subject="a"),
        RemoteError("rejected", "no", subject="a"),
        KeyboardInterrupt(),
    ):
        assert not policy.counts(mistake)
    assert not BreakerPolicy(failures_on=(OSError,)).counts(ValueError())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window_s", 0),
        ("minimum_calls", 0),
        ("minimum_calls", 2.5),
        ("failure_rate", 0),
        ("failure_rate", 1.1),
        ("slow_call_s", -1),
        ("slow_call_rate", float("nan")),
        ("open_s", float("inf")),
        ("open_cap_s", 1),
        ("failures_on", ValueError),
        ("never_on", ("ValueError",)),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"BreakerPolicy: {field} = "):
        BreakerPolicy(**{field: value})  # type: ignore[arg-type]
