"""Roost: multi-agent systems over NATS.

Everything public is here; what is reached through an underscore or a submodule may change. Names are loaded
at first use, so `import roost` costs next to nothing: the pytest plugin and the command line's help start at
once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from roost.agent import Agent
    from roost.bus import Bus
    from roost.connecting import connect
    from roost.context import Context
    from roost.contracts import (
        Address,
        BreakerPolicy,
        Endpoint,
        Limits,
        Retry,
        Signal,
        StreamEndpoint,
        Task,
        Topic,
        Workflow,
    )
    from roost.discovery import AgentChange, AgentInfo, AgentWatch, HandlerInfo
    from roost.errors import (
        BreakerOpen,
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
    from roost.messaging import Answer
    from roost.observe import Event, Explanation, Export, Receiver
    from roost.pictures.breakers import BreakerStrip, breaker_strip
    from roost.pictures.card import ConnectionCard, connection_card
    from roost.pictures.flow import FlowPicture, flow_picture
    from roost.pictures.latency import LatencyPicture, latency_picture
    from roost.pictures.load import LoadPicture, load_picture
    from roost.pictures.matrix import DeliveryMatrix, delivery_matrix
    from roost.pictures.of_run import Timeline, timeline
    from roost.resilience import CircuitBreaker
    from roost.runs import Run
    from roost.server import local_cluster, local_server
    from roost.settings import TLS, Credentials
    from roost.tasks import Attempt, Cancelled, Chunk, Dead, DeadLetter, Done, Handle, Outcome
    from roost.tasks.schedules import Schedule
    from roost.transport import JetStreamStatus, ServerStatus

_HOMES = {
    "roost.agent": "Agent",
    "roost.bus": "Bus",
    "roost.connecting": "connect",
    "roost.context": "Context",
    "roost.contracts": "Address BreakerPolicy Endpoint Limits Retry Signal StreamEndpoint Task Topic Workflow",
    "roost.errors": (
        "BreakerOpen ConfigError ConfigMismatch Conflict ConnectError ConnectionClosed DeadlineExceeded Disconnected "
        "HistoryMismatch InvalidMessage JetStreamError NoResponders NotConnected Overloaded "
        "PermissionDenied Reject RemoteError RequestTimeout RetryLater RoostError ServerUnavailable "
        "StoreFull StreamMissing SubmissionUnknown TaskCancelled TaskDead TooLarge UnsafeToken WrongLoop "
    ),
    "roost.discovery": "AgentChange AgentInfo AgentWatch HandlerInfo",
    "roost.messaging": "Answer",
    "roost.observe": "Event Explanation Export Receiver",
    "roost.pictures.breakers": "BreakerStrip breaker_strip",
    "roost.pictures.card": "ConnectionCard connection_card",
    "roost.pictures.flow": "FlowPicture flow_picture",
    "roost.pictures.latency": "LatencyPicture latency_picture",
    "roost.pictures.load": "LoadPicture load_picture",
    "roost.pictures.matrix": "DeliveryMatrix delivery_matrix",
    "roost.pictures.of_run": "Timeline timeline",
    "roost.resilience": "CircuitBreaker",
    "roost.runs": "Run",
    "roost.server": "local_cluster local_server",
    "roost.settings": "TLS Credentials",
    "roost.tasks": "Attempt Cancelled Chunk Dead DeadLetter Done Handle Outcome",
    "roost.tasks.schedules": "Schedule",
    "roost.transport": "JetStreamStatus ServerStatus",
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
    "TLS",
    "Address",
    "Agent",
    "AgentChange",
    "AgentInfo",
    "AgentWatch",
    "Answer",
    "Attempt",
    "BreakerOpen",
    "BreakerPolicy",
    "BreakerStrip",
    "Bus",
    "Cancelled",
    "Chunk",
    "CircuitBreaker",
    "ConfigError",
    "ConfigMismatch",
    "Conflict",
    "ConnectError",
    "ConnectionCard",
    "ConnectionClosed",
    "Context",
    "Credentials",
    "Dead",
    "DeadLetter",
    "DeadlineExceeded",
    "DeliveryMatrix",
    "Disconnected",
    "Done",
    "Endpoint",
    "Event",
    "Explanation",
    "Export",
    "FlowPicture",
    "Handle",
    "HandlerInfo",
    "HistoryMismatch",
    "InvalidMessage",
    "JetStreamError",
    "JetStreamStatus",
    "LatencyPicture",
    "Limits",
    "LoadPicture",
    "NoResponders",
    "NotConnected",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "Receiver",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "Retry",
    "RetryLater",
    "RoostError",
    "Run",
    "Schedule",
    "ServerStatus",
    "ServerUnavailable",
    "Signal",
    "StoreFull",
    "StreamEndpoint",
    "StreamMissing",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskDead",
    "Timeline",
    "TooLarge",
    "Topic",
    "UnsafeToken",
    "Workflow",
    "WrongLoop",
    "__version__",
    "breaker_strip",
    "connect",
    "connection_card",
    "delivery_matrix",
    "flow_picture",
    "latency_picture",
    "load_picture",
    "local_cluster",
    "local_server",
    "timeline",
]
