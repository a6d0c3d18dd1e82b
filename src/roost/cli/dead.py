"""`roost dead`: dead letters, listed, shown, and by what killed them; `replaying` submits them again."""

from __future__ import annotations

import json as json_module
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from roost.cli._tasks_json import letter_json, payload_json
from roost.cli.naming import named_task
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, listing, reading, say_unreadable, usage, wait_for
from roost.cli.tasks import print_attempts
from roost.cli.terminal import none_of, print_fields, print_json, print_table, stamp, when
from roost.errors import ConfigError, InvalidMessage
from roost.subjects import token
from roost.tasks import DeadLetter, Ref, find_dead, list_dead
from roost.tasks.dead import input_of
from roost.tasks.groups import DeadGroup, dead_groups, group_of

SHOWN = 4000
"""Characters of a payload that `show` prints; --json has all of it."""

app = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that nobody will try again.")


@app.command("ls")
@command
def ls(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Only those of this task contract.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Only those of this group of `roost dead groups`.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many, the newest.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Whole lines, however narrow the terminal.")] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """List dead letters, oldest first; on a terminal a line for each, cut to its width.

    \b
    Example:
      roost dead ls digest --json | jq -r '.[].id' | xargs roost dead replay
    """
    with usage():
        if task is not None:
            token(task, name="TASK")
    with listing(json=json):
        letters, others = wait_for(_list(task, group, limit, url, namespace))
        if json:
            print_json([letter_json(letter) for letter in letters])
        elif letters:
            _print(letters, wide=wide)
        else:
            sys.stderr.write(none_of("dead letters", task, others) + "\n")


def _print(letters: Sequence[DeadLetter], *, wide: bool) -> None:
    rows = []
    for one in letters:
        tried, replayed = str(one.attempts), str(len(one.replays) or "")
        rows.append((when(one.died_s), one.name, str(one.ref), tried, replayed, one.reason))
    print_table(
        ("DIED", "TASK", "ID", "TRIED", "REPLAYED", "REASON"),
        rows,
        styles=("dim", "", "bold"),
        spare=("REPLAYED", "TRIED", "TASK"),
        wide=wide,
    )


async def _list(
    task: str | None, group: str | None, limit: int | None, url: str | None, namespace: str | None
) -> tuple[list[DeadLetter], Counter[str]]:
    """The letters; if there are none, how many other contracts have."""
    async with reading(url, namespace) as bus:
        letters = [one for one in await list_dead(bus.log, task) if group in (None, group_of(one))]
        say_unreadable(bus)
        others: Counter[str] = Counter()
        if not letters and group is not None:
            raise no_group(group)
        if not letters:
            found = map(bus.log.subjects.parse, await bus.log.subjects_matching(bus.log.subjects.all_dead()))
            others.update(one[1].name for one in found if one is not None)
        return letters[-limit:] if limit is not None else letters, others


@app.command("groups")
@command
def groups(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Only those of this task contract.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Whole lines, however narrow the terminal.")] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Count dead letters by contract and error, the largest group first.

    Errors that differ only in numbers and ids are one group; # stands for those. LEFT is how many of them were not
    replayed yet.

    \b
    Example:
      roost dead groups && roost dead replay --group 5d41402a --rate 10/s
    """
    with usage():
        if task is not None:
            token(task, name="TASK")
    with listing(json=json):
        found = wait_for(_groups(task, url, namespace))
        if json:
            print_json([_group_json(one) for one in found])
        elif found:
            _print_groups(found, wide=wide)
        else:
            sys.stderr.write(f"no dead letters{f' of {task}' if task is not None else ''}\n")


async def _groups(task: str | None, url: str | None, namespace: str | None) -> list[DeadGroup]:
    async with reading(url, namespace) as bus:
        found = await dead_groups(bus.log, task)
        say_unreadable(bus)
        return found


def _print_groups(found: Sequence[DeadGroup], *, wide: bool) -> None:
    rows = [
        (
            one.id,
            f"{one.count:,}",
            f"{one.count - one.replayed:,}",
            when(one.first_s),
            when(one.last_s),
            one.name,
            f"{one.error} (latest: {one.example})",
        )
        for one in found
    ]
    print_table(
        ("GROUP", "COUNT", "LEFT", "FIRST", "LAST", "TASK", "ERROR"),
        rows,
        styles=("bold", "", "", "dim", "dim"),
        wide=wide,
        full=True,
    )


def _group_json(one: DeadGroup) -> dict[str, Any]:
    return {
        "group": one.id,
        "task": one.name,
        "error": one.error,
        "count": one.count,
        "replayed": one.replayed,
        "first": stamp(one.first_s),
        "last": stamp(one.last_s),
        "example": str(one.example),
    }


@app.command("show")
@command
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `roost dead ls` gives it.")],
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Show a dead letter: why, what was tried, and with what input.

    \b
    Example:
      roost dead show 3f9a1c27b06e5d8841aa02 --json | jq .input > fixed.json
    """
    letter = wait_for(_find(id, url, namespace))
    if json:
        print_json(letter_json(letter))
        return
    print_fields(
        [
            ("id", str(letter.ref)),
            ("task", letter.name),
            ("died", when(letter.died_s)),
            ("reason", letter.reason),
            *([("replayed as", ", ".join(map(str, _replays(letter))))] if letter.replays else []),
        ]
    )
    if letter.history:
        sys.stdout.write("\n")
        print_attempts(letter.history)
    text = json_module.dumps(payload_json(letter.input), indent=2)  # ASCII: no text in it can move a cursor
    more = f"\n... {len(text) - SHOWN} characters more; --json has all" if len(text) > SHOWN else ""
    sys.stdout.write(f"\ninput ({len(letter.input)} bytes)\n{text[:SHOWN]}{more}\n")


async def _find(id: str, url: str | None, namespace: str | None) -> DeadLetter:
    async with reading(url, namespace) as bus:
        letter = await find_dead(bus.log, await named_task(bus.log, id))
        try:
            return replace(letter, input=await input_of(bus.log, letter))
        except InvalidMessage as error:  # a large input that is lost: its reference is shown
            sys.stderr.write(f"{error.reason}\n")
            return letter


def no_group(group: str) -> ConfigError:
    return ConfigError(
        f"there is no group {group!r} of dead letters; `roost dead groups` lists those there are"
    )


def _replays(letter: DeadLetter) -> list[Ref]:
    return [Ref(letter.run, letter.name, id) for id in letter.replays]
