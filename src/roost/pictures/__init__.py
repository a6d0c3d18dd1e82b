"""Pictures of what happened, drawn from plain values: SVG for people's eyes, text for terminals and logs.

A picture takes frozen values (`roost.tasks.history` and the like) and returns a string. No file, no
connection, no clock is touched, so that the same values give the same picture everywhere; and nothing is left
out of one without the picture saying so. Only `of_run.py` reads: it gets the values of a run from the log.
"""

from roost.pictures.timeline import Timeline

__all__ = ["Timeline"]
