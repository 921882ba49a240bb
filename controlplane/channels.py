"""Channels of SSH carried from a client's connection to the one into the sandbox, event by event."""

import contextlib
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncssh import SSHClientChannel, SSHClientConnection, SSHServerChannel

log = logging.getLogger(__name__)
_CANNOT_START = 126


class _Inner:
    """The sandbox's end of a channel: what comes from it goes to the client, its end last."""

    def __init__(self, outer: "_Outer") -> None:
        self._outer = outer
        self._status: int | None = None
        self._signal: tuple[str, bool, str, str] | None = None

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._outer.channel.write(data, datatype)

    def eof_received(self) -> bool:
        with contextlib.suppress(OSError):  # the client's end may be closed
            self._outer.channel.write_eof()
        return True

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._signal = (signal, core_dumped, msg, lang)

    def pause_writing(self) -> None:
        self._outer.channel.pause_reading()

    def resume_writing(self) -> None:
        self._outer.channel.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        channel = self._outer.channel
        with contextlib.suppress(OSError):
            if self._signal is not None:
                channel.exit_with_signal(*self._signal)
            elif self._status is not None:
                channel.exit(self._status)
            else:
                channel.close()


class _Outer:
    """The client's end of a channel."""

    def __init__(self, back: "SSHClientConnection") -> None:
        self.channel: SSHServerChannel[bytes]
        self._back = back
        self._inner: SSHClientChannel[bytes] | None = None
        self._early: list[bytes] = []
        self._ended = self._lost = False

    def connection_made(self, chan: "SSHServerChannel[bytes]") -> None:
        self.channel = chan

    def pty_requested(self, *_: object) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, _: str) -> bool:
        return True

    def subsystem_requested(self, _: str) -> bool:
        return True

    def session_started(self) -> None:
        self.channel.get_connection().create_task(self._open())

    async def _open(self) -> None:
        import asyncssh  # noqa: PLC0415 -- heavy

        channel = self.channel
        try:
            inner, _ = await self._back.create_session(
                lambda: _inner_class()(self),
                channel.get_command(),
                subsystem=channel.get_subsystem(),
                env=list(channel.get_environment().items()),
                request_pty="force" if channel.get_terminal_type() is not None else False,
                term_type=channel.get_terminal_type(),
                term_size=channel.get_terminal_size(),
                term_modes=channel.get_terminal_modes(),
                encoding=None,
            )
        except (OSError, asyncssh.Error) as error:
            log.warning("ssh: the sandbox refused a channel", extra={"fields": {"why": str(error)}})
            with contextlib.suppress(OSError):
                channel.exit(_CANNOT_START)
            return
        self._inner = inner
        if self._lost:
            inner.close()
            return
        for data in self._early:
            self.data_received(data, None)
        self._early.clear()
        if self._ended:
            self.eof_received()
        channel.resume_reading()

    def data_received(self, data: bytes, _: int | None) -> None:
        if self._inner is None:
            self._early.append(data)
            self.channel.pause_reading()  # until there is somewhere to write
            return
        with contextlib.suppress(OSError):  # it ended: nobody reads its input any more
            self._inner.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._inner is not None:
            with contextlib.suppress(OSError):
                self._inner.write_eof()
        return True

    def signal_received(self, signal: str) -> None:
        if self._inner is not None:
            with contextlib.suppress(OSError):
                self._inner.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        if self._inner is not None:
            with contextlib.suppress(OSError):
                self._inner.send_break(msec)
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._inner is not None:
            with contextlib.suppress(OSError):
                self._inner.change_terminal_size(width, height, pixwidth, pixheight)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost = True
        if self._inner is not None:
            self._inner.close()


def carried(back: "SSHClientConnection") -> Any:
    """Return what serves a client's new channel by one of `back`. The library must have been imported before."""
    return _outer_class()(back)


@cache
def _outer_class() -> Any:
    from asyncssh import SSHServerSession  # noqa: PLC0415 -- heavy

    return type("Outer", (_Outer, SSHServerSession), {})


@cache
def _inner_class() -> Any:
    from asyncssh import SSHClientSession  # noqa: PLC0415 -- heavy

    return type("Inner", (_Inner, SSHClientSession), {})
