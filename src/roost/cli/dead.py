"""`roost dead`: dead letters, listed, shown, and submitted again."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from roost._text import clean
from roost.cli._tasks_json import letter_json, payload_json
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, reading, say_unreadable, usage, wait_for
from roost.cli.tasks import print_attempts
from roost.cli.terminal import print_fields, print_json, print_table, when
from roost.subjects import token
from roost.tasks import DeadLetter, Ref, find_dead, list_dead
from roost.tasks.dead import replay_raw
from roost.tasks.reading import find_task

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
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """List dead letters, oldest first.

    \b
    Example:
      roost dead ls digest --json | jq -r '.[].id' | xargs roost dead replay
    """
    with usage():
        if task is not None:
            token(task, name="TASK")
    letters = wait_for(_list(task, limit, url, namespace))
    if json:
        print_json([letter_json(letter) for letter in letters])
    elif letters:
        rows = [
            (
                when(one.died_s),
                one.name,
                str(one.ref),
                str(one.attempts),
                str(len(one.replays) or ""),
                one.reason,
            )
            for one in letters
        ]
        print_table(
            ("DIED", "TASK", "ID", "TRIED", "REPLAYED", "REASON"),
            rows,
            styles=("dim", "", "bold", "", "", ""),
        )
    else:
        sys.stderr.write("no dead letters\n")


async def _list(
    task: str | None, limit: int | None, url: str | None, namespace: str | None
) -> list[DeadLetter]:
    async with reading(url, namespace) as bus:
        letters = await list_dead(bus.log, task)
        say_unreadable(bus)
        return letters[-limit:] if limit is not None else letters


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
        return await find_dead(bus.log, await find_task(bus.log, id))


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
    """Submit dead letters again, as new tasks; the letters are kept.

    Without --edit a task gets the input it had. With it, the input is checked by the worker: one that does not fit
    becomes a dead letter too.

    \b
    Example:
      roost dead replay 3f9a1c27b06e5d8841aa02 --edit fixed.json
    """
    if edit is not None and len(ids) > 1:
        raise typer.BadParameter("--edit replaces the input of one dead letter; give one ID")
    payload = None
    if edit is not None:
        payload = sys.stdin.buffer.read() if edit == "-" else Path(edit).read_bytes()
    replayed = wait_for(_replay(ids, payload, url, namespace, quiet=json))
    if json:
        print_json([{"id": old, "replayed_as": new, "created": created} for old, new, created in replayed])


async def _replay(
    ids: list[str], payload: bytes | None, url: str | None, namespace: str | None, *, quiet: bool
) -> list[tuple[str, str, bool]]:
    done = []
    async with reading(url, namespace) as bus:
        for id in ids:
            stored = await replay_raw(bus.log, await find_task(bus.log, id), payload)
            done.append((id, str(stored.ref), stored.seq > 0))
            if not quiet:  # one by one, so that it is known what was done if the next one fails
                note = "" if stored.seq > 0 else " (it was there already)"
                sys.stdout.write(f"{clean(id)} replayed as {clean(str(stored.ref))}{note}\n")
                sys.stdout.flush()
    return done
