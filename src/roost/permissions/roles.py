"""What each role needs: from an agent's contracts to the subjects that its process really uses. Pure.

Too little, and work stops in the middle of a night; too much, and a worker that was taken over rewrites what others
did. So the list is made by code from the contracts, next to the subjects that the rest of the code uses, and tests
run every role with exactly this on a real server, and with each line left out.

What subjects cannot tell apart stays undivided (`docs/decisions/016…`): whoever reads records of a namespace may read
all of them, and a worker of a contract may write outcomes of that contract in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from roost.contracts import Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.discovery.micro import PREFIX, VERBS
from roost.discovery.names import beat_subject
from roost.errors import ConfigError
from roost.permissions.rights import Rights, overlap
from roost.subjects import endpoint_subject, every_subject, token
from roost.tasks.provision import Reported, consumer_name, consumer_of_fired, timetable_stream
from roost.tasks.records import Subjects
from roost.tasks.references import about_any, allows_large, chunks_of, objects_stream

Served: TypeAlias = (
    "Task[Any, Any] | Workflow[Any, Any] | Endpoint[Any, Any] | StreamEndpoint[Any, Any] | Topic[Any]"
)
Called: TypeAlias = "Served | Signal[Any]"

OWN = "$SYS.REQ.USER.INFO"
"""On which the server tells a user what that user may do."""
SERVING = ("worker", "coordinator", "reporter")
"""Roles of agents; an agent has those that its handlers make."""
ROLES = (*SERVING, "caller", "observer", "admin")
DAY_S = 86_400
"""A request may take a day, and so may its answer."""
SOON_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one agent does, as far as permissions are concerned."""

    agent: str
    handles: tuple[Served, ...] = ()
    reports: tuple[Reported, ...] = ()
    calls: tuple[Called, ...] = ()
    """What its handlers submit, ask, publish and signal."""
    pauses: tuple[str, ...] = ()
    """Names of the tasks that its circuit breakers pause."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The serving roles that it has."""
        workflows = [isinstance(one, Workflow) for one in self.handles]
        has = {"worker": not all(workflows), "coordinator": any(workflows), "reporter": bool(self.reports)}
        return tuple(role for role in SERVING if has[role])


def inbox_of(user: str) -> str:
    """The prefix of a user's private inboxes. Raises UnsafeToken."""
    return f"_INBOX_{token(user, name='user')}"


def serving(job: Job, namespace: str, inbox: str, *, instance: str = "*") -> Rights:
    """What a process needs that serves an agent."""
    subjects, needs = Subjects(namespace), _Needs(inbox)
    for one in job.handles:
        if isinstance(one, Task):
            _works(needs, subjects, one)
        elif isinstance(one, Workflow):
            _coordinates(needs, subjects, one)
        elif isinstance(one, Topic):
            needs.subscribe(f"topic {one.name}", one.template.wildcard)
        else:
            _answers(needs, namespace, one, instance)
    for name in job.pauses:
        pause = f"$JS.API.CONSUMER.PAUSE.{subjects.stream}.{consumer_name(name)}"
        needs.publish(f"breaker of task {name}", pause)
    for report in job.reports:  # an outcome comes with its delivery: only a large one is read
        needs.publish("the log", f"$JS.API.STREAM.INFO.{subjects.stream}")
        _consumes(needs, subjects, report.durable, f"report of {report.name}")
        if report.large:
            _reads_objects(needs, subjects)
    _is_there(needs, namespace, job.agent, instance)
    within = all(isinstance(one, Workflow) for one in job.handles)
    for called in job.calls:
        _calls(needs, subjects, called, within_a_run=within)
    return needs.all()


def calling(contracts: Sequence[Called], namespace: str, inbox: str) -> Rights:
    """What a program needs that submits, asks, publishes and signals, and waits for what comes of it."""
    subjects, needs = Subjects(namespace), _Needs(inbox)
    for one in contracts:
        _calls(needs, subjects, one, within_a_run=False)
    return needs.all()


def observing(namespace: str, inbox: str) -> Rights:
    """What somebody needs who reads the log and sees who is there, and changes nothing."""
    subjects, needs = Subjects(namespace), _Needs(inbox)
    _reads(needs, subjects)
    _reads_objects(needs, subjects)
    needs.publish("the log", f"$JS.API.CONSUMER.INFO.{subjects.stream}.*")
    needs.subscribe("the live feed", f"{subjects.live}>")
    needs.subscribe("heartbeats", beat_subject(namespace, "*", "*"))
    for verb in VERBS:
        needs.publish("who is there", f"{PREFIX}.{verb}", f"{PREFIX}.{verb}.>")
    return needs.all()


