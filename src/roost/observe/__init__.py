"""What can be seen of a running bus: counters, events, trace identifiers, and who would get a message.

Nothing here sends or receives messages but `explain.py`, and what that sends is delivered to nobody.
"""

from roost.observe._explanation import Explanation, Export, Receiver
from roost.observe.journal import Event, Journal
from roost.observe.lifecycle import open_recorded
from roost.observe.loopwatch import LoopWatch
from roost.observe.trace import Trace

__all__ = [
    "Event",
    "Explanation",
    "Export",
    "Journal",
    "LoopWatch",
    "Receiver",
    "Trace",
    "open_recorded",
]
