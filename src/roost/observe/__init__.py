"""What can be seen of a running bus: counters, events, trace identifiers.

Nothing here sends or receives messages.
"""

from roost.observe.journal import Event, Journal
from roost.observe.lifecycle import open_recorded
from roost.observe.loopwatch import LoopWatch
from roost.observe.trace import Trace

__all__ = ["Event", "Journal", "LoopWatch", "Trace", "open_recorded"]
