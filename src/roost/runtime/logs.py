"""How the log lines of an agent process look: whose they are, safe to print, and about the user's code.

A traceback whose first half is the framework's own frames hides the line that matters. And the message of an
exception may come from a stranger: a control sequence in it would rewrite the operator's terminal.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from roost._text import clean
from roost.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
LINE = 10_000
"""Characters of one line; a longer one is cut."""

_PACKAGE = str(Path(__file__).parent.parent)
_ExcInfo: TypeAlias = (
    "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"
)


def set_up(name: str, level: str) -> None:
    """Log to standard error, unless the user's module has set up logging already. Raises ConfigError."""
    if level not in LEVELS:
        raise ConfigError(f"ROOST_LOG_LEVEL is {clean(level)!r}; use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class LineFormatter(logging.Formatter):
    """Time, instance, level, logger and message; tracebacks begin where the user's code does."""

    def __init__(self, name: str) -> None:
        super().__init__(f"%(asctime)s {name.replace('%', '')} %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).replace("\t", "    ").split("\n")
        return "\n".join(clean(line, LINE) for line in lines)

    def formatException(self, ei: _ExcInfo) -> str:
        kind, error, trace = ei
        if kind is None or error is None:
            return ""
        return super().formatException((kind, error, _of_the_user(trace)))


def _of_the_user(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins outside of Roost; all of it if there is none."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        part = part.tb_next
    return part or trace
