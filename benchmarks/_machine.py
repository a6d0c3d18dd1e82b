"""What else the machine did during a run. On Linux only; elsewhere nothing is known, and the report says so."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE, _WAITING = 3, 4  # columns of the first line, see proc(5)


class Others:
    """Begins to watch when it is made. The processes measured have to be this one's children, ended by then."""

    def __init__(self) -> None:
        self._total, self._busy = _ticks()
        self._own_s = _own_s()

    def share(self) -> float | None:
        """Which part of all processors other programs took since then: 0.1 is a tenth."""
        total, busy = _ticks()
        if total <= self._total:
            return None
        own = (_own_s() - self._own_s) * os.sysconf("SC_CLK_TCK")
        return max(0.0, (busy - self._busy - own) / (total - self._total))


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _ticks() -> tuple[int, int]:
    """All ticks of all processors, and those in which they were busy."""
    try:
        columns = [int(word) for word in _STAT.read_text().partition("\n")[0].split()[1:9]]
    except OSError:
        return 0, 0
    return sum(columns), sum(columns) - columns[_IDLE] - columns[_WAITING]


def _own_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
