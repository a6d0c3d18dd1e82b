"""Cron expressions with six fields, as nats-server reads them: checked here, and when they come next. Pure.

The server decides when a schedule fires. What is here says which field is wrong before anything is sent, and shows
when the next firing is. Second, minute, hour, day of the month, month, day of the week; each is ``*``, a number, a
range ``1-5``, with a step ``*/15``, or a list of those; months and days of the week have English names of three
letters, 0 is Sunday (server/cron.go of nats-server 2.14, which follows https://pkg.go.dev/github.com/robfig/cron).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import product

from roost._text import quoted
from roost.errors import ConfigError

FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)
ALIASES = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "day of week": {
        name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])
    },
}
_part = re.compile(r"(?:([*?])|([0-9a-z]{1,3})(?:-([0-9a-z]{1,3}))?)(?:/([0-9]{1,4}))?").fullmatch
MOST_DAYS = 5 * 366
"""What does not come within five years never does: 30 February."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Values of each field, in order of `FIELDS`."""

    text: str
    values: tuple[tuple[int, ...], ...]
    either_day: bool
    """Whether the day of the month or that of the week is enough: when both are given."""

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises ConfigError, which names the field."""
        if not isinstance(text, str):
            raise ConfigError(f"cron = {quoted(text)}: must be a str")
        parts = ALIASES.get(text, text).split()
        if len(parts) != len(FIELDS):
            raise ConfigError(
                f"cron = {quoted(text)}: it has {len(parts)} fields; six are needed: second minute hour day-of-month "
                "month day-of-week, such as '0 30 6 * * mon-fri'"
            )
        found = [_field(text, part, *field) for part, field in zip(parts, FIELDS, strict=True)]
        every = found[3][1] or found[5][1]
        cron = cls(text, tuple(values for values, _ in found), not every)
        if cron.after(0.0, UTC) is None:
            raise ConfigError(f"cron = {quoted(text)}: there is no such day")
        return cron

    def after(self, now_s: float, zone: tzinfo) -> float | None:
        """The first time after `now_s` that fits, by the clocks of a zone; None if there is none.

        Times are seconds since 1970.
        """
        begin = datetime.fromtimestamp(now_s, zone)
        seconds, minutes, hours = self.values[:3]
        for days in range(MOST_DAYS):
            day = begin.date() + timedelta(days=days)
            if not self._fits(day):
                continue
            least = begin.hour - 1 if days == 0 else 0  # where clocks are put back, an hour comes twice
            for hour, minute, second in product([one for one in hours if one >= least], minutes, seconds):
                for fold in (0, 1):
                    there = datetime.combine(day, time(hour, minute, second, fold=fold), zone).timestamp()
                    if there > now_s and datetime.fromtimestamp(there, zone).hour == hour:
                        return there
        return None

    def _fits(self, day: date) -> bool:
        if day.month not in self.values[4]:
            return False
        of_month, of_week = day.day in self.values[3], day.isoweekday() % 7 in self.values[5]
        return of_month or of_week if self.either_day else of_month and of_week


def _field(text: str, field: str, name: str, least: int, most: int) -> tuple[tuple[int, ...], bool]:
    """The values of one field, and whether it says that all are meant."""
    values: set[int] = set()
    every = False
    for part in field.split(","):
        found = _part(part.lower())
        if found is None:
            raise _wrong(text, name, part, "it is no number, range, step or list of those")
        star, low, high, step = found.groups()
        width = int(step) if step else 1
        if width == 0:
            raise _wrong(text, name, part, "a step of 0")
        first = least if star else _number(text, name, low)
        last = _number(text, name, high) if high else most if star or step else first
        if not least <= first <= last <= most:
            raise _wrong(text, name, part, f"allowed are {least} to {most}")
        every = every or (star is not None and width == 1)
        values.update(range(first, last + 1, width))
    return tuple(sorted(values)), every


def _number(text: str, name: str, word: str) -> int:
    if word in _NAMES.get(name, {}):
        return _NAMES[name][word]
    if not word.isdecimal():
        raise _wrong(text, name, word, "it is no number")
    return int(word)


def _wrong(text: str, name: str, part: str, reason: str) -> ConfigError:
    return ConfigError(f"cron = {quoted(text)}: {name}: {quoted(part)}: {reason}")
