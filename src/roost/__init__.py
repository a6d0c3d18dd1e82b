"""Roost: multi-agent systems over NATS.

Everything public is here; what is reached through an underscore or a submodule may change. Names are loaded
at first use, so `import roost` costs next to nothing: the pytest plugin and the command line's help start at
once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roost.agent import Agent
    from roost.bus import Bus, connect
    from roost.context import Context
    from roost.contracts import Address, Endpoint, Retry, Signal, StreamEndpoint, Task, Topic, Workflow
    from roost.errors import (
        ConfigError,
        ConfigMismatch,
        Conflict,
        ConnectError,
        ConnectionClosed,
        DeadlineExceeded,
        Disconnected,
        HistoryMismatch,
        InvalidMessage,
        JetStreamError,
        NoResponders,
        NotConnected,
        Overloaded,
        PermissionDenied,
        Reject,
        RemoteError,
        RequestTimeout,
        RetryLater,
        RoostError,
        ServerUnavailable,
        StoreFull,
        StreamMissing,
        SubmissionUnknown,
        TaskCancelled,
        TaskDead,
        TooLarge,
        UnsafeToken,
        WrongLoop,
    )
    from roost.observe import Event
    from roost.runs import Run
    from roost.server import local_server
    from roost.tasks import Attempt, Cancelled, Chunk, Dead, DeadLetter, Done, Handle, Outcome

__version__ = "0.1.0"

_HOMES = {
    "roost.agent": "Agent",
    "roost.bus": "Bus connect",
    "roost.context": "Context",
    "roost.contracts": "Address Endpoint Retry Signal StreamEndpoint Task Topic Workflow",
    "roost.errors": (
        "ConfigError ConfigMismatch Conflict ConnectError ConnectionClosed DeadlineExceeded Disconnected "
        "HistoryMismatch InvalidMessage JetStreamError NoResponders NotConnected Overloaded "
        "PermissionDenied Reject RemoteError RequestTimeout RetryLater RoostError ServerUnavailable "
        "StoreFull StreamMissing SubmissionUnknown TaskCancelled TaskDead TooLarge UnsafeToken WrongLoop "
    ),
    "roost.observe": "Event",
    "roost.runs": "Run",
    "roost.server": "local_server",
    "roost.tasks": "Attempt Cancelled Chunk Dead DeadLetter Done Handle Outcome",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'roost' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return [*__all__]


__all__ = [
    "Address",
    "Agent",
    "Attempt",
    "Bus",
    "Cancelled",
    "Chunk",
    "ConfigError",
    "ConfigMismatch",
    "Conflict",
    "ConnectError",
    "ConnectionClosed",
    "Context",
    "Dead",
    "DeadLetter",
    "DeadlineExceeded",
    "Disconnected",
    "Done",
    "Endpoint",
    "Event",
    "Handle",
    "HistoryMismatch",
    "InvalidMessage",
    "JetStreamError",
    "NoResponders",
    "NotConnected",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "Retry",
    "RetryLater",
    "RoostError",
    "Run",
    "ServerUnavailable",
    "Signal",
    "StoreFull",
    "StreamEndpoint",
    "StreamMissing",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskDead",
    "TooLarge",
    "Topic",
    "UnsafeToken",
    "Workflow",
    "WrongLoop",
    "__version__",
    "connect",
    "local_server",
]
