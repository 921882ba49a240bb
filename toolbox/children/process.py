"""One child process: started by vfork, its exit taken from the kernel, its whole tree killed when it must go."""

import asyncio
import contextlib
import ctypes
import itertools
import logging
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

import msgspec

from toolbox.children import tree
from toolbox.children.ending import signal_each
from toolbox.children.guard import Guard
from toolbox.children.memory import OomCounter, OomScores
from toolbox.children.reaper import Reaper
from toolbox.children.reserve import Reserve
from toolbox.children.scratch import Scratch

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
_CONFIRM_SECONDS = 2.0
_KILL_ROUNDS = 20
_NO_DESCRIPTOR_SECONDS = 0.5
_REMEMBERED = 100
_LONGEST_LABEL = 4096
"""Characters: a command may be a program of megabytes, and the last ones that ended are remembered."""
_PR_SET_CHILD_SUBREAPER = 36
_MISLEADING = (
    *("LD_", "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH"),
    *("NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR"),
)
"""How variables begin by which loader and libc find files, and that they do not heed in a program with privileges."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended, as the kernel said: `code` or `signal`; neither means that nobody knows."""

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    """The kernel killed it because memory ran out."""

    @property
    def shell_code(self) -> int:
        """The exit code as a shell shows it: 128 + n after signal n."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @property
    def cause(self) -> str | None:
        """Why it died, in words; None for an ordinary exit."""
        if self.signal is None:
            return None if self.code is not None else "unknown"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"out of memory ({name})" if self.oom else name


Observer = Callable[[Sequence[str], str], Callable[[Exit], None] | None]
"""Told that a command starts, by its words and its text; what it returns is told how it ended."""


class Child:
    """A started process, leader of its own session. Made by `Children.spawn` only."""

    def __init__(self, process: "subprocess.Popen[bytes]", marker: str, label: str, owner: "Children") -> None:
        self.pid = process.pid
        self.marker = marker
        self.label = label if len(label) <= _LONGEST_LABEL else f"{label[:_LONGEST_LABEL]}…"
        """What it is, for people: the command line it was asked for, or the start of it."""
        self.started = time.time()
        self.exit: Exit | None = None
        self._process = process
        self._owner = owner
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else waited for it: the truth is lost
            pid, status = self.pid, None
        if pid == 0:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._process.returncode = 0  # Popen must not wait for it again
        if status is None:
            self.exit = Exit()
        elif os.WIFEXITED(status):
            self.exit = Exit(code=os.WEXITSTATUS(status))
        else:
            number = os.WTERMSIG(status)
            self.exit = Exit(signal=number, oom=number == signal.SIGKILL and self._owner.oom.increased())
        self._owner.forget(self)
        if not self.ended.done():
            self.ended.set_result(self.exit)

    async def wait(self) -> Exit:
        """Return how the process ended, once it has."""
        return await asyncio.shield(self.ended)

    def send_signal(self, number: int) -> None:
        """Signal the process itself; nothing happens when it has ended."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def send_signal_to_group(self, number: int) -> None:
        """Signal the process's group; nothing happens when the process itself has ended."""
        # Until we have waited for it the pid, and so the group's id, is not given out again.
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill_tree(self, grace: float = GRACE_SECONDS) -> Exit | None:
        """End the process and everything that descends from it, and return once all are gone.

        SIGTERM first, SIGKILL after `grace` seconds (0: at once). Processes that left the group or session are
        found by parentage and by the marker in their environment. Returns None if the process itself survived
        (uninterruptible in the kernel).
        """
        for _ in range(_KILL_ROUNDS):
            try:
                await _kill_all(self._members, grace)
                break
            except OSError as error:
                if error.errno not in tree.NO_DESCRIPTOR:
                    raise
                # Those that need no looking for end at once, the others by what was kept back for this.
                self.send_signal_to_group(signal.SIGKILL)
                with contextlib.suppress(OSError), self._owner.reserve.released():
                    await _kill_all(self._members, grace=0)
                    break
                await asyncio.sleep(_NO_DESCRIPTOR_SECONDS)
        if self.exit is None:
            try:
                async with asyncio.timeout(_CONFIRM_SECONDS):
                    return await self.wait()
            except TimeoutError:
                log.warning("process does not die", extra={"fields": {"pid": self.pid}})
        return self.exit

    def _members(self) -> list[tree.Stat]:
        found = tree.members(self.pid, self.marker, root_ended=self.exit is not None)
        return [stat for stat in found if self.exit is None or stat.pid != self.pid]


async def _kill_all(find: Callable[[], list[tree.Stat]], grace: float) -> None:
    """End every process that `find` returns: SIGTERM, SIGKILL after `grace` seconds, until none is found."""
    if grace > 0:
        await _gone(signal_each(await asyncio.to_thread(find), signal.SIGTERM), grace)
    for _ in range(_KILL_ROUNDS):
        # More than one round: a process may fork between being found and being killed.
        watched = signal_each(await asyncio.to_thread(find), signal.SIGKILL)
        if not watched:
            return
        await _gone(watched, _CONFIRM_SECONDS)


