"""Which files are audited, and the reason of each that is not."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roost.demo import listing
from roost.demo.contracts import Part, Skipped
from roost.demo.listing import Listing, place
from roost.demo.scan import MAX_BYTES, NotText, read_text, scan
from roost.demo.write import outputs

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user could reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name).resolve()


@contextmanager
def nobody() -> Iterator[None]:
    """Without the powers of root, whom no file refuses."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def put(root: Path, path: str, data: bytes | str = "text\n") -> Path:
    whole = root / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_bytes(data if isinstance(data, bytes) else data.encode())
    return whole


def files(root: Path) -> list[str]:
    return [one for one in scan(root) if isinstance(one, str)]


def skipped(root: Path) -> dict[str, str]:
    return {one.path: one.reason for one in scan(root) if isinstance(one, Skipped)}


def test_text_files_are_found_in_order_of_their_folders(folder: Path) -> None:
    for path in ("b.md", "a/z.py", "a/b/c.txt", "Makefile", ".gitignore"):
        put(folder, path)
    assert files(folder) == [".gitignore", "Makefile", "b.md", "a/z.py", "a/b/c.txt"]
    assert skipped(folder) == {}


@pytest.mark.parametrize("name", [".git", ".venv", "node_modules", "__pycache__", "venv", ".hidden"])
def test_folders_that_are_nobodys_work_are_left_out_silently(folder: Path, name: str) -> None:
    put(folder, "kept.md")
    put(folder, f"{name}/left.md")
    put(folder, f"deep/{name}/left.md")
    assert files(folder) == ["kept.md"]
    assert skipped(folder) == {}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x00", "binary"),
        (b"caf\xe9 au lait", "not UTF-8"),
        (b"ends in the middle of a letter \xc3", "not UTF-8"),
        (b"x" * (MAX_BYTES + 1), "too large: 4.0 MiB, at most 4 are read"),
    ],
)
def test_what_is_no_text_is_skipped_with_its_reason(folder: Path, data: bytes, reason: str) -> None:
    put(folder, "bad", data)
    assert files(folder) == []
    assert skipped(folder) == {"bad": reason}


def test_a_letter_cut_by_the_end_of_the_first_look_is_no_fault(folder: Path) -> None:
    put(folder, "long.txt", "x" * 8191 + "é and more")
    assert files(folder) == ["long.txt"]


def test_an_empty_file_is_text(folder: Path) -> None:
    put(folder, "empty", b"")
    assert files(folder) == ["empty"]


def test_loops_and_links_are_not_followed(folder: Path) -> None:
    put(folder, "a/one.md")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "again.md").symlink_to(folder / "a" / "one.md")
    (folder / "gone.md").symlink_to(folder / "nothing")
    assert files(folder) == ["a/one.md"]
    assert skipped(folder) == dict.fromkeys(
        ("again.md", "gone.md", "a/loop"), "a symbolic link, not followed"
    )


def test_what_may_not_be_read_is_skipped(folder: Path) -> None:
    put(folder, "open.md")
    put(folder, "secret.md").chmod(0)
    put(folder, "locked/in.md")
    (folder / "locked").chmod(0)
    with nobody():
        found, reasons = files(folder), skipped(folder)
    (folder / "locked").chmod(0o755)
    assert found == ["open.md"]
    assert reasons == {"secret.md": "permission denied", "locked": "folder cannot be read: permission denied"}


def test_pipes_and_sockets_are_skipped_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        assert skipped(folder) == {"pipe": "not a regular file", "socket": "not a regular file"}


def test_a_name_that_is_no_unicode_is_skipped_and_can_be_shown(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("x")
    found = skipped(folder)
    assert list(found.values()) == ["its name is not valid UTF-8"]
    assert all(path.encode() for path in found)


def test_a_folder_that_cannot_be_listed_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(scan(folder / "nothing"))


async def parts(listed: Listing) -> list[Part]:
    """All parts of a list, each after the last."""
    found = [await listed.part("")]
    while not found[-1].last:
        found.append(await listed.part(found[-1].files[-1]))
    return found


async def test_the_output_of_another_audit_is_not_audited(folder: Path) -> None:
    put(folder, "kept.md")
    put(folder, "roost-demo/report.md")
    assert (await Listing(folder, folder / "roost-demo").part("")).files == ["kept.md"]


async def test_an_output_in_the_audited_folder_itself_leaves_the_rest_to_be_audited(folder: Path) -> None:
    for path in ("kept.md", "report.md", "report.json", "timeline.svg"):
        put(folder, path)
    assert (await Listing(folder, folder).part("")).files == ["kept.md"]
    assert folder not in outputs(folder / "sub", folder)


async def test_more_skipped_files_than_a_record_carries_are_counted(folder: Path) -> None:
    for number in range(1200):
        put(folder, f"{number:0200}.bin", b"\0")
    (part,) = await parts(Listing(folder, folder / "out"))
    assert len(part.skipped) + part.more_skipped == 1200
    assert part.more_skipped > 0
    assert len(part.model_dump_json()) < 256 * 1024


@pytest.mark.parametrize("anew", [False, True], ids=["by one coordinator", "by another one for each part"])
async def test_a_long_list_comes_in_parts_that_lack_and_double_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    monkeypatch.setattr(listing, "FILES_BYTES", 50)
    paths = ("a b.md", "b.md", "z.md", "a/0.py", "a/z.py", "a/b/c.txt", "a b/c.md", "c/d.md")
    for path in paths:
        put(folder, path)
    for path in ("0.bin", "c.bin", "a/b/zz.bin", "c/e.bin"):
        put(folder, path, b"\0")
    whole = list(scan(folder))
    listed, found = Listing(folder, folder / "out"), [Part()]
    while not found[-1].last:
        after = found[-1].files[-1] if found[-1].files else ""
        found.append(await (Listing(folder, folder / "out") if anew else listed).part(after))
    assert len(found) > 4
    assert [path for part in found for path in part.files] == [one for one in whole if isinstance(one, str)]
    assert [one for part in found for one in part.skipped] == [
        one for one in whole if isinstance(one, Skipped)
    ]
    assert sorted(files(folder), key=place) == files(folder)


async def test_a_list_goes_on_behind_a_file_that_is_gone(folder: Path) -> None:
    for path in ("a.md", "c.md", "d/e.md"):
        put(folder, path)
    assert (await Listing(folder, folder / "out").part("b.md")).files == ["c.md", "d/e.md"]


# --- reading ----------------------------------------------------------------------------------------


def test_a_file_is_read_without_its_byte_order_mark(folder: Path) -> None:
    put(folder, "a.md", "\ufeffhello")
    assert read_text(str(folder), "a.md") == ("hello", 8)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone.md", "it was gone when it was read"),
        ("../outside.md", "it is outside the audited folder"),
        ("link.md", "it is outside the audited folder"),
        ("late.md", "not UTF-8 (byte 10000)"),
        ("nul.md", "binary"),
        ("folder", "is a directory"),
    ],
)
def test_a_file_that_turns_out_to_be_none_says_why(folder: Path, path: str, reason: str) -> None:
    (folder / "link.md").symlink_to("/etc/hostname")
    put(folder, "late.md", b"x" * 10_000 + b"\xff")
    put(folder, "nul.md", b"\0")
    (folder / "folder").mkdir()
    with pytest.raises(NotText, match=f"^{reason.replace('(', '[(]').replace(')', '[)]')}$"):
        read_text(str(folder), path)
