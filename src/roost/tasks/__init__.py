"""Durable tasks on the log: records, submission, the worker loop, outcomes, dead letters.

Nothing here knows of agents or of handlers' shapes.
"""

from roost.tasks.dead import find_dead, list_dead, note_replay, replay_ref
from roost.tasks.delivery import Delivery
from roost.tasks.desk import Desk
from roost.tasks.handle import Handle
from roost.tasks.history import Attempt, TaskHistory
from roost.tasks.log import Log
from roost.tasks.marks import marks_of
from roost.tasks.once import Effects, once
from roost.tasks.outcome import Cancelled, Dead, DeadLetter, Done, Outcome
from roost.tasks.progress import Chunk, Emitter
from roost.tasks.records import Ref, end_codec
from roost.tasks.reporter import Reporter
from roost.tasks.submit import Item, Submitter, new_id
from roost.tasks.waiting import Waiter
from roost.tasks.worker import Worker

__all__ = [
    "Attempt",
    "Cancelled",
    "Chunk",
    "Dead",
    "DeadLetter",
    "Delivery",
    "Desk",
    "Done",
    "Effects",
    "Emitter",
    "Handle",
    "Item",
    "Log",
    "Outcome",
    "Ref",
    "Reporter",
    "Submitter",
    "TaskHistory",
    "Waiter",
    "Worker",
    "end_codec",
    "find_dead",
    "list_dead",
    "marks_of",
    "new_id",
    "note_replay",
    "once",
    "replay_ref",
]
