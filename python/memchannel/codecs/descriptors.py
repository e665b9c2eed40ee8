"""Open files and sockets: a duplicated descriptor, and what it takes to make the object around it again.

The duplicate shares its offset and its flags with the sender's descriptor (dup(2)). What the sender has
buffered is written out before; where a file is read, the receiver begins at the place where the sender was,
not at the one up to which the sender has read ahead.
"""

from __future__ import annotations

import _io
import codecs
import copyreg
import errno
import gc
import io
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from memchannel import _core
from memchannel._interrupts import interrupts_deferred

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

__all__ = ["close_made", "kinds", "reduce"]

_BUFFERED: dict[type, str] = {
    io.BufferedReader: "reader",
    io.BufferedWriter: "writer",
    io.BufferedRandom: "random",
}
_MAKERS: dict[str, Callable[..., Any]] = {name: kind for kind, name in _BUFFERED.items()}
_FILES = (io.FileIO, *_BUFFERED, io.TextIOWrapper)

# Encoders that begin with a byte order mark.
_MARKING = frozenset(("utf-16", "utf-32", "utf-8-sig"))


def kinds() -> tuple[type, ...]:
    """Return the base classes of what `reduce` is for, as far as this interpreter has them."""
    found: list[type] = [_io._IOBase]
    for module, name in (("socket", "socket"), ("tempfile", "_TemporaryFileWrapper")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def reduce(obj: Any) -> Any:
    """Reduce a file or socket around a `_core.Descriptor`.

    Parameters
    ----------
    obj
        An object of one of `kinds`.

    Returns
    -------
    tuple or NotImplemented
        As pickle takes it from a ``reducer_override``; NotImplemented for what pickles without our help.

    Raises
    ------
    pickle.PicklingError
        It is more than a descriptor.
    io.UnsupportedOperation
        The sender has read ahead, and cannot go back.
    ValueError
        The file is closed.
    OSError
        The socket is closed, what was buffered cannot be written, or there are no descriptors left.
    """
    kind = type(obj)
    if kind in copyreg.dispatch_table:
        return NotImplemented
    if kind in _FILES:
        return _reduce_file(obj)
    if kind is getattr(sys.modules.get("socket"), "socket", None):
        return _reduce_socket(obj)
    if isinstance(obj, (io.BytesIO, io.StringIO)) or _pickles_itself(kind):
        return NotImplemented
    raise pickle.PicklingError(f"cannot send {obj!r}: {_way_out(kind)}")


def close_made(items: list[Any]) -> None:
    """Close what was made of the descriptors among the parts of a message whose object cannot be made."""
    for item in items:
        if type(item) is _core.Descriptor and item.owner is not None:
            item.owner.close()


def _pickles_itself(kind: type) -> bool:
    """Whether the class says how it is pickled, other than that it cannot be."""
    for name in ("__reduce_ex__", "__reduce__", "__getstate__"):
        owner = next(one for one in kind.__mro__ if name in vars(one))
        if owner is not object:
            return owner.__module__ not in ("_io", "io", "socket", "ssl")
    return False


def _way_out(kind: type) -> str:
    ssl = sys.modules.get("ssl")
    if ssl is not None and issubclass(kind, ssl.SSLSocket):
        return (
            "the state of its encryption is in this interpreter; send the plain socket, and let the receiver "
            "wrap it"
        )
    if kind.__module__ == "tempfile":
        return (
            "its file is removed when it is closed here; send its attribute `file`, and keep the object "
            "until the receiver is done"
        )
    if not issubclass(kind, _io._IOBase):
        return (
            f"a class of its own ({kind.__qualname__}) may have more to it than a descriptor; send a "
            "socket.socket, or define __reduce_ex__"
        )
    return (
        f"{kind.__qualname__} is more than a file with a descriptor; send the file under it, its name or its "
        "content"
    )


# ---- sockets


def _reduce_socket(sock: socket) -> Any:
    fd = -1 if sock._closed else sock.fileno()  # type: ignore[attr-defined]
    if fd < 0:
        raise OSError(errno.EBADF, "cannot send a closed socket")
    kind = (int(sock.family), int(sock.type), sock.proto)
    return _make_socket, (_core.Descriptor(fd, sock), kind, sock.gettimeout())


def _make_socket(descriptor: _core.Descriptor, kind: tuple[int, int, int], timeout: float | None) -> socket:
    from socket import socket

    family, type_, proto = kind
    sock = _own(descriptor, lambda fd: socket(family, type_, proto, fd))
    sock.settimeout(timeout)  # the constructor takes that of socket.setdefaulttimeout()
    return sock


def _own[T](descriptor: _core.Descriptor, make: Callable[[int], T]) -> T:
    """Make an object that closes the descriptor."""
    with interrupts_deferred():
        fd = descriptor.detach()
        try:
            descriptor.owner = made = make(fd)
        except BaseException:
            os.close(fd)
            raise
    return made


# ---- files


class _Text(NamedTuple):
    """What `io.TextIOWrapper` adds to a file of bytes."""

    encoding: str
    errors: str | None
    newline: str | None
    line_buffering: bool
    write_through: bool
    mode: str | None


def _reduce_file(file: Any) -> Any:
    if file.closed:
        raise ValueError(f"cannot send a closed file: {file!r}")
    text = file if type(file) is io.TextIOWrapper else None
    if text is None or not text.readable():
        file.flush()  # else tell() does; flush() would let it answer, wrongly, amid a loop over the lines
    binary = file if text is None else text.buffer
    buffered = None if type(binary) is io.FileIO else binary
    if buffered is not None and type(buffered) not in _BUFFERED:
        raise pickle.PicklingError(
            f"cannot send {file!r}: what is under it, {buffered!r}, is no buffered file"
        )
    raw = binary if buffered is None else buffered.raw
    if type(raw) is not io.FileIO:
        way = "send the socket, and call its makefile() there" if type(raw).__name__ == "SocketIO" else ""
        raise pickle.PicklingError(
            f"cannot send {file!r}: what is under it, {raw!r}, is no file of the system"
            + (f"; {way}" if way else "")
        )
    position = _position(file, text, buffered)
    name = None if isinstance(raw.name, int) else raw.name  # the number of a descriptor, or what was opened
    return _make_file, (
        _core.Descriptor(raw.fileno(), file),
        raw.mode,
        name,
        None if buffered is None else (_BUFFERED[type(buffered)], _buffer_size(buffered)),
        None if text is None else tuple(_text_settings(text)),
        position,
    )


def _position(file: Any, text: io.TextIOWrapper | None, buffered: Any) -> int | None:
    """Tell where the receiver is to begin; None: where the descriptor is."""
    if not file.readable():
        if text is not None and not text.seekable() and codecs.lookup(text.encoding).name in _MARKING:
            raise io.UnsupportedOperation(
                f"cannot send {file!r}: whether its byte order mark was written cannot be told; open it with "
                "an encoding without one, such as utf-8 or utf-16-le"
            )
        return None
    if file.seekable():
        try:
            return _settle(file, text, buffered)
        except OSError as exc:
            raise io.UnsupportedOperation(
                f"cannot send {file!r}: its position cannot be told ({exc}); leave the loop over its lines "
                "and read on with readline(), or send it before"
            ) from exc
    if text is not None:
        _check_unread_text(text)
    unread = _read_ahead(buffered) if buffered is not None else 0
    if unread:
        raise io.UnsupportedOperation(
            f"cannot send {file!r}: {unread} bytes were read ahead, and it cannot go back; read them first "
            "(with read1()), or open it with buffering=0"
        )
    return None


def _settle(file: Any, text: io.TextIOWrapper | None, buffered: Any) -> int:
    """Forget what was read ahead, so that the descriptor, which both sides share, is where the file is."""
    position: int = file.tell()
    if text is not None:
        text.seek(position)
    if buffered is not None:
        here = buffered.tell()
        buffered.seek(buffered.raw.tell() + 1)  # to leave the buffer: within it, seek() would keep it
        buffered.seek(here)
    return position


def _check_unread_text(text: io.TextIOWrapper) -> None:
    try:
        # The same as before: refused once something was read (Modules/_io/textio.c, decoded_chars).
        text.reconfigure(errors=text.errors)
    except io.UnsupportedOperation:
        raise io.UnsupportedOperation(
            f"cannot send {text!r}: text was read from it, how much was read ahead cannot be told, and it "
            "cannot go back; send it before, or read bytes from it"
        ) from None


def _read_ahead(buffered: Any) -> int:
    """Count the bytes in the buffer of a file that knows no position, without reading more."""
    far = 1 << 40
    buffered.raw.tell = lambda: far  # as if it knew
    try:
        return int(far - buffered.tell())
    finally:
        del buffered.raw.tell


def _buffer_size(buffered: Any) -> int:
    # The only place that tells it (Modules/_io/bufferedio.c, _io__Buffered___sizeof___impl).
    size = buffered.__sizeof__() - type(buffered).__basicsize__
    return size if size > 0 else io.DEFAULT_BUFFER_SIZE


def _text_settings(text: io.TextIOWrapper) -> _Text:
    return _Text(
        text.encoding,
        text.errors,
        _newline_of(text),
        text.line_buffering,
        text.write_through,
        getattr(text, "mode", None),  # an attribute that open() sets
    )


def _newline_of(text: io.TextIOWrapper) -> str | None:
    """Find the argument `newline`: it is no attribute, but held where the garbage collector looks.

    After it comes text that was decoded and not read yet; `_position` leaves none, or more than nothing
    (Modules/_io/textio.c, textiowrapper_traverse).
    """
    held = gc.get_referents(text)
    texts = [one for one in held if type(one) is str and one is not text.encoding and one is not text.errors]
    universal = any(isinstance(one, io.IncrementalNewlineDecoder) for one in held)  # newline is None or ""
    if not texts or (universal and texts[0]):
        return None
    return texts[0]


def _make_file(
    descriptor: _core.Descriptor,
    mode: str,
    name: Any,
    buffer: tuple[str, int] | None,
    settings: tuple[Any, ...] | None,
    position: int | None,
) -> Any:
    file: Any
    raw = file = _own(descriptor, lambda fd: io.FileIO(fd, mode))
    if name is not None:
        raw.name = name
    if buffer is not None:
        descriptor.owner = file = _MAKERS[buffer[0]](raw, buffer[1])
    if settings is not None:
        text = _Text(*settings)
        descriptor.owner = file = io.TextIOWrapper(
            file, text.encoding, text.errors, text.newline, text.line_buffering, text.write_through
        )
        if text.mode is not None:
            file.mode = text.mode
    if position is not None:
        file.seek(position)
    return file
