"""What the tests of pictures share: foreign text that means harm, and looking into an SVG."""

from __future__ import annotations

from xml.etree import ElementTree

from roost.pictures._frame import Shown
from roost.pictures._svg import width
from roost.pictures._timeline_text import cells

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script> & "quotes" \x1b[31m \x00 ]]> \u202e end'
PARTS = {"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "g", "circle"}


def drawn(picture: Shown) -> ElementTree.Element:
    """The root of a picture that keeps what every picture promises."""
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "text/plain"}
    root = ElementTree.fromstring(bundle["image/svg+xml"])
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= PARTS
    assert root.get("role") == "img"
    assert (root[0].tag, root[1].tag) == (f"{SVG}title", f"{SVG}desc")
    assert root[0].text == root.get("aria-label")
    assert "prefers-color-scheme:dark" in (root[2].text or "")
    assert "\x1b" not in bundle["text/plain"]
    for wide in (1, 63, 200):
        assert all(cells(line) <= max(40, wide) for line in picture.text(wide).splitlines())
    right, bottom = float(root.get("width") or 0), float(root.get("height") or 0)
    for one in root.iter(f"{SVG}rect"):
        x, y, long, high = (float(one.get(name) or 0) for name in ("x", "y", "width", "height"))
        assert long >= 0
        assert high >= 0
        assert 0 <= x <= x + long <= right + 0.11
        assert 0 <= y <= y + high <= bottom + 0.11 or one.get("class") is None
    return root


SIZES = {"title": 17.0, "summary": 12.5, "value": 12.5, "name": 12.0, "label": 10.5, "percent": 10.5}


def labels_are_apart(root: ElementTree.Element) -> None:
    """No text runs into another or out of the picture, as far as widths are known without the reader's font."""
    boxes = []
    for one in root.iter(f"{SVG}text"):
        looks = (one.get("class") or "").split()
        points = next((SIZES[look] for look in looks if look in SIZES), 11.0)
        long = width(one.text or "", points, bold=bool({"name", "title", "percent"} & set(looks)))
        left = size(one, "x") - long * {"middle": 0.5, "end": 1.0}.get(one.get("text-anchor", ""), 0.0)
        assert left >= 0, one.text
        assert left + long <= size(root, "width"), one.text
        boxes.append((left, size(one, "y") - points * 0.75, left + long, size(one, "y"), one.text))
    for number, box in enumerate(boxes):
        for other in boxes[number + 1 :]:
            apart = box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1]
            assert apart, (box, other)


def words(root: ElementTree.Element) -> str:
    """All that is written in a picture, without tooltips."""
    return " ".join(one.text or "" for one in root.iter(f"{SVG}text"))


def told(root: ElementTree.Element) -> str:
    return root[1].text or ""


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in (one.get("class") or "").split()]


def size(one: ElementTree.Element, name: str) -> float:
    return float(one.get(name) or 0)
