"""Playing seeds: one, or thousands on several processes. What a seed comes to depends on nothing else."""

from __future__ import annotations

import gc
import hashlib
import itertools
import logging
import multiprocessing
import random
import secrets
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from roost.observe import journal, trace
from roost.runs import coordinator
from roost.tasks import log
from simulation.checker import check
from simulation.loop import Stuck
from simulation.server import EPOCH_S
from simulation.world import STREAM, World

PARKED_S = 2.0
"""In place of a minute: how often a parked run is tried again."""
LAST_EVENTS = 60


@dataclass
class Result:
    """What one seed came to. `digest` is of the whole log: equal for equal histories."""

    seed: int
    complaints: list[str]
    events: list[str] = field(default_factory=list)
    records: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    digest: str = ""
    faults: Counter[str] = field(default_factory=Counter)


class _Complaints(logging.Handler):
    """A task of a worker that could not be processed is a fault of the worker."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(
            f"{record.getMessage()}: {record.exc_info[1]!r}" if record.exc_info else record.getMessage()
        )


@contextmanager
def same_every_time(world: World) -> Iterator[_Complaints]:
    """Clock and dice come from the simulation; nothing is collected, logged or said meanwhile."""
    loop, dice = world.loop, random.Random(f"secrets {world.seed}")
    clock = SimpleNamespace(time=lambda: EPOCH_S + loop.time(), monotonic=loop.time)
    complaints = _Complaints()
    logger = logging.getLogger("roost.tasks")
    instead: list[tuple[Any, str, Any]] = [
        (log, "time", clock),
        (journal, "time", clock),
        (secrets, "token_hex", lambda nbytes=16: f"{dice.getrandbits(8 * nbytes):0{2 * nbytes}x}"),
        (secrets, "token_urlsafe", lambda nbytes=16: f"{dice.getrandbits(8 * nbytes):0{2 * nbytes}x}"),
        (secrets, "choice", dice.choice),
        (coordinator, "PARKED_S", PARKED_S),
    ]
    kept = [(where, name, getattr(where, name)) for where, name, _ in instead]
    for where, name, value in instead:
        setattr(where, name, value)
    random.seed(world.seed)
    trace._source.seed(world.seed)
    logging.disable(logging.WARNING)
    logger.addHandler(complaints)
    propagate, logger.propagate = logger.propagate, False
    root = logging.getLogger("roost")
    root_propagate, root.propagate = root.propagate, False
    silence = logging.NullHandler()
    root.addHandler(silence)
    gc.disable()
    try:
        yield complaints
    finally:
        world.close()
        gc.enable()
        logger.removeHandler(complaints)
        root.removeHandler(silence)
        logger.propagate, root.propagate = propagate, root_propagate
        logging.disable(logging.NOTSET)
        for where, name, value in kept:
            setattr(where, name, value)


def play(seed: int, *, traced: bool = False, last: int = LAST_EVENTS) -> Result:
    """One simulation. With `traced`, its last events are kept."""
    events: deque[str] = deque(maxlen=last)
    world = World(seed, (lambda text, *values: events.append(text % values)) if traced else None)
    with same_every_time(world) as failed:
        try:
            world.run()
            check(world)
        except Stuck as stuck:
            world.complain(str(stuck))
        except Exception as error:  # a fault of the simulation; its seed has to be told nevertheless
            world.complain(f"the simulation broke: {error!r}")
        world.complaints += failed.texts
        stream = world.server.streams.get(STREAM)
        hashed = hashlib.sha256()
        for record in stream.records if stream is not None else []:
            if record is not None:
                hashed.update(f"{record.seq} {record.subject} {record.at:.6f} ".encode() + record.data)
        return Result(
            seed,
            world.complaints,
            list(events),
            stream.last_seq if stream is not None else 0,
            world.loop.steps,
            world.loop.time() - 1000.0,
            hashed.hexdigest()[:16],
            world.faults.count,
        )


def quiet() -> None:
    """For a process that does nothing but simulate: what was killed complains of it when it is collected."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)


@dataclass
class Total:
    """What many seeds came to."""

    played: int = 0
    records: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    took_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, other: Total) -> None:
        self.played += other.played
        self.records += other.records
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.faults += other.faults
        self.failed += other.failed

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in self.faults.most_common())
        return (
            f"{self.played} seeds in {self.took_s:.0f} s: {self.records} records, {self.virtual_s / 3600:.1f} hours of "
            f"virtual time; {len(self.failed)} failed; faults: {faults}"
        )


def _share(first: int, step: int, seeds: int, limit_s: float, most_failures: int) -> Total:
    """Every `step`-th seed from `first` on."""
    quiet()
    total, until = Total(), time.monotonic() + limit_s
    gc.collect()
    gc.freeze()
    for number, seed in enumerate(itertools.islice(itertools.count(first, step), seeds)):
        if time.monotonic() > until or len(total.failed) >= most_failures:
            break
        result = play(seed)
        total.add(Total(1, result.records, result.steps, result.virtual_s, 0.0, result.faults))
        if result.complaints:
            total.failed.append(result)
        if number % 8 == 7:
            gc.collect()
    return total


def play_many(first: int, seeds: int, *, limit_s: float, processes: int = 2, most_failures: int = 5) -> Total:
    """`seeds` simulations from seed `first` on, or as many as `limit_s` seconds allow."""
    began = time.monotonic()
    total = Total()
    if processes == 1:
        total.add(_share(first, 1, seeds, limit_s, most_failures))
    else:
        shares: list[Any] = [
            (first + n, processes, (seeds - n + processes - 1) // processes, limit_s, most_failures)
            for n in range(processes)
        ]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for share in pool.starmap(_share, shares, chunksize=1):
                total.add(share)
    total.took_s = time.monotonic() - began
    total.failed.sort(key=lambda result: result.seed)
    return total
