"""The one error of faults that a machine cannot make."""

from __future__ import annotations

from roost.errors import RoostError


class FaultUnavailable(RoostError):
    """This machine cannot make the fault; nothing was changed. The text says what is missing."""
