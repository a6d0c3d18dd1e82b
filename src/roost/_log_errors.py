"""The errors that tell of the log and of what became of work in it: a part of the tree in `errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from roost._error_parts import RoostError
from roost._text import clean, quoted


class Conflict(RoostError):
    """The key was used before with another payload; the first one stands."""

    def __init__(self, *, key: str, subject: str, text: str = "") -> None:
        self.key = key
        self.subject = subject
        super().__init__(
            text
            or f"key {quoted(key)} was used before with another payload ({quoted(subject, 300)}). The first one "
            "stands, this one was not stored. Use another key for other work."
        )


class StoreFull(RoostError):
    """The log is at the mark where new work is refused, so that accepted work can still finish.

    Trying again later is safe: of many values the first `stored` ones were stored, and with their keys none is doubled.
    """

    retryable = True

    def __init__(
        self, *, stream: str, used: int, limit: int, open: int = 0, stored: int = 0, refusal: str = ""
    ) -> None:
        self.stream = stream
        self.used = used  # bytes
        self.limit = limit  # bytes; -1: the log has none of its own
        self.open = open  # tasks without an outcome, at most
        self.stored = stored  # of the values that were submitted together
        self.refusal = refusal  # the server's words, if it has no room: no mark of the log was reached
        kept = f"The first {stored} values were stored" if stored else "Nothing new was stored"
        if refusal:
            super().__init__(
                f"the server has no room for the log {quoted(stream)}, in which {used:,} bytes are used: it refused a "
                f"write ({clean(refusal, 300)}). {kept}. What was accepted is kept, but cannot end before there is "
                "room. Enlarge the server's store (max_file_store), the account's share of it or the disk; then set "
                "the log's max_bytes below that (`roost provision --max-bytes`), so that accepted work can always end."
            )
            return
        needs = f", and up to {open} open tasks need room for their outcomes" if open else ""
        super().__init__(
            f"the log {quoted(stream)} is full for new work: {used:,} of {limit:,} bytes are used{needs}; the rest is "
            f"kept for accepted work, which goes on. {kept}. Try again when open tasks have ended or ended runs have "
            "been pruned, or raise its max_bytes (`roost provision`)."
        )


class StreamMissing(RoostError):
    """No server answers for the stream: it has not been provisioned, or in a cluster no server leads it just now."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(
            f"no server answers for stream {quoted(stream)}; nothing was stored. In a cluster that passes when one "
            "has been elected to lead it, mostly within 10 s. Else it does not exist: run `roost provision` once as "
            "an administrator, or compare the namespace and the server."
        )


_STREAM_NOT_FOUND = 10059
"""nats-server's number, also when the stream of a log was there before."""


class JetStreamError(RoostError):
    """The JetStream API refused. `code` is like an HTTP status, `err_code` the server's own error number."""

    def __init__(self, *, code: int, err_code: int, description: str) -> None:
        self.code = code
        self.err_code = err_code
        self.description = clean(description, 500)
        gone = (
            " The log is not on this server any more: it was removed, or the server was started again without its "
            "store, and what was in it is gone. Start the agents again, or run `roost provision`: either makes it anew."
            if err_code == _STREAM_NOT_FOUND
            else ""
        )
        super().__init__(f"JetStream refused: {self.description} (code {code}, error {err_code}).{gone}")


class SubmissionUnknown(RoostError):
    """Storing `ids` could not be confirmed. Submitting again with the same keys is safe: it creates no double."""

    retryable = True

    def __init__(self, ids: Sequence[str], *, stored: int = 0) -> None:
        self.ids = tuple(ids)
        self.stored = stored  # of values submitted together, how many of the first are known to be stored
        listed = ", ".join(quoted(one) for one in self.ids[:3]) + (", …" if len(self.ids) > 3 else "")
        super().__init__(
            f"whether {len(self.ids)} submission(s) were stored is unknown ({listed}). Submit again with the same "
            "keys: what was stored is kept and is not doubled. If it stays so, the server acknowledges no writes: see "
            "its log (a full disk?), or run `roost doctor`."
        )


class HistoryMismatch(RoostError):
    """The code of a workflow asks for something else than its run has on record; the run is parked."""

    def __init__(self, *, run: str, operation: str, asked: str, recorded: str) -> None:
        self.run = run
        self.operation = operation
        self.asked = clean(asked)
        self.recorded = clean(recorded)
        super().__init__(
            f"run {quoted(run)} is parked: operation {quoted(operation)} asks for {self.asked}, on record is "
            f"{self.recorded}. Nothing was lost or guessed. Deploy code that fits the record (the run is tried again "
            "every minute), or fork the run from before that operation."
        )


# --- outcomes ---------------------------------------------------------------------------------------


class Letter(Protocol):
    """What an error needs to know of a dead letter."""

    @property
    def reason(self) -> str: ...
    @property
    def attempts(self) -> int: ...


class TaskDead(RoostError):
    """The task ended as a dead letter; `letter` has its reason, its last error and the history of attempts."""

    def __init__(self, letter: Letter, *, id: str) -> None:
        self.letter = letter
        self.id = id
        super().__init__(
            f"task {quoted(id)} is dead: {clean(letter.reason, 500)}. Its input and history are kept as a dead letter, "
            "from which it can be replayed."
        )


class TaskCancelled(RoostError):
    """The task was cancelled. It is no `asyncio.CancelledError`: the caller's own task goes on."""

    def __init__(self, *, by: str, reason: str, id: str) -> None:
        self.by = clean(by)
        self.reason = clean(reason, 500)
        self.id = id
        because = f": {self.reason}" if self.reason else ""
        super().__init__(
            f"task {quoted(id)} was cancelled by {self.by}{because}. Its record is kept. Submit it with another key "
            "to run it after all."
        )
