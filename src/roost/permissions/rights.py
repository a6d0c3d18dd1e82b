"""What a user of a NATS server may do, as subjects, and what is missing from it. Pure.

A start that is refused for one subject after another costs an administrator an afternoon; so what is needed is
compared as a whole with what is granted, and everything that is missing is said at once.

Rules of the server: a publish is checked by its subject, a subscription by its pattern; a `deny` wins; without an
`allow` everything else is allowed; `allow_responses` adds the reply subjects of messages that were delivered
(https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["publish", "subscribe"]

ANSWERS = "allow_responses"
"""Stands for the right to answer, among the subjects that are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Subjects with the reason why each is needed. `answers`: how many messages may answer a request, -1 any number."""

    publish: Mapping[str, str] = field(default_factory=dict)
    subscribe: Mapping[str, str] = field(default_factory=dict)
    answers: int = 0
    answers_s: int = 0
    """For how long after the request, in seconds."""

    def __or__(self, other: Rights) -> Rights:
        """All of both."""
        several = -1 in (self.answers, other.answers)
        return Rights(
            publish={**other.publish, **self.publish},
            subscribe={**other.subscribe, **self.subscribe},
            answers=-1 if several else max(self.answers, other.answers),
            answers_s=max(self.answers_s, other.answers_s),
        )

    def tidy(self) -> Rights:
        """Without the subjects that another one of them covers."""
        return Rights(
            publish=_tidy(self.publish),
            subscribe=_tidy(self.subscribe),
            answers=self.answers,
            answers_s=self.answers_s,
        )

    @property
    def loops(self) -> list[str]:
        """Subjects on which the user hears itself although it may answer: it could ask itself with a reply subject
        of its choice, and so may publish on any subject at all.
        """
        if not self.answers:
            return []
        return [one for one in self.publish if any(overlap(one, other) for other in self.subscribe)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a server says a user may do; None allows everything that is not denied."""

    publish: tuple[str, ...] | None = None
    not_publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] | None = None
    not_subscribe: tuple[str, ...] = ()
    answers: bool = False

    @classmethod
    def of(cls, permissions: Any) -> Granted:
        """From the field `permissions` of an answer to ``$SYS.REQ.USER.INFO``. What cannot be read allows all."""
        told = permissions if isinstance(permissions, dict) else {}
        publish, not_publish = _told(told.get("publish"))
        subscribe, not_subscribe = _told(told.get("subscribe"))
        answers = isinstance(told.get("responses"), dict)
        if answers and publish is None:
            publish = ()  # then the server allows answers only, and leaves the empty list out
        return cls(
            publish=publish,
            not_publish=not_publish,
            subscribe=subscribe,
            not_subscribe=not_subscribe,
            answers=answers,
        )


def missing(needed: Rights, granted: Granted) -> list[tuple[Action, str]]:
    """What is needed and not granted, in the order in which it is needed."""
    found: list[tuple[Action, str]] = []
    for one in needed.publish:
        if not _allows(granted.publish, granted.not_publish, one):
            found.append(("publish", one))
    for one in needed.subscribe:
        if not _allows(granted.subscribe, granted.not_subscribe, one, refused=covers):
            found.append(("subscribe", one))
    if needed.answers and not granted.answers and not _to_inboxes(granted):
        found.append(("publish", ANSWERS))
    return found


def covers(pattern: str, wanted: str) -> bool:
    """Whether every subject that `wanted` matches is one that `pattern` matches."""
    ours, theirs = pattern.split("."), wanted.split(".")
    for number, word in enumerate(ours):
        if number >= len(theirs):
            return False
        if word == ">":
            return True
        other = theirs[number]
        if other == ">" or (word != "*" and word != other):
            return False
    return len(ours) == len(theirs)


def overlap(one: str, other: str) -> bool:
    """Whether there is a subject that both patterns match."""
    ours, theirs = one.split("."), other.split(".")
    for word, another in zip(ours, theirs, strict=False):
        if ">" in (word, another):
            return True
        if "*" not in (word, another) and word != another:
            return False
    return len(ours) == len(theirs)


def _allows(
    allow: tuple[str, ...] | None,
    deny: tuple[str, ...],
    wanted: str,
    *,
    refused: Callable[[str, str], bool] = overlap,
) -> bool:
    """`refused`: a subscription that overlaps a denied subject is not refused, it only does not get that."""
    if any(refused(one, wanted) for one in deny):
        return False
    return allow is None or any(covers(one, wanted) for one in allow)


def _to_inboxes(granted: Granted) -> bool:
    """Whether answers are allowed by name: inboxes, or everything."""
    return granted.publish is None or any(one.startswith("_INBOX") or one == ">" for one in granted.publish)


def _told(part: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The subjects of one `allow` and `deny`. A queue group may follow a subject: that is for the server to check."""
    if not isinstance(part, dict):
        return None, ()
    allow, deny = part.get("allow"), part.get("deny")
    allowed = tuple(one.split(" ")[0] for one in allow if isinstance(one, str)) if allow else None
    denied = tuple(one for one in deny if isinstance(one, str) and " " not in one) if deny else ()
    return allowed, denied


def _tidy(subjects: Mapping[str, str]) -> dict[str, str]:
    return {one: why for one, why in subjects.items() if not _covered(one, subjects)}


def _covered(one: str, others: Iterable[str]) -> bool:
    return any(other != one and covers(other, one) for other in others)
