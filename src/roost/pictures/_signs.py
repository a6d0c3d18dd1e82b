"""The small signs of a timeline: a death, a cancellation, another attempt, a resumption, who went on. Pure."""

from __future__ import annotations

from roost.pictures._svg import number, tag


def cross(x: float, y: float) -> list[str]:
    line = f"M{number(x - 3.5)} {number(y - 3.5)}l7 7m-7 0l7 -7"
    return [tag("path", class_="halo", fill="none", d=line), tag("path", class_="cross", d=line)]


def stop(x: float, y: float) -> list[str]:
    line = f"M{number(x)} {number(y - 4)}v8"
    return [tag("path", class_="halo", fill="none", d=line), tag("path", class_="stop", d=line)]


def arrow(x: float, y: float) -> str:
    """A small triangle before a bar: it is not the first attempt."""
    return tag("path", class_="retry", d=f"M{number(x - 5)} {number(y - 4)}l5 4l-5 4z")


def resumed(x: float, y: float) -> str:
    """Two triangles before a bar: another coordinator went on with the run."""
    first = f"M{number(x - 9)} {number(y - 4)}l4.5 4l-4.5 4z"
    return tag("path", class_="resumed", d=f"{first}M{number(x - 4.5)} {number(y - 4)}l4.5 4l-4.5 4z")


def handover(x: float, y: float, to_x: float, to_y: float) -> str:
    """An arrow from where an attempt ended to where the next one of its task stands, in another lane."""
    down = 1 if to_y > y else -1
    to = to_y - down * 7
    if abs(to_x - x) < 6:
        line = f"M{number(x)} {number(y + down * 6)}V{number(to)}"
    else:
        middle = (y + to_y) / 2
        line = (
            f"M{number(x)} {number(y + down * 6)}"
            f"C{number(x)} {number(middle)} {number(to_x)} {number(middle)} {number(to_x)} {number(to)}"
        )
    back = number(to - down * 4)
    head = f"M{number(to_x - 3)} {back}L{number(to_x)} {number(to)}L{number(to_x + 3)} {back}"
    return tag("path", class_="handover", d=line + head)