def administering(namespace: str, inbox: str) -> Rights:
    """What somebody needs who makes the log and its consumers, pauses those, cancels, signals, forks, replays, and
    defines schedules.

    A purge names what it removes in its payload, where no permission reaches: it may remove all of the log.
    """
    subjects, needs = Subjects(namespace), _Needs(inbox)
    stream = subjects.stream
    _reads(needs, subjects)
    _reads_objects(needs, subjects)
    objects = objects_stream(namespace)
    needs.publish("provision", *(f"$JS.API.STREAM.{verb}.{objects}" for verb in ("CREATE", "UPDATE")))
    needs.publish("fork, replay", chunks_of(namespace, ">"), about_any(namespace))
    needs.publish("provision", *(f"$JS.API.STREAM.{verb}.{stream}" for verb in ("CREATE", "UPDATE")))
    needs.publish("provision", f"$JS.API.CONSUMER.CREATE.{stream}.>")
    needs.publish("provision", f"$JS.API.CONSUMER.INFO.{stream}.*")
    needs.publish("pause", f"$JS.API.CONSUMER.PAUSE.{stream}.*")
    needs.publish("cancel", f"$JS.API.STREAM.PURGE.{stream}", f"{namespace}.cancel.>")
    needs.publish("cancel, signal, fork, replay", f"{namespace}.run.>")
    needs.subscribe("the live feed", f"{subjects.live}>")
    needs.publish("status", "$JS.API.INFO")
    timetable = timetable_stream(namespace)
    needs.publish("provision", *(f"$JS.API.STREAM.{verb}.{timetable}" for verb in ("CREATE", "UPDATE")))
    needs.publish("provision", f"$JS.API.CONSUMER.CREATE.{timetable}.>")
    return needs.all() | scheduling(namespace, inbox)


class _Needs:
    """Collects subjects, each with its reason."""

    def __init__(self, inbox: str) -> None:
        self._publish: dict[str, str] = {}
        self._subscribe: dict[str, str] = {}
        self._answers = 0
        self._answers_s = 0
        self.publish("start", OWN)
        self.subscribe("answers", f"{inbox}.>")

    def publish(self, why: str, *subjects: str) -> None:
        for one in subjects:
            self._publish.setdefault(one, why)

    def subscribe(self, why: str, *subjects: str) -> None:
        for one in subjects:
            self._subscribe.setdefault(one, why)

    def answer(self, count: int, within_s: int) -> None:
        self._answers = -1 if -1 in (count, self._answers) else max(count, self._answers)
        self._answers_s = max(within_s, self._answers_s)

    def all(self) -> Rights:
        return Rights(
            publish=self._publish,
            subscribe=self._subscribe,
            answers=self._answers,
            answers_s=self._answers_s,
        ).tidy()


