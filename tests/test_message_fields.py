from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.message_fields import Payload, codec_for, payload_pieces


@dataclass(frozen=True)
class Inner:
    image: NDArray[np.float32]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    first: Inner
    second: Inner | None
    scores: dict[str, float]


def travel(codec, value):
    arrays = []
    plain = codec.write(value, "here", arrays)
    return codec.read(plain, "here", Payload(bytearray(b"".join(payload_pieces(arrays)))))


def test_classes_in_classes_keep_their_arrays_apart():
    first = Inner(np.arange(3, dtype=np.float32), ("a", "b"))
    second = Inner(np.ones((2, 2), np.float32), ())
    came = travel(codec_for(Outer), Outer(first, second, {"liver": 1}))
    np.testing.assert_array_equal(came.first.image, first.image)
    np.testing.assert_array_equal(came.second.image, second.image)
    assert came.first.names == ("a", "b")
    assert came.scores == {"liver": 1.0}
    assert travel(codec_for(Outer), Outer(first, None, {})).second is None


def test_the_place_of_a_mistake_is_named():
    with pytest.raises(InputError, match=r"here\.first\.names"):
        travel(codec_for(Outer), Outer(Inner(np.zeros(1, np.float32), (1,)), None, {}))


@pytest.mark.parametrize("hint", [object, list[int], dict[int, str], int | str, bytes, set[str]])
def test_types_that_cannot_travel_are_refused_before_anything_is_sent(hint):
    with pytest.raises(TypeError, match="no message"):
        codec_for(hint)


def test_a_payload_is_used_up_exactly():
    payload = Payload(bytearray(b"".join(payload_pieces([np.ones(3, np.uint8), np.ones(2, np.int64)]))))
    assert payload.take(np.dtype(np.uint8), [3]).tolist() == [1, 1, 1]
    assert not payload.is_used_up
    assert payload.take(np.dtype(np.int64), [3]) is None
    assert payload.take(np.dtype(np.int64), [2]).tolist() == [1, 1]
    assert payload.is_used_up
