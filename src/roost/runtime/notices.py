"""What a supervisor tells: one value for each thing that happens to a process, with a sentence for people."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from roost.errors import RoostError

NoticeKind = Literal["waiting", "ready", "blocked", "failed", "ended", "stopping", "stopped", "killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened to a process. `str()` of it is a sentence without a full stop.

    `waiting` for the server; `ready` for work; `blocked` in its event loop; `failed` to start;
    `ended` although nobody stopped it; `stopping` and `stopped` on request; `killed` because it did not stop in time.
    """

    kind: NoticeKind
    name: str  # of the instance, such as "packer-1-k3f9qm"; before that is known, of what was to be started
    pid: int
    text: str = ""
    again_s: float | None = None
    """Seconds until it is started again; None if it is not, or not yet known."""

    def __str__(self) -> str:
        match self.kind:
            case "waiting":
                return f"{self.name} waits for the server: {self.text}"
            case "ready":
                return f"{self.name} is ready (pid {self.pid})"
            case "blocked":
                return f"{self.name} (pid {self.pid}) does not answer: {self.text}"
            case "failed":
                return f"{self.name} cannot start: {self.text}{self._again}"
            case "ended":
                return f"{self.name} (pid {self.pid}) {self.text}{self._again}"
            case "stopping":
                return f"{self.name} is to stop ({self.text})"
            case "stopped":
                return f"{self.name} has stopped"
            case "killed":
                return f"{self.name} (pid {self.pid}) {self.text}"

    @property
    def _again(self) -> str:
        return f"; it starts again in {self.again_s:.1f} s" if self.again_s is not None else ""


class AgentsFailed(RoostError):
    """Agents could not be started. `failures` has the instance and the reason of each."""

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        said = "; ".join(dict.fromkeys(f"{name}: {reason}" for name, reason in self.failures))
        super().__init__(f"{said}")


def how_it_ended(code: int) -> str:
    """A clause on an exit code as `subprocess` gives it (negative: a signal)."""
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
