"""Keeping a failure from spreading: circuit breakers and the budget of retries.

The arithmetic (`circuit.py`, `budget.py`) is pure: time and randomness are passed in. Nothing here sends messages;
`roost.messaging` and `roost.tasks` ask before they do.
"""

from roost._breaker import BreakerPolicy
from roost.resilience.breaker import CircuitBreaker
from roost.resilience.budget import RetryBudget
from roost.resilience.circuit import Circuit, Permit

__all__ = ["BreakerPolicy", "Circuit", "CircuitBreaker", "Permit", "RetryBudget"]
