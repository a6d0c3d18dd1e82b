"""What all contracts share: a name, limits, and codecs that are built at first use.

Contracts have no slots: `Task[In, Out](...)` sets an attribute on the new value, which a frozen dataclass with
slots answers on Python 3.11 with an error that `typing` does not expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_origin

from roost._retry import check_seconds
from roost._text import quoted
from roost.codec import MOST_BYTES, Codec, Limits
from roost.errors import ConfigError
from roost.subjects import contract_name

DEFAULT_LIMITS = Limits()
Upgrade = Callable[[Any], Any]
"""Of the parsed JSON of one version of an input, that of the next."""
MOST_VERSION = 999_999


@dataclass(frozen=True)
class Contract:
    """The base of all contracts. `_roles` names the fields that are types of payloads, and their codecs."""

    name: str
    limits: Limits = field(default=DEFAULT_LIMITS, kw_only=True, repr=False)

    kind: ClassVar[str]
    _roles: ClassVar[Mapping[str, str]]

    def __post_init__(self) -> None:
        contract_name(self.name)
        self._check()

    def prepare(self) -> None:
        """Builds every validator now. ConfigError if a type is none that pydantic can handle."""
        for codec in self._roles.values():
            getattr(self, codec)

    def json_schema(self) -> dict[str, Any]:
        """`kind`, `name`, and under each role (`input`, `output`, `chunk`, `model`) its JSON Schema.

        `version` as well, if it is above 1.
        """
        schemas = {role: getattr(self, codec).json_schema() for role, codec in self._roles.items()}
        version = getattr(self, "version", 1)
        later = {"version": version} if version > 1 else {}
        return {"kind": self.kind, "name": self.name, **later, **schemas}

    def _codec(self, role: str) -> Codec[Any]:
        try:
            return Codec(getattr(self, role), limits=self.limits)
        except ConfigError as error:
            raise ConfigError(f"{self}: {role}: {error}") from error

    def _check(self) -> None:
        for role in self._roles:
            model = getattr(self, role)
            if not (isinstance(model, type) or get_origin(model) is not None or model is Any):
                raise ConfigError(
                    f"{self}: {role} = {quoted(model)}: must be a type, such as a pydantic model."
                )
        if not isinstance(self.limits, Limits):
            raise ConfigError(f"{self}: limits = {quoted(self.limits)}: must be roost.Limits.")
        if self.limits.max_bytes > MOST_BYTES:
            raise ConfigError(
                f"{self}: limits: max_bytes = {self.limits.max_bytes}: must be at most {MOST_BYTES} (64 MiB). Keep "
                "larger data in a store of your own, and send a path."
            )

    def _check_seconds(self, name: str, *, least: float = 0) -> None:
        check_seconds(str(self), name, getattr(self, name), least=least)

    def _check_optional_seconds(self, name: str) -> None:
        if getattr(self, name) is not None:
            self._check_seconds(name)

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.name!r}"


def check_version(contract: Contract, version: object) -> None:
    """Raises ConfigError."""
    if type(version) is not int or not 1 <= version <= MOST_VERSION:
        raise ConfigError(
            f"{contract}: version = {quoted(version)}: must be an int from 1 to {MOST_VERSION}."
        )


def check_upgrade(contract: Contract, version: int, upgrade: object) -> None:
    """Raises ConfigError."""
    if not isinstance(upgrade, Mapping) or not all(map(callable, upgrade.values())):
        raise ConfigError(f"{contract}: upgrade = {quoted(upgrade)}: must map versions to functions.")
    for one in upgrade:
        if type(one) is not int or not 1 <= one < version:
            raise ConfigError(
                f"{contract}: upgrade[{quoted(one)}]: must be an earlier version than {version}, such as upgrade="
                "{1: from_1_to_2}."
            )
