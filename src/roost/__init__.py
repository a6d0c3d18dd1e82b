"""Roost: multi-agent systems over NATS.

Everything public is here; what is reached through an underscore or a submodule may change.
"""

from typing import TYPE_CHECKING, Any

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
from roost.tasks import Attempt, Cancelled, Chunk, Dead, DeadLetter, Done, Handle, Outcome

if TYPE_CHECKING:
    from roost.server import local_server

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "local_server":  # loaded at first use: most programs have a server of their own
        from roost.server import local_server

        return local_server
    raise AttributeError(f"module 'roost' has no attribute {name!r}")


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
