"""What one handler of one instance has done so far: plain numbers, counted as it goes, read only when asked for."""

from __future__ import annotations

from time import perf_counter_ns

from roost._text import clean
from roost.errors import RetryLater

ERROR_TEXT = 500


class Tally:
    """`handled` calls ended well, `errors` did not; `spent_ns` is what all of them took in the handler."""

    __slots__ = ("errors", "handled", "last_error", "spent_ns")

    def __init__(self) -> None:
        self.handled = 0
        self.errors = 0
        self.spent_ns = 0
        self.last_error = ""

    def done(self, began_ns: int) -> None:
        """A call that began at `began_ns` (`time.perf_counter_ns`) ended well."""
        self.spent_ns += perf_counter_ns() - began_ns
        self.handled += 1

    def failed(self, began_ns: int, error: BaseException) -> None:
        """A call raised this. `RetryLater` is no error: the handler said what it wants."""
        self.spent_ns += perf_counter_ns() - began_ns
        if not isinstance(error, RetryLater):
            self.refused(_described(error))

    def spent(self, began_ns: int) -> None:
        """A call ended; how is counted elsewhere."""
        self.spent_ns += perf_counter_ns() - began_ns

    def refused(self, text: str) -> None:
        """An error was the answer, whether or not the handler ran."""
        self.errors += 1
        self.last_error = text

    @property
    def last(self) -> str:
        """The last error as one printable line; empty when there was none."""
        return clean(self.last_error, ERROR_TEXT)


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:ERROR_TEXT]}"
    except Exception as broken:  # the text of a user's exception is a user's code
        return f"{type(error).__name__} (its text cannot be had: {type(broken).__name__})"