def _reads(needs: _Needs, subjects: Subjects) -> None:
    """Records and how full the log is. What a batched read is for stands in its payload: it may read all."""
    stream = subjects.stream
    needs.publish("the log", f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.CONSUMER.LIST.{stream}")
    needs.publish("the log", f"$JS.API.STREAM.MSG.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}")
    needs.publish("the log", f"$JS.API.DIRECT.GET.{stream}.{subjects.namespace}.run.>")


def _consumes(needs: _Needs, subjects: Subjects, durable: str, why: str) -> None:
    """Pull from one consumer, which is there. Acknowledgements have two forms (ADR-15)."""
    stream = subjects.stream
    needs.publish(why, f"$JS.API.CONSUMER.INFO.{stream}.{durable}")
    needs.publish(why, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}")
    needs.publish(why, f"$JS.ACK.{stream}.{durable}.>", f"$JS.ACK.*.*.{stream}.{durable}.>")


def _reads_objects(needs: _Needs, subjects: Subjects) -> None:
    stream = objects_stream(subjects.namespace)
    for verb in ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"):
        needs.publish("large payloads", f"$JS.API.{verb}.{stream}")


def _keeps_objects(needs: _Needs, subjects: Subjects, contract: Any, kind: str) -> None:
    """Read the large payloads of a contract, and store those that its records of one kind refer to.

    What is said about an object has its name as base64, which no pattern can take apart; Roost never reads it.
    """
    if allows_large(contract):
        why, namespace = f"large payloads of {contract.name}", subjects.namespace
        _reads_objects(needs, subjects)
        needs.publish(why, chunks_of(namespace, f"*.{kind}.{contract.name}.*.*"), about_any(namespace))


def _takes(needs: _Needs, subjects: Subjects, name: str, why: str) -> None:
    """Take tasks of a contract and store what becomes of them."""
    _reads(needs, subjects)
    _consumes(needs, subjects, consumer_name(name), why)
    run = f"{subjects.namespace}.run.*"
    needs.publish(why, *(f"{run}.{kind}.{name}.*" for kind in ("end", "dead")), f"{run}.note.{name}.*.*")
    needs.subscribe(why, f"{subjects.namespace}.cancel.{name}.>")
    _begins(needs, subjects, name, why)


def _begins(needs: _Needs, subjects: Subjects, name: str, why: str) -> None:
    """Take what schedules fire for a contract: make a task of it, or say that one may begin."""
    stream, durable = timetable_stream(subjects.namespace), consumer_of_fired(name)
    needs.publish(why, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}")
    needs.publish(why, f"$JS.ACK.{stream}.{durable}.>", f"$JS.ACK.*.*.{stream}.{durable}.>")
    needs.publish("schedules", f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}")
    needs.publish("schedules", f"$JS.API.CONSUMER.INFO.{stream}.{durable}")
    run = f"{subjects.namespace}.run"
    needs.publish(why, f"{run}.*.task.{name}.*", f"{run}.{name}::.task.{name}.wake.*.*.*")


def scheduling(namespace: str, inbox: str) -> Rights:
    """What somebody needs besides who defines schedules, and whose delayed tasks need no slot of a consumer.

    A schedule publishes with the server's rights: who may write one may have any contract of the namespace run with
    any input, and may remove the schedules of others.
    """
    subjects, needs = Subjects(namespace), _Needs(inbox)
    stream = timetable_stream(namespace)
    needs.publish("schedules", f"{namespace}.sched.>")
    for verb in ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.PURGE"):
        needs.publish("schedules", f"$JS.API.{verb}.{stream}")
    needs.publish("schedules", f"$JS.API.CONSUMER.INFO.{stream}.*")
    needs.publish("when they were fired", f"$JS.API.STREAM.INFO.{subjects.stream}")
    needs.publish("when they were fired", f"$JS.API.DIRECT.GET.{subjects.stream}.{namespace}.run.>")
    return needs.all()


def _works(needs: _Needs, subjects: Subjects, task: Task[Any, Any]) -> None:
    why, run = f"task {task.name}", f"{subjects.namespace}.run.*"
    _takes(needs, subjects, task.name, why)
    _keeps_objects(needs, subjects, task, "end")
    needs.publish(why, *(f"{run}.{kind}.{task.name}.*.*" for kind in ("chunk", "progress", "once")))
    if task.order_key is not None:  # places and turns; a turn has two tokens more than a task
        needs.publish(why, f"{run}.queue.{task.name}.*.*", f"{run}.task.{task.name}.*.*.*")


def _coordinates(needs: _Needs, subjects: Subjects, workflow: Workflow[Any, Any]) -> None:
    why, namespace = f"workflow {workflow.name}", subjects.namespace
    _takes(needs, subjects, workflow.name, why)
    _keeps_objects(needs, subjects, workflow, "end")
    needs.publish(why, *(f"{namespace}.run.*.{kind}" for kind in ("epoch", "state", "step.*")))
    needs.subscribe(why, f"{subjects.live}*.end.>", f"{subjects.live}*.signal.*")


def _answers(
    needs: _Needs, namespace: str, endpoint: Endpoint[Any, Any] | StreamEndpoint[Any, Any], instance: str
) -> None:
    """Requests come to anybody, to everybody and to one; their answers go where they came from."""
    name = endpoint.name
    needs.subscribe(f"endpoint {name}", endpoint_subject(namespace, name), every_subject(namespace, name))
    needs.subscribe(f"endpoint {name}", f"{namespace}.at.{instance}.{name}")
    needs.answer(-1 if isinstance(endpoint, StreamEndpoint) else 1, DAY_S)


def _is_there(needs: _Needs, namespace: str, agent: str, instance: str) -> None:
    """Heartbeats, and answers to whoever asks who is there."""
    needs.publish("heartbeats", beat_subject(namespace, agent, instance))
    for verb in VERBS:
        place = f"{PREFIX}.{verb}"
        needs.subscribe("who is there", place, f"{place}.{agent}", f"{place}.{agent}.{instance}")
    needs.answer(1, SOON_S)


def _calls(needs: _Needs, subjects: Subjects, contract: Called, *, within_a_run: bool) -> None:
    name, namespace = contract.name, subjects.namespace
    if isinstance(contract, Task | Workflow):
        why, run, live = f"{contract.kind} {name}", f"{namespace}.run.*", f"{subjects.live}*"
        _reads(needs, subjects)
        _keeps_objects(needs, subjects, contract, "task")
        needs.publish(why, f"{run}.task.{name}.*")
        if contract.order_key is not None:
            needs.publish(why, f"{run}.queue.{name}.*.*")
        if contract.deadline_s is not None:
            needs.publish(why, f"{run}.deadline.{name}.*.*")
        if not within_a_run:  # a coordinator hears of all outcomes already
            needs.subscribe(why, f"{live}.end.{name}.*")
            if isinstance(contract, Task):
                needs.subscribe(why, f"{live}.chunk.{name}.*.*", f"{live}.progress.{name}.*.*")
    elif isinstance(contract, Signal):
        _reads(needs, subjects)
        needs.publish(f"signal {name}", f"{namespace}.run.*.signal.{name}")
    elif isinstance(contract, Topic):
        if overlap(contract.template.wildcard, f"{namespace}.>"):
            raise ConfigError(
                f"topic {name}: who may publish it could write what is Roost's own in namespace {namespace}; let "
                "its subject begin with another word"
            )
        needs.publish(f"topic {name}", contract.template.wildcard)
    elif isinstance(contract, Endpoint | StreamEndpoint):
        needs.publish(f"endpoint {name}", endpoint_subject(namespace, name), f"{namespace}.at.*.{name}")
        if isinstance(contract, Endpoint):
            needs.publish(f"endpoint {name}", every_subject(namespace, name))
        else:  # the responder asks back, and is told how much it may send
            needs.answer(-1, DAY_S)
    else:
        raise ConfigError(f"{contract!r} is no contract that can be called")
