"""The program that owns one local server, so that the server ends with its user, however the user ends.

A user killed by SIGKILL runs no `atexit`, and Linux's parent-death signal alone does not help: it fires when
the *thread* that forked ends, and other systems have none. So the server is a child of this small process,
which waits for the end of its standard input: the kernel closes that pipe whatever kills the user. Orderly
stop and sudden death then take the same path, which every test run exercises. A forked child of the user may
keep the pipe open, so the guard also looks once a second whether its parent is still the same.

Being the parent, the guard is the only one that signals the server, and does so only before it has reaped it:
no signal can hit a stranger that inherited the process number. It runs in a session of its own, so Ctrl-C in a
terminal reaches neither of the two. Should the guard itself be killed, Linux kills the server with it (the
guard has one thread, so the parent-death signal is exact here).

It is run by its path, as `python -I -S _guard.py`, and imports nothing of Roost and little else: it stands
between the user and a server that is ready in 20 ms. Words on standard input, one a line: `start PORT`,
`pause`, `resume`, `reload` (SIGHUP), `kill`, `halt` (SIGTERM, after the grace SIGKILL), `end` (halt, remove the
directory, exit). On standard output: `started PID`, `paused`, `resumed`, `signalled`, `exited CODE`; its
end means that guard and server are both gone, because the server holds a copy.
"""

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # loading `typing` for this would take longer than forking the server
if TYPE_CHECKING:
    import ctypes

PARENT_CHECK_S = 1.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Guard:
    def __init__(self, *, parent: int, grace_s: float, command: list[str]) -> None:
        self._libc = load_libc()
        self._parent = parent
        self._grace_s = grace_s
        self._command = command
        self._pid: int | None = None
        self._paused = False
        self._kill_at: float | None = None
        self._ending = False
        self._input_open = True
        self._unread = b""
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def run(self) -> None:
        while not (self._ending and self._pid is None):
            watched = [self._wake, 0] if self._input_open else [self._wake]
            readable, _, _ = select.select(watched, [], [], self._patience_s())
            if self._wake in readable:
                os.read(self._wake, 4096)
            self._reap()
            if 0 in readable:
                self._read_words()
            if os.getppid() != self._parent:
                self._end()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_at = None
                self._signal(signal.SIGKILL)

    def _patience_s(self) -> float:
        if self._kill_at is None:
            return PARENT_CHECK_S
        return min(PARENT_CHECK_S, max(0.0, self._kill_at - time.monotonic()))

    def _read_words(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._input_open = False
            self._end()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(line.decode().split())

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["start", port] if self._pid is None and not self._ending:
                self._start(port)
            case ["pause"] if self._paused:
                say("paused")
            case ["pause"]:
                self._signal(signal.SIGSTOP)
            case ["resume"] if not self._paused:
                say("resumed")
            case ["resume"]:
                self._signal(signal.SIGCONT)
            case ["kill"]:
                self._signal(signal.SIGKILL)
            case ["reload"]:
                self._signal(signal.SIGHUP)
                say("signalled")
            case ["halt"]:
                self._halt()
            case ["end"]:
                self._end()
            case _:
                sys.stderr.write(f"the guard was told {words!r}, which makes no sense now; stopping\n")
                self._end()

    def _start(self, port: str) -> None:
        guard = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # else lost in the child until it is ready for them
        pid = os.fork()
        if pid == 0:
            become([*self._command, "-p", port], guard, self._libc)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        self._pid = pid
        self._paused = False
        say(f"started {pid}")

    def _halt(self) -> None:
        if self._pid is not None and self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a frozen server would never see the former
            self._kill_at = time.monotonic() + self._grace_s

    def _end(self) -> None:
        self._ending = True
        self._halt()

    def _signal(self, number: int) -> None:
        if self._pid is not None:
            os.kill(self._pid, number)

    def _reap(self) -> None:
        while self._pid is not None:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._paused = True
                say("paused")
            elif os.WIFCONTINUED(status):
                self._paused = False
                say("resumed")
            else:
                self._pid = self._kill_at = None
                say(f"exited {os.waitstatus_to_exitcode(status)}")

    def end_at_once(self) -> None:
        """Whatever went wrong in here, no server stays behind."""
        if self._pid is not None:
            self._signal(signal.SIGKILL)
            os.waitpid(self._pid, 0)


def become(command: list[str], guard: int, libc: "ctypes.CDLL | None") -> None:
    """In the forked child: turn into the server, or leave a line in the log and exit."""
    try:
        if libc is not None:
            import ctypes

            libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            if os.getppid() != guard:
                return  # it died before it could be watched
        for number in (*ENDING, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        os.set_inheritable(os.dup(1), True)  # the user reads the end of this pipe when nobody is left
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        os.execv(command[0], command)
    except OSError as problem:
        os.write(2, f"cannot run {command[0]}: {problem.strerror}\n".encode())
    finally:
        os._exit(127)


def load_libc() -> "ctypes.CDLL | None":
    """The C library on Linux, loaded once (8 ms) rather than after every fork."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes
    except ImportError:  # a Python built without it: the pipe still ends the server in every other case
        return None
    return ctypes.CDLL(None)


def say(line: str) -> None:
    try:
        os.write(1, line.encode() + b"\n")
    except BrokenPipeError:
        return  # nobody is left to hear it; the end of the input says so too


def main(arguments: list[str]) -> None:
    parent, grace_s, run_dir, *command = arguments
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in ENDING:
        signal.signal(number, lambda *_: None)  # only the user's end ends the guard
    guard = Guard(parent=int(parent), grace_s=float(grace_s), command=command)
    try:
        guard.run()
    finally:
        guard.end_at_once()
        import shutil  # 20 ms, which the start need not pay

        shutil.rmtree(run_dir, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
