"""`roost dead replay`: dead letters submitted again, one by one, or all of a kind at a stated rate."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from roost._json import BadJson, parse
from roost._text import clean
from roost.cli.dead import no_group
from roost.cli.naming import named_task
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import INTERRUPTED, command, listing, reading, say_unreadable, usage, wait_for
from roost.cli.terminal import lasted, print_json, print_table
from roost.cli.units import parse_rate
from roost.errors import ConfigError, RoostError
from roost.subjects import token
from roost.tasks.dead import list_dead, replay_raw
from roost.tasks.groups import group_of
from roost.tasks.replaying import Candidate, Replayed, candidates, replay_each

RATE = "50/s"
"""Of a mass replay, if nothing else is said: what broke the first time is not to be overrun the second."""


@command
def replay_command(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="As `roost dead ls` gives them.")
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Take the input from this JSON file (- for standard input). One ID only."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Those of this task contract, oldest first.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Those of this group, as `roost dead groups` gives it."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Those of all contracts.")] = False,
    rate: Annotated[
        str, typer.Option(metavar="RATE", help="Of many: at most so many, such as 10/s or 300/min.")
    ] = RATE,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of many: at most so many, the oldest.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of many: say which, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Of many: do not ask.")] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Submit dead letters again, as new tasks; the letters are kept. Exit code 1: one of them could not be.

    Given by ID, a letter that was replayed before is replayed once more. With --task, --group or --all those that were
    replayed are left out, so a command that was interrupted can be given again: none is replayed twice. A replay that
    dies is a dead letter of its own.

    Without --edit a task gets the input it had. With it, the input is checked by the worker: one that does not fit
    becomes a dead letter too.

    \b
    Examples:
      roost dead replay 3f9a1c27b06e5d8841aa02 --edit fixed.json
      roost dead replay --task digest --group 5d41402a --rate 10/s --dry-run
    """
    many = all_ or task is not None or group is not None
    with usage():
        if bool(ids) == many:
            raise ConfigError("give either IDs or some of --task, --group and --all")
        if edit is not None and (ids is None or len(ids) > 1):
            raise ConfigError("--edit replaces the input of one dead letter; give one ID")
        if task is not None:
            token(task, name="--task")
        per_s = parse_rate(rate, option="--rate")
    if ids:
        _replay_ids(ids, _edited(edit) if edit is not None else None, url, namespace, json=json)
        return
    with listing(json=json):
        chosen = wait_for(_choose(task, group, limit, url, namespace))
        if dry_run or not chosen:
            _print_choice(chosen, per_s, json=json)
            return
        if not (yes or json) and sys.stdin.isatty() and sys.stdout.isatty():
            typer.confirm(f"Replay {_described(chosen, per_s)}?", abort=True)
        _replay_many(chosen, per_s, url, namespace, json=json)


# Some, by their ids ------------------------------------------------------------------------------


def _edited(file: str) -> bytes:
    """The new input. Raises ConfigError, with the name of the file, if that is no JSON."""
    shown = "standard input" if file == "-" else clean(file, 300)
    payload = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        parse(payload.strip())
    except BadJson as error:
        raise ConfigError(f"{shown} holds no JSON for an input: {error}; nothing was submitted") from error
    return payload


def _replay_ids(
    ids: Sequence[str], payload: bytes | None, url: str | None, namespace: str | None, *, json: bool
) -> None:
    done, failed = wait_for(_replay(ids, payload, url, namespace, quiet=json))
    if json:
        print_json([{"id": old, "replayed_as": new, "created": created} for old, new, created in done])
    for id, reason in failed:
        _say_failed(id, reason)
    if failed:
        if len(ids) > 1:
            sys.stderr.write(f"roost: {len(done)} of {len(ids)} dead letters replayed\n")
        raise typer.Exit(1)


