"""Core messaging: typed publish and subscribe, typed request and reply, and how handlers are scheduled.

At most once, fail-fast, no storage: what must not be lost is a task (`roost.tasks`).
"""

from roost.messaging.endpoints import EndpointServer, ask
from roost.messaging.gather import Answer, ask_all
from roost.messaging.pool import Pool
from roost.messaging.streams import Answers, StreamServer, ask_back, open_stream
from roost.messaging.topics import TopicReader, publish

__all__ = [
    "Answer",
    "Answers",
    "EndpointServer",
    "Pool",
    "StreamServer",
    "TopicReader",
    "ask",
    "ask_all",
    "ask_back",
    "open_stream",
    "publish",
]
