"""Who did how many: a bar for each worker, subscription or whatever was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError
from roost.pictures import _load
from roost.pictures._frame import Shown
from roost.pictures._lanes import natural


@dataclass(frozen=True, slots=True)
class LoadPicture(Shown):
    """Made by `load_picture`. A notebook shows it as a picture, a terminal as text."""

    counts: Mapping[str, int]
    title: str = "Load"
    unit: str = "messages"

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide, for light and dark, with alternative text and without scripts."""
        return _load.draw_svg(self._scene(), self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        return _load.draw_text(self._scene(), self.title, max(40, width))

    def __repr__(self) -> str:
        return f"LoadPicture({self.title!r}: {', '.join(self._scene().summary())})"

    def _scene(self) -> _load.Loads:
        return _load.loads(self.counts, self.unit)


def load_picture(
    counts: Mapping[str, int] | Iterable[str], *, title: str = "Load", unit: str = "messages"
) -> LoadPicture:
    """Who did how many, with counts, shares and the total: ``load_picture(worker for worker, _ in handled)``.

    `counts` are numbers by name, drawn in their order, or the name of whoever did it once for each of what was done,
    which are counted here and drawn in the order of the names ("w2" before "w10"). Of more than 30 names those with
    most have bars of their own and the rest one together; the picture says so. `unit` is what was counted, in the
    plural. Raises ConfigError (a ValueError) for a name that is no text and a count that is no whole number from 0.
    """
    if isinstance(counts, str | bytes):
        raise ConfigError(
            f"load_picture counts names, and got one text, {quoted(counts)}; give a list of names or a dict of counts"
        )
    if not isinstance(counts, Mapping):
        found = Counter(map(_name, counts))
        counts = {name: found[name] for name in sorted(found, key=natural)}
    for name, count in counts.items():
        _name(name)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ConfigError(
                f"the count of {quoted(name)} is {quoted(count)}; load_picture takes whole numbers from 0"
            )
    return LoadPicture(dict(counts), title, unit)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{quoted(value)} is no name; load_picture takes names as str")
    return value


__all__ = ["LoadPicture", "load_picture"]
