"""`roost dead`: dead letters, listed, shown, and submitted again."""

from __future__ import annotations

import json as json_module
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from roost._json import BadJson, parse
from roost._text import clean
from roost.cli._tasks_json import letter_json, payload_json
from roost.cli.naming import named_task
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, listing, reading, say_unreadable, usage, wait_for
from roost.cli.tasks import print_attempts
from roost.cli.terminal import none_of, print_fields, print_json, print_table, when
from roost.errors import ConfigError, RoostError
from roost.subjects import token
from roost.tasks import DeadLetter, Ref, find_dead, list_dead
from roost.tasks.dead import replay_raw

SHOWN = 4000
"""Characters of a payload that `show` prints; --json has all of it."""

app = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that nobody will try again.")


@app.command("ls")
@command
def ls(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Only those of this task contract.")
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
        letters, others = wait_for(_list(task, limit, url, namespace))
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
    task: str | None, limit: int | None, url: str | None, namespace: str | None
) -> tuple[list[DeadLetter], Counter[str]]:
    """The letters; if there are none, how many other contracts have."""
    async with reading(url, namespace) as bus:
        letters = await list_dead(bus.log, task)
        say_unreadable(bus)
        others: Counter[str] = Counter()
        if not letters:
            found = map(bus.log.subjects.parse, await bus.log.subjects_matching(bus.log.subjects.all_dead()))
            others.update(one[1].name for one in found if one is not None)
        return letters[-limit:] if limit is not None else letters, others


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
        return await find_dead(bus.log, await named_task(bus.log, id))


def _replays(letter: DeadLetter) -> list[Ref]:
    return [Ref(letter.run, letter.name, id) for id in letter.replays]


@app.command("replay")
@command
def replay(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="As `roost dead ls` gives them.")],
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Take the input from this JSON file (- for standard input). One ID only."
        ),
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Submit dead letters again, as new tasks; the letters are kept. Exit code 1: one of them could not be.

    Without --edit a task gets the input it had. With it, the input is checked by the worker: one that does not fit
    becomes a dead letter too.

    \b
    Example:
      roost dead replay 3f9a1c27b06e5d8841aa02 --edit fixed.json
    """
    if edit is not None and len(ids) > 1:
        raise typer.BadParameter("--edit replaces the input of one dead letter; give one ID")
    payload = _edited(edit) if edit is not None else None
    done, failed = wait_for(_replay(ids, payload, url, namespace, quiet=json))
    if json:
        print_json([{"id": old, "replayed_as": new, "created": created} for old, new, created in done])
    for id, reason in failed:
        sys.stderr.write(f"roost: {clean(id)} was not replayed: {clean(reason, 2000)}\n")
    if failed:
        if len(ids) > 1:
            sys.stderr.write(f"roost: {len(done)} of {len(ids)} dead letters replayed\n")
        raise typer.Exit(1)


def _edited(file: str) -> bytes:
    """The new input. Raises ConfigError, with the name of the file, if that is no JSON."""
    shown = "standard input" if file == "-" else clean(file, 300)
    payload = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        parse(payload.strip())
    except BadJson as error:
        raise ConfigError(f"{shown} holds no JSON for an input: {error}; nothing was submitted") from error
    return payload


async def _replay(
    ids: list[str], payload: bytes | None, url: str | None, namespace: str | None, *, quiet: bool
) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str]]]:
    """What was replayed and what could not be: one bad ID keeps no other from its turn."""
    done: list[tuple[str, str, bool]] = []
    failed: list[tuple[str, str]] = []
    async with reading(url, namespace) as bus:
        for id in ids:
            try:
                stored = await replay_raw(bus.log, await named_task(bus.log, id), payload)
            except RoostError as error:
                failed.append((id, str(error)))
                continue
            done.append((id, str(stored.ref), stored.seq > 0))
            if not quiet:  # one by one, so that it is known what was done if this is ended
                note = "" if stored.seq > 0 else " (it was there already)"
                sys.stdout.write(f"{clean(id)} replayed as {clean(str(stored.ref))}{note}\n")
                sys.stdout.flush()
    return done, failed
