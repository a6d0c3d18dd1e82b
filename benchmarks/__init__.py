"""Measures of speed, as ratios to an equal floor in plain nats-py; run with `python -m benchmarks.spine`.

Nothing here is imported by the product. The floor and Roost do the same work on the same server in the same
processes; `README.md` states the method and what came out of it, the losses too.
"""
