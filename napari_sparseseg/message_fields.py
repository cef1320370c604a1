"""How the fields of a request or event become JSON and arrays, and back, checked against their type hints.

`codec_for` reads a dataclass's hints once.  Arrays leave their shape in the JSON and travel behind it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Protocol, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError

_ALIGNMENT = 8  # bytes; arrays that begin elsewhere are slow, or refused, in places
_ACCEPTED: Mapping[type, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (int, np.integer),
    float: (float, int, np.floating, np.integer),
    str: (str,),
}


class Codec(Protocol):
    """Turns values of one type into what JSON can hold, and back.

    `place` is where the value stands, for messages.  Both directions raise `InputError` for what is not of
    the type.
    """

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        """Return what JSON holds for `value`; append the arrays in it to `arrays`."""

    def read(self, plain: Any, place: str, payload: "Payload") -> Any:
        """Return the value that `write` was given, its arrays taken from `payload`."""


class Payload:
    """The bytes behind a header; hands out the arrays in them one after the other, without copying."""

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._position = 0

    def take(self, dtype: np.dtype[Any], shape: list[int]) -> NDArray[Any] | None:
        """Return the next array; None if less than that is left."""
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size > len(self._buffer) - self._position:
            return None
        # NumPy takes no empty buffer
        array = np.frombuffer(self._buffer, dtype, count, self._position) if count else np.zeros(0, dtype)
        self._position += size + -size % _ALIGNMENT
        return array.reshape(shape)

    @property
    def is_used_up(self) -> bool:
        """Whether all bytes have been handed out."""
        return self._position == len(self._buffer)


def payload_pieces(arrays: list[NDArray[Any]]) -> list[bytes]:
    """Return the bytes that `Payload` reads arrays from, in pieces."""
    pieces = []
    for array in arrays:
        pieces += [array.tobytes(), bytes(-array.nbytes % _ALIGNMENT)]
    return pieces


def codec_for(hint: Any) -> Codec:
    """Return the codec for a type hint.

    Known are bool, int, float, str, ``X | None``, tuples, dicts with str keys, arrays of one dtype, classes
    with ``to_json`` and ``from_json``, and dataclasses of all these.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _ACCEPTED:
        return _Scalar(hint)
    if origin is UnionType and NoneType in inner and len(inner) == 2:
        return _Optional(codec_for(next(member for member in inner if member is not NoneType)))
    if origin is tuple:
        repeated = inner[-1] is ...
        return _Tuple(tuple(codec_for(member) for member in inner if member is not ...), repeated)
    if origin is dict and inner[0] is str:
        return _Mapping(codec_for(inner[1]))
    if origin is np.ndarray:
        return _Array(np.dtype(get_args(inner[1])[0]))
    if hasattr(hint, "to_json") and hasattr(hint, "from_json"):
        return _Json(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return _Record(hint, {entry.name: codec_for(hints[entry.name]) for entry in fields(hint)})
    raise TypeError(f"no message can carry the type {hint}")


def _wrong(place: str, expected: str, value: Any) -> InputError:
    return InputError(f"{place} must be {expected}, not {value!r:.80}.")


@dataclass(frozen=True)
class _Scalar:
    kind: type

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        is_bool = isinstance(value, (bool, np.bool_))
        if not isinstance(value, _ACCEPTED[self.kind]) or is_bool != (self.kind is bool):
            raise _wrong(place, f"of type {self.kind.__name__}", value)
        return self.kind(value)

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        if type(plain) is not self.kind:
            raise _wrong(place, f"of type {self.kind.__name__}", plain)
        return plain


@dataclass(frozen=True)
class _Optional:
    codec: Codec

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        return None if value is None else self.codec.write(value, place, arrays)

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        return None if plain is None else self.codec.read(plain, place, payload)


@dataclass(frozen=True)
class _Tuple:
    codecs: tuple[Codec, ...]
    repeated: bool

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        codecs = self._match(value, tuple, place)
        return [codec.write(member, place, arrays) for codec, member in zip(codecs, value, strict=True)]

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        codecs = self._match(plain, list, place)
        return tuple(codec.read(member, place, payload) for codec, member in zip(codecs, plain, strict=True))

    def _match(self, members: Any, kind: type[tuple[Any, ...] | list[Any]], place: str) -> tuple[Codec, ...]:
        if isinstance(members, kind):
            codecs = self.codecs * len(members) if self.repeated else self.codecs
            if len(codecs) == len(members):
                return codecs
        raise _wrong(place, "a sequence" if self.repeated else f"a sequence of {len(self.codecs)}", members)


@dataclass(frozen=True)
class _Mapping:
    codec: Codec

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(place, "a dict with names as keys", value)
        return {key: self.codec.write(member, place, arrays) for key, member in value.items()}

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        if not isinstance(plain, dict):
            raise _wrong(place, "a dict", plain)
        return {key: self.codec.read(member, place, payload) for key, member in plain.items()}


@dataclass(frozen=True)
class _Array:
    dtype: np.dtype[Any]

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype != self.dtype:
            raise _wrong(place, f"an array of {self.dtype}", value)
        arrays.append(value.astype(self.dtype.newbyteorder("<"), order="C", copy=False))
        return list(value.shape)

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        if not isinstance(plain, list) or not all(type(n) is int and n >= 0 for n in plain):
            raise _wrong(place, "the shape of an array", plain)
        try:
            array = payload.take(self.dtype.newbyteorder("<"), plain)
        except ValueError as error:  # more axes, or longer ones, than NumPy has
            raise _wrong(place, "the shape of an array", plain) from error
        if array is None:
            raise InputError(f"{place} of shape {plain!r:.80} is larger than what came.")
        return array.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class _Json:
    kind: Any

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        if not isinstance(value, self.kind):
            raise _wrong(place, f"of type {self.kind.__name__}", value)
        return value.to_json()

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        return self.kind.from_json(plain)


@dataclass(frozen=True)
class _Record:
    kind: Any
    codecs: Mapping[str, Codec]

    def write(self, value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
        if not isinstance(value, self.kind):
            raise _wrong(place, f"of type {self.kind.__name__}", value)
        return {
            name: codec.write(getattr(value, name), f"{place}.{name}", arrays)
            for name, codec in self.codecs.items()
        }

    def read(self, plain: Any, place: str, payload: Payload) -> Any:
        if not isinstance(plain, dict) or set(plain) != set(self.codecs):
            raise _wrong(place, f"a dict of {', '.join(self.codecs) or 'nothing'}", plain)
        # in the order they were written in, as arrays follow one another
        return self.kind(**{n: c.read(plain[n], f"{place}.{n}", payload) for n, c in self.codecs.items()})