async def _replay(
    ids: Sequence[str], payload: bytes | None, url: str | None, namespace: str | None, *, quiet: bool
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
                _say_done(id, str(stored.ref), "" if stored.seq > 0 else "it was there already")
    return done, failed


def _say_done(id: str, replay: str, note: str) -> None:
    sys.stdout.write(f"{clean(id)} replayed as {clean(replay)}{f' ({note})' if note else ''}\n")
    sys.stdout.flush()


def _say_failed(id: str, reason: str) -> None:
    sys.stderr.write(f"roost: {clean(id)} was not replayed: {clean(reason, 2000)}\n")


# Many, by what they are --------------------------------------------------------------------------


async def _choose(
    task: str | None, group: str | None, limit: int | None, url: str | None, namespace: str | None
) -> list[Candidate]:
    async with reading(url, namespace) as bus:
        found = await candidates(bus.log, task, group)
        if group is not None and not found:
            letters = await list_dead(bus.log, task)
            if group not in map(group_of, letters):  # else all of it was replayed
                raise no_group(group)
        say_unreadable(bus)
        return found[:limit]


def _described(chosen: Sequence[Candidate], per_s: float) -> str:
    names = sorted({one.ref.name for one in chosen})
    of = ", ".join(map(clean, names)) if len(names) <= 3 else f"{len(names)} contracts"
    letters = "1 dead letter" if len(chosen) == 1 else f"{len(chosen):,} dead letters"
    takes = f", which takes {lasted((len(chosen) - 1) / per_s)}" if len(chosen) > 1 else ""
    return f"{letters} of {of} at {per_s:g} per second{takes}"


def _print_choice(chosen: Sequence[Candidate], per_s: float, *, json: bool) -> None:
    if json:
        print_json([{"id": str(one.ref), "group": one.group, "error": one.error} for one in chosen])
    elif not chosen:
        sys.stderr.write("no dead letters that were not replayed before\n")
    else:
        counts = Counter((one.group, one.ref.name, one.error) for one in chosen)
        rows = [(id, f"{count:,}", name, error) for (id, name, error), count in counts.most_common()]
        print_table(("GROUP", "COUNT", "TASK", "ERROR"), rows, styles=("bold",))
        sys.stderr.write(f"would replay {_described(chosen, per_s)}; nothing was done\n")


def _replay_many(
    chosen: Sequence[Candidate], per_s: float, url: str | None, namespace: str | None, *, json: bool
) -> None:
    """Prints what was done also when this is ended before the last one."""
    results: list[Replayed] = []
    stopped = ""
    code = 0
    try:
        wait_for(_replay_each(chosen, per_s, results, url, namespace, quiet=json))
    except KeyboardInterrupt:
        stopped, code = "stopped", INTERRUPTED
    except RoostError as error:
        stopped, code = clean(str(error), 2000), 1
    done = [one for one in results if one.replay is not None]
    if json:
        print_json([{"id": str(one.ref), "replayed_as": str(one.replay)} for one in done])
    for one in results:
        if one.replay is None:
            _say_failed(str(one.ref), one.note)
            code = code or 1
    if stopped:
        sys.stderr.write(f"roost: {stopped}\n")
    rest = "; the same command goes on with the rest, and replays none twice" if stopped else ""
    sys.stderr.write(f"{len(done):,} of {len(chosen):,} dead letters replayed{rest}\n")
    if code:
        raise typer.Exit(code)


async def _replay_each(
    chosen: Sequence[Candidate],
    per_s: float,
    results: list[Replayed],
    url: str | None,
    namespace: str | None,
    *,
    quiet: bool,
) -> None:
    bar = _bar() if sys.stdout.isatty() and not quiet else None
    async with reading(url, namespace) as bus:
        with bar or nullcontext():
            job = bar.add_task("replayed", total=len(chosen)) if bar is not None else None
            async for one in replay_each(bus.log, [one.ref for one in chosen], rate=per_s):
                results.append(one)
                if bar is not None:
                    bar.advance(job)
                elif one.replay is not None and not quiet:
                    _say_done(str(one.ref), str(one.replay), one.note)


def _bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
