"""Core messaging: typed publish and subscribe, typed request and reply, and how handlers are scheduled.

At most once, fail-fast, no storage: what must not be lost is a task (`roost.tasks`).
"""

from roost.messaging.endpoints import EndpointServer
from roost.messaging.gather import Answer
from roost.messaging.messenger import Messenger
from roost.messaging.pool import Pool
from roost.messaging.streams import Answers, StreamServer, ask_back
from roost.messaging.topics import TopicReader

__all__ = [
    "Answer",
    "Answers",
    "EndpointServer",
    "Messenger",
    "Pool",
    "StreamServer",
    "TopicReader",
    "ask_back",
]
