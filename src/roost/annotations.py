"""Whether a handler's annotations fit its contract, said where it is registered and not in a dead letter.

A type checker says the same earlier; this is for those who do not run one. Only what is certainly wrong is
refused: annotations that cannot be resolved, unions, protocols, type variables and builtins are left alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_origin, get_type_hints

from roost.context import Context
from roost.contracts import StreamEndpoint, Topic, Workflow
from roost.errors import ConfigError
from roost.runs import Run


def check_annotations(function: Callable[..., Any], contract: Any) -> None:
    """Raises ConfigError for a first argument, a second or a result of another class than the contract's."""
    try:
        hints = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
    except Exception:  # forward references, callables without a signature: nothing is known then
        return
    name = getattr(function, "__qualname__", repr(function))
    wanted = contract.model if isinstance(contract, Topic) else contract.input
    if parameters:
        given = hints.get(parameters[0])
        if _class(given) in (Context, Run) or _foreign(given, wanted):
            raise ConfigError(
                f"handler {name} takes {_called(given)} first, but {contract} brings {_called(wanted)}; a handler gets "
                "(message) or (message, context)"
            )
    if len(parameters) > 1:
        surroundings = Run if isinstance(contract, Workflow) else Context
        given = _class(hints.get(parameters[1]))
        if given in (Context, Run) and given is not surroundings:
            raise ConfigError(
                f"handler {name} wants a {_called(given)}, but {contract} is handled with a {surroundings.__name__}"
            )
    if isinstance(contract, Topic | StreamEndpoint) or "return" not in hints:
        return
    given = hints["return"]
    if _foreign(given, contract.output) and _foreign(contract.output, given):
        raise ConfigError(
            f"handler {name} returns {_called(given)}, but the output of {contract} is {_called(contract.output)}"
        )


def _class(hint: Any) -> Any:
    return get_origin(hint) or hint


def _foreign(given: Any, wanted: Any) -> bool:
    """Whether a value of `wanted` is certainly no `given`."""
    if wanted is None:
        wanted = type(None)
    if not (_plain(given) and _plain(wanted)):
        return False
    return not issubclass(wanted, given)


def _plain(hint: Any) -> bool:
    """A class about which there is no doubt: no protocol, no builtin but None."""
    if not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return False
    return hint is type(None) or hint.__module__ not in ("builtins", "typing", "abc", "collections.abc")


def _called(hint: Any) -> str:
    return "nothing" if hint in (None, type(None)) else getattr(hint, "__name__", str(hint))
