"""Core messaging: typed publish and subscribe, typed request and reply, and how handlers are scheduled.

At most once, fail-fast, no storage: what must not be lost is a task (`roost.tasks`).
"""

from roost.messaging.endpoints import EndpointServer, ask
from roost.messaging.pool import Pool
from roost.messaging.streams import StreamServer, open_stream
from roost.messaging.topics import TopicReader, publish

__all__ = ["EndpointServer", "Pool", "StreamServer", "TopicReader", "ask", "open_stream", "publish"]
