"""From ``module:attribute`` to the agent, or to one sentence on why there is none.

A mistyped name must not end in forty lines of traceback from `importlib`. What the module itself raises is
told with the place in the user's own code, because that is where it has to be mended.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from roost._text import clean, quoted
from roost.agent import Agent
from roost.errors import ConfigError

_PACKAGE = str(Path(__file__).parent.parent)
_STANDARD = tuple({sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib")})


def check_target(target: str) -> tuple[str, str]:
    """Module and attribute of a target. Raises ConfigError if it is not written like one."""
    module, colon, attribute = target.partition(":") if isinstance(target, str) else ("", "", "")
    if module.endswith(".py") or "/" in module:
        proposed = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(
            f"{quoted(target)} names a file; name the module: {proposed}:{attribute or 'agent'}"
        )
    if not colon or not all(map(str.isidentifier, [*module.split("."), *attribute.split(".")])):
        raise ConfigError(f"{quoted(target)} names no agent; write module:agent, such as shop.agents:packer")
    return module, attribute


def load_agent(target: str) -> Agent[Any]:
    """The agent that ``module:attribute`` names; imports the module. Raises ConfigError with the reason."""
    found = load(target)
    if not isinstance(found, Agent):
        raise ConfigError(f"{target} is no roost.Agent but {quoted(found)}")
    return found


def load(target: str) -> Any:
    """Whatever ``module:attribute`` names; imports the module. Raises ConfigError with the reason."""
    module_name, attribute = check_target(target)
    module = _imported(module_name)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(
                f"module {module_name} has no {attribute!r}{_hint(module, module_name)}"
            ) from None
    return found


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r} (looked in {clean(str(Path.cwd()))} and what is installed)"
            ) from error
        raise ConfigError(_broken(name, error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_broken(name, error)) from error


def _broken(name: str, error: BaseException) -> str:
    """Why a module cannot be imported, with the last place in the user's own code, and where it was raised."""
    said = f"{type(error).__name__}: {clean(str(error), 500)}" if str(error) else type(error).__name__
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not _is_machinery(one.filename)]
    if not frames:
        return f"module {name} cannot be imported: {said}"
    own = next((one for one in reversed(frames) if not _is_installed(one.filename)), None)
    inner = frames[-1]
    places = _place(inner) if own is None else _place(own)
    if own is not None and own is not inner:
        places += f"; raised in {_place(inner)}"
    if isinstance(error, SyntaxError):  # its text has the place of the mistake, this is who imports it
        return f"module {name} cannot be imported: {said}; imported in {places}"
    return f"module {name} cannot be imported: {said} ({places})"


def _place(frame: traceback.FrameSummary) -> str:
    return f"{clean(_shown(frame.filename))}, line {frame.lineno}"


def _is_installed(filename: str) -> bool:
    """Whether a file belongs to Python itself or to an installed package, and not to whoever runs this."""
    return "site-packages" in filename or "dist-packages" in filename or filename.startswith(_STANDARD)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(("<frozen", _PACKAGE)) or filename == importlib.__file__


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _hint(module: ModuleType, name: str) -> str:
    agents = sorted(key for key, value in vars(module).items() if isinstance(value, Agent))
    return (
        f"; its agents are {', '.join(f'{name}:{key}' for key in agents)}"
        if agents
        else " and no other agent"
    )
