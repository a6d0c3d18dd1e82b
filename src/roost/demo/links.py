"""Whether the links of a Markdown file lead somewhere: files on this disk, anchors in them.

Web addresses are only counted: asking strangers' servers is slow, and their answer today says little of tomorrow.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from urllib.parse import unquote

from roost._text import clean
from roost.demo.contracts import MOST, TEXT, BrokenLink, LinkReport
from roost.demo.digest import is_markdown
from roost.demo.linkfind import Link, find_links
from roost.demo.markdown import anchors
from roost.demo.scan import NotText, is_under, read_text

_scheme = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:").match  # of two letters at least: `c:` is a drive
_line_anchor = re.compile(r"L[0-9]+(C[0-9]+)?(-L[0-9]+(C[0-9]+)?)?").fullmatch


def check_links(root: str, path: str, text: str) -> LinkReport:
    """Every link of the Markdown `text` of the file `path` under `root`."""
    own = anchors(text)
    checked = external = 0
    broken: list[BrokenLink] = []
    for link in find_links(text):
        if link.target is not None and is_external(link.target):
            external += 1
            continue
        checked += 1
        reason = _complaint(root, path, link, own)
        if reason:
            shown = f"[{link.label}]" if link.target is None else link.target
            broken.append(BrokenLink(line=link.line, target=clean(shown, TEXT), reason=reason))
    return LinkReport(
        path=path,
        checked=checked,
        external=external,
        broken=broken[:MOST],
        more_broken=max(0, len(broken) - MOST),
    )


def is_external(target: str) -> bool:
    """Whether a target names a scheme (`https:`, `mailto:`) or another host (`//host/path`)."""
    return target.startswith("//") or _scheme(target) is not None


def _complaint(root: str, path: str, link: Link, own: frozenset[str]) -> str:
    """What is wrong with a link; empty if it leads somewhere."""
    if link.target is None:
        return "no definition of this label"
    before, _, fragment = link.target.partition("#")
    wanted = unquote(before.partition("?")[0])
    fragment = unquote(fragment)
    if "\0" in wanted or not _encodable(wanted):
        return "no such file"
    if not wanted:
        return _anchor_complaint(own, fragment, "here")
    folder = (
        "" if wanted.startswith("/") else os.path.dirname(path)
    )  # GitHub: `/` is the top of the repository
    whole = os.path.normpath(os.path.join(root, folder, wanted.lstrip("/")))
    if not is_under(whole, os.path.normpath(root)):
        return "leaves the audited folder"
    if not os.path.lexists(whole):
        return "no such file"
    if not os.path.exists(whole):
        return "a symbolic link to nothing"
    if not fragment:
        return ""
    if os.path.isdir(whole):  # GitHub shows its README
        whole = os.path.join(whole, "README.md")
    found = anchors_of(root, os.path.relpath(whole, root))
    return "" if found is None else _anchor_complaint(found, fragment, "there")


def _anchor_complaint(known: frozenset[str], fragment: str, where: str) -> str:
    if fragment.lower() in known or fragment.lower() in ("", "top") or _line_anchor(fragment):
        return ""
    return f"no such anchor {where}"


def anchors_of(root: str, path: str) -> frozenset[str] | None:
    """The anchors of another file under `root`; None if it is none whose anchors can be known."""
    if not is_markdown(path):
        return None
    try:
        about = os.stat(os.path.join(root, path))
        return _anchors_of(root, path, about.st_mtime_ns, about.st_size)
    except (OSError, NotText):
        return None


@lru_cache(maxsize=512)
def _anchors_of(root: str, path: str, changed_ns: int, size: int) -> frozenset[str]:
    """Many files link to the same few: these are read once, as long as they do not change."""
    return anchors(read_text(root, path)[0])


def _encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