async def _gone(pidfds: Iterable[int], seconds: float) -> None:
    """Wait until all processes have ended, at most `seconds`; closes the descriptors."""
    loop = asyncio.get_running_loop()
    waiting: dict[int, asyncio.Future[None]] = {}
    try:
        for pidfd in pidfds:
            waiting[pidfd] = loop.create_future()
            loop.add_reader(pidfd, _resolve, waiting[pidfd])
        if waiting:
            await asyncio.wait(waiting.values(), timeout=seconds)
    finally:
        for pidfd in waiting:
            loop.remove_reader(pidfd)
            os.close(pidfd)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Children:
    """The spawner: owns every child it started, adopts and reaps orphans, ends the rest on leaving.

    `user` is the workload user that children run as; the daemon must then be root. `sole` says that this process is
    a daemon of its own: whatever has become its child by the end is ended too. Children end when this process is
    killed, unless they are `lasting`.
    """

    def __init__(self, *, user: str | None = None, sole: bool = False, lasting: bool = False) -> None:
        self.user = pwd.getpwnam(user) if user else None
        self.scratch = Scratch(self.user)
        self._sole = sole
        self._id = secrets.token_hex(6)
        self.oom = OomCounter()
        self._scores = OomScores()
        self.reserve = Reserve()
        self._numbers = itertools.count(1)
        self._children: dict[int, Child] = {}
        self._ended: deque[Child] = deque(maxlen=_REMEMBERED)
        self._reaper = Reaper(self._children)
        self._as_user = _setpriv(self.user) if self.user else []
        # With process 1 the kernel ends all others.
        self._guard = None if lasting or os.getpid() == 1 else Guard(self._id)
        self.observe: Observer = lambda _words, _text: None
        """Asked at the start of every process; whoever runs a command in a process that is there already asks too."""

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Child]:
        """Give every child that lives, and the last ones that ended, oldest first."""
        return iter([*self._ended, *self._children.values()])

    async def __aenter__(self) -> Self:
        # Orphans of our children become ours, so that they can be found, reaped and ended.
        _adopt_orphans(yes=True)
        _take_ignored_signals()
        self._scores.open()
        self.reserve.open()
        self._reaper.start()
        await asyncio.to_thread(self.scratch.sweep)
        return self

    async def end_all(self) -> None:
        """End every process there is, whole trees at once: one look at `/proc` for all, not one for each."""
        await _kill_all(self._everything, GRACE_SECONDS)
        if self._children:
            await asyncio.wait([child.ended for child in self._children.values()], timeout=_CONFIRM_SECONDS)

    async def __aexit__(self, *_: object) -> None:
        await self.end_all()
        if self._guard is not None:
            await self._guard.end()
        await self._reaper.stop()
        await asyncio.to_thread(self.scratch.remove)
        self._scores.close()
        self.reserve.close()
        _adopt_orphans(yes=False)

    def _everything(self) -> list[tree.Stat]:
        found = {stat.pid: stat for stat in tree.marked(self._id)}
        guard = self._guard.pid if self._guard is not None else None
        for pid in (*self._children, *(tree.direct_children() if self._sole else ())):
            if pid not in {*found, guard} and (stat := tree.read_stat(pid)) is not None and stat.state not in "ZX":
                found[pid] = stat
        return list(found.values())

    def forget(self, child: Child) -> None:
        """Take `child` off the books: it has been waited for."""
        self._children.pop(child.pid, None)
        self._ended.append(child)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        label: str | None = None,
    ) -> Child:
        """Start a process, leader of a new session and group.

        Descriptors are the caller's to close. Raises `OSError` when it cannot be started (no such program or cwd).
        Blocks for the spawn itself, about a millisecond: exec must have happened for errors to be known, and a
        thread would cost more than it saves.
        """
        if self._guard is not None:
            self._guard.start()
        marker = f"{self._id}-{next(self._numbers)}-"
        environment = {**env, tree.MARKER: marker}
        # setpriv keeps the vfork; Popen's own `user` falls back to fork, slow from a large process. But setpriv begins
        # as root, and the child's variables, which are the client's, must not tell it what to load.
        as_user = [] if any(map(_misleads, environment.items())) else self._as_user
        user = None if as_user else self.user
        with self._scores:
            process = subprocess.Popen(
                [*as_user, *argv],
                cwd=cwd,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=os.getgrouplist(user.pw_name, user.pw_gid) if user else None,
            )
        try:
            child = Child(process, marker, label if label is not None else shlex.join(argv), self)
        except OSError:  # no descriptor is left for the pidfd: nobody could wait for it, so it must not run
            process.kill()
            process.wait()
            raise
        self._children[child.pid] = child
        observed = self.observe(argv, child.label)
        if observed is not None:
            child.ended.add_done_callback(lambda ended: observed(ended.result()))
        return child


def _adopt_orphans(*, yes: bool) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def _take_ignored_signals() -> None:
    """Handle, by doing nothing, the signals we were started to ignore (`nohup`, `&`).

    What is ignored stays so across exec, and a shell could not even trap it; what is handled is default again.
    """
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, lambda *_: None)


def _misleads(variable: tuple[str, str]) -> bool:
    name, value = variable
    return name.startswith(_MISLEADING) or (name == "LANGUAGE" and "/" in value)


def _setpriv(user: pwd.struct_passwd) -> list[str]:
    """Return the command that becomes `user` and then runs its arguments; empty where there is none.

    Busybox has a program of that name too, which cannot do it.
    """
    program = shutil.which("setpriv")
    if (
        program is None
        or b"--reuid" not in subprocess.run([program, "--help"], capture_output=True, check=False).stdout
    ):
        return []
    return [program, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
