"""Seeded simulation: the real coordinator and worker code over a simulated server, in one thread and virtual time.

One seed is one history: when what is sent, lost, delayed or delivered twice, which process dies or is paused
at which of its steps, when the server forgets. The same seed gives the same history again, so a failure found
among thousands can be looked at as often as needed: ``python -m simulation --seed N --trace``.
"""
