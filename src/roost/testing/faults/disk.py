"""A disk of its own for a server's store: small enough to be filled, and one that can lose power.

It is a file system in a file (ext4, a loop device), so root on Linux is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from roost.testing.faults._unavailable import FaultUnavailable

MOST_MB = 4096


class Disk:
    """``with Disk(mb=64) as disk: LocalServer(ServerOptions(store_dir=disk.path / "store"))``.

    `mb` is its size in MiB (32 to 4,096). Entering raises FaultUnavailable where no disk can be made.
    """

    def __init__(self, mb: int = 64) -> None:
        if not 32 <= mb <= MOST_MB:
            raise ValueError(f"mb = {mb}: a disk of 32 to {MOST_MB} MiB can be made")
        self._mb = mb
        self._root: Path | None = None
        self._copied: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        if self._root is None:
            raise RuntimeError("this disk is not mounted: use it in a with block")
        return self._root / "disk"

    def __enter__(self) -> Self:
        check_disks()
        self._root = Path(tempfile.mkdtemp(prefix="roost-disk-"))
        try:
            if self._copied is not None:
                self._copied.rename(self._image)
            else:
                with self._image.open("wb") as file:
                    file.truncate(self._mb * 1024 * 1024)
                _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
            self.path.mkdir()
            _run("mount", "-o", "loop", str(self._image), str(self.path))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=False)
        self._remove()

    @property
    def free_bytes(self) -> int:
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all room but `leave_bytes`: whoever writes now gets ENOSPC. `empty` gives it back."""
        block = b"\0" * 65536
        with (self.path / "filler").open("ab") as file:
            try:
                while (free := self.free_bytes - leave_bytes) > 0:
                    file.write(block[: min(len(block), free)])
                    file.flush()
            except OSError:
                pass  # full, which was wanted

    def empty(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink(missing_ok=True)

    def power_cut(self) -> Disk:
        """The disk as it would be found if the power went at this instant: what was not synced is missing.

        Returns another disk, to be used in a with block of its own; the first one goes on. A copy takes some
        milliseconds for each 10 MiB, and what a real disk had still in its own cache counts as written: the loss
        is a lower bound.
        """
        image = Path(tempfile.mkstemp(prefix="roost-power-cut-")[1])
        shutil.copyfile(self._image, image)
        after = Disk(self._mb)
        after._copied = image
        return after

    @property
    def _image(self) -> Path:
        assert self._root is not None
        return self._root / "image"

    def _remove(self) -> None:
        root, self._root = self._root, None
        if root is not None and not os.path.ismount(root / "disk"):
            shutil.rmtree(root, ignore_errors=True)


def check_disks() -> None:
    """Raises FaultUnavailable where this machine cannot make a disk."""
    if sys.platform != "linux":
        raise FaultUnavailable("a disk of its own needs Linux (loop devices)")
    if os.geteuid() != 0:
        raise FaultUnavailable("a disk of its own needs root, to mount it")
    for program in ("mkfs.ext4", "mount"):
        if shutil.which(program) is None:
            raise FaultUnavailable(f"a disk of its own needs the program {program}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FaultUnavailable(f"{command[0]} failed here: {done.stderr.strip()[:300]}")
