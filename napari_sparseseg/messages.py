"""Requests and events as bytes, for a pipe or any other stream between front end and worker.

A message is a prefix of fixed length, a header (JSON: type, generation, fields) and the bytes of its arrays.
Only the classes of `requests.Request` and `events.Event` are carried, found by name; what is added there is
carried without a change here (`message_fields`).  Nothing that arrives is executed.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, get_args

from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event
from napari_sparseseg.message_fields import Codec, Payload, codec_for, payload_pieces
from napari_sparseseg.requests import Request

NO_SESSION = 0
"""Generation of a message that belongs to no session, and is never out of date."""

_PREFIX = struct.Struct("<4sIIQ")  # mark, version, bytes of the header, bytes of the arrays
_MARK = b"SPSG"
_VERSION = 1
_MOST_HEADER_BYTES = 2**24
_MOST_PAYLOAD_BYTES = 2**36
_READ_BYTES = 2**24
_DAMAGED = "a message between window and worker cannot be read"

_CARRIED: Mapping[str, type] = {kind.__name__: kind for kind in get_args(Request) + get_args(Event)}
_CODECS: Mapping[str, Codec] = {name: codec_for(kind) for name, kind in _CARRIED.items()}


class StreamError(InputError):
    """The stream does not hold messages of this version: what follows cannot be read either."""


@dataclass(frozen=True, eq=False)
class Message:
    """What arrived.

    Attributes
    ----------
    item
        A request or an event.
    generation
        Number of the session that it belongs to, counted by the client, or `NO_SESSION`.
    """

    item: Request | Event
    generation: int = NO_SESSION


def encode(item: Request | Event, generation: int = NO_SESSION) -> bytes:
    """Turn a request or an event into bytes.

    Parameters
    ----------
    item
        What to send.
    generation
        As `Message.generation`.

    Raises
    ------
    InputError
        If it is neither, or a field does not hold what its type hint says.
    """
    name = type(item).__name__
    if _CARRIED.get(name) is not type(item):
        raise InputError(f"{name} is neither a request nor an event that can be sent.")
    arrays: list[NDArray[Any]] = []
    content = {"type": name, "generation": generation, "fields": _CODECS[name].write(item, name, arrays)}
    header, pieces = json.dumps(content).encode("ascii"), payload_pieces(arrays)
    payload_bytes = sum(len(piece) for piece in pieces)
    if len(header) > _MOST_HEADER_BYTES or payload_bytes > _MOST_PAYLOAD_BYTES:
        raise InputError(f"{name} is too large to be sent; use fewer labels or shorter names.")
    return b"".join([_PREFIX.pack(_MARK, _VERSION, len(header), payload_bytes), header, *pieces])


def write_message(stream: IO[bytes], item: Request | Event, generation: int = NO_SESSION) -> None:
    """Write `encode` of a request or event to a stream, and flush it.

    Raises
    ------
    InputError
        As `encode`.
    OSError
        If nobody reads the stream any more.
    """
    stream.write(encode(item, generation))
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """Wait for the next message; None at the end of the stream.

    Raises
    ------
    StreamError
        If the stream does not hold messages of this version: nothing more can be read from it.
    InputError
        If this message is not valid; the next one can be read.
    EOFError
        If the stream ended within a message.
    """
    begun = stream.read(_PREFIX.size)
    if not begun:
        return None
    prefix = begun + _read_bytes(stream, _PREFIX.size - len(begun))
    mark, version, header_bytes, payload_bytes = _PREFIX.unpack(prefix)
    if mark != _MARK:
        raise StreamError("window and worker do not understand each other: the stream holds no messages.")
    if version != _VERSION:
        raise StreamError(
            f"window and worker are of different versions (messages {_VERSION} and {version}); "
            "install the same one on both sides."
        )
    if header_bytes > _MOST_HEADER_BYTES or payload_bytes > _MOST_PAYLOAD_BYTES:
        raise StreamError(f"{_DAMAGED}: it is longer than any message.")
    header = _read_bytes(stream, header_bytes)
    return _decode(header, _read_bytes(stream, payload_bytes))


def _decode(header: bytearray, payload: bytearray) -> Message:
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_DAMAGED}: its header is not JSON.") from error
    if not isinstance(content, dict) or set(content) != {"type", "generation", "fields"}:
        raise InputError(f"{_DAMAGED}: its header must hold type, generation and fields.")
    name, generation = content["type"], content["generation"]
    if not isinstance(name, str) or name not in _CODECS:
        raise InputError(f"{_DAMAGED}: {name!r:.80} is neither a request nor an event.")
    if type(generation) is not int:
        raise InputError(f"{_DAMAGED}: the generation of {name} is not a whole number.")
    arrays = Payload(payload)
    try:
        item = _CODECS[name].read(content["fields"], name, arrays)
    except InputError as error:
        raise InputError(f"{_DAMAGED}: {error}") from error
    if not arrays.is_used_up:
        raise InputError(f"{_DAMAGED}: more came than {name} holds.")
    return Message(item, generation)


def _read_bytes(stream: IO[bytes], size: int) -> bytearray:
    """Return that many bytes, writable, so that arrays made of them are; memory grows only as they come."""
    whole = bytearray()
    while len(whole) < size:
        piece = stream.read(min(size - len(whole), _READ_BYTES))
        if not piece:
            raise EOFError("the stream ended within a message")
        try:
            whole += piece
        except MemoryError as error:
            raise StreamError(f"there is no memory for a message of {size / 1e9:.1f} GB.") from error
    return whole
