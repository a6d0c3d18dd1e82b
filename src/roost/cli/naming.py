"""From what somebody writes on a command line to the task or run it names.

A key such as `docs/a.md` may not stand in a subject, so the log has a hash of it and an id such as
`digest:h_kiy7…`. Whoever chose the key does not know that hash: `digest:docs/a.md` has to be found as well.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from roost._text import clean
from roost.errors import ConfigError, UnsafeToken
from roost.runs.reading import find_run
from roost.subjects import key_token, token
from roost.tasks import Log, Ref
from roost.tasks.reading import find_task

R = TypeVar("R")

_is_id = re.compile("[A-Za-z0-9_:-]+").fullmatch
_replayed = re.compile(r"(.+)(:r[0-9]+)", re.DOTALL).fullmatch
MOST = 12
"""Ways to read one text that are tried; each costs a look at the log."""


def candidates(text: str) -> list[str]:
    """The ids that `text` may stand for, the likeliest first. Pure.

    It is an id as it is; a name, a colon and a key as the user chose it; or, with slashes, a run, the name of a
    contract, and an id within the run, of which each may be written so.
    """
    found = _forms(text)
    parts = text.split("/")
    for number in range(1, len(parts) - 1):
        run, name, id = "/".join(parts[:number]), parts[number], "/".join(parts[number + 1 :])
        if _is_token(name):
            found += [f"{a}/{name}/{b}" for a in _forms(run) for b in _forms(id)]
    as_it_is = [one for one in found if one == text]
    return list(dict.fromkeys(as_it_is + found))[:MOST]


def _forms(text: str) -> list[str]:
    """How one id may be written: as it is, with a key, and with a key whose dead letter was replayed."""
    found = [text] if _is_id(text) else []
    name, colon, key = text.partition(":")
    if not colon or not key or not _is_token(name):
        return found
    replay = _replayed(key)
    if replay is not None:
        found.append(f"{name}:{_hashed(replay[1])}{replay[2]}")
    return [*found, f"{name}:{_hashed(key)}"]


def _hashed(key: str) -> str:
    return key_token(key.encode("utf-8", "replace").decode())  # an argument may be no proper UTF-8


def _is_token(text: str) -> bool:
    try:
        token(text)
    except UnsafeToken:
        return False
    return True


async def named_task(log: Log, text: str) -> Ref:
    """The task that `text` names. Raises ConfigError when there is none."""
    return await _first(text, lambda id: find_task(log, id))


async def named_run(log: Log, text: str) -> str:
    """The id of the run that `text` names. Raises ConfigError when there is none, or it has not begun."""
    return (await _first(text, lambda id: find_run(log, id))).id


async def _first(text: str, find: Callable[[str], Awaitable[R]]) -> R:
    """What the first candidate finds; else the complaint about the likeliest, in the words of who asked."""
    complaint = ""
    for id in candidates(text) or [text]:
        try:
            return await find(id)
        except ConfigError as error:
            complaint = complaint or str(error).replace(id, clean(text, 300))
    raise ConfigError(complaint)
