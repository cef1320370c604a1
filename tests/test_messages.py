import io
import json
import string
from contextlib import suppress
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_settings import RESULT_FORMATS, BatchConfig
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Failed, HeldOutScored, Noted, StepDone, StrokeLearnt
from napari_sparseseg.messages import StreamError, encode, read_message, write_message
from napari_sparseseg.pretraining_settings import PRETEXT_TASKS, PretextConfig, PretrainingConfig
from napari_sparseseg.requests import Look, Paint, Request, SetClasses
from napari_sparseseg.settings import (
    BOX_METHODS,
    CAM_METHODS,
    DENOISING,
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)

KINDS = get_args(Request) + get_args(Event)
GENERATIONS = st.integers(0, 2**40)
PLAIN = {
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(),
    str: st.text(),
    ClassTable: st.builds(
        lambda values, name: ClassTable.from_values(values, {values[0]: name}),
        st.lists(st.integers(2, 255), min_size=1, max_size=20, unique=True),
        st.text(),
    ),
    TrainingConfig: st.builds(TrainingConfig, seconds=st.floats(0, 1e6), steps=st.integers(0, 2**60)),
    NetworkConfig: st.builds(NetworkConfig, size=st.sampled_from(["small", "medium", "large"])),
    InferenceConfig: st.builds(InferenceConfig, overlap=st.floats(0, 0.9), fill_holes=st.booleans()),
    BoxConfig: st.builds(BoxConfig, method=st.sampled_from(BOX_METHODS), seed=st.integers(0, 2**31 - 1)),
    RecursionConfig: st.builds(
        RecursionConfig,
        rounds=st.integers(0, 50),
        denoise=st.lists(st.sampled_from(["none", *DENOISING])).map(", ".join),
    ),
    BatchConfig: st.builds(
        BatchConfig, formats=st.lists(st.sampled_from(RESULT_FORMATS)).map(", ".join), overwrite=st.booleans()
    ),
    CrfConfig: st.builds(CrfConfig, appearance_mm=st.floats(0.01, 1000)),
    CamConfig: st.builds(CamConfig, method=st.sampled_from(CAM_METHODS), flips=st.booleans()),
    PretrainingConfig: st.builds(
        PretrainingConfig, task=st.sampled_from(PRETEXT_TASKS), seconds=st.floats(0, 1e6)
    ),
    PretextConfig: st.builds(
        PretextConfig, turns=st.sampled_from(["auto", "cube", "plane"]), tiles=st.integers(2, 3)
    ),
    ClassifierConfig: st.builds(ClassifierConfig, outside=st.sampled_from(["absent", "unknown"])),
}


def of_hint(hint):
    """Return a strategy for all values that a field of this type may have."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin is UnionType:
        return st.one_of(st.none() if member is NoneType else of_hint(member) for member in inner)
    if origin is tuple and inner[-1] is ...:
        return st.lists(of_hint(inner[0]), max_size=5).map(tuple)
    if origin is tuple:
        return st.tuples(*map(of_hint, inner))
    if origin is dict:
        return st.dictionaries(of_hint(inner[0]), of_hint(inner[1]), max_size=5)
    if origin is np.ndarray:
        shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
        return arrays.arrays(np.dtype(get_args(inner[1])[0]), shapes)
    return of_class(hint)


def of_class(kind):
    hints = get_type_hints(kind)
    return st.builds(kind, **{entry.name: of_hint(hints[entry.name]) for entry in fields(kind)})


ITEMS = st.one_of(*map(of_class, KINDS))
MOST_FIELDS = max(len(fields(kind)) for kind in KINDS)


def frame(content, payload=b""):
    """Return a message as it travels, its header written by hand."""
    header = content if isinstance(content, bytes) else json.dumps(content).encode()
    prefix = encode(Noted(""))[:8] + len(header).to_bytes(4, "little") + len(payload).to_bytes(8, "little")
    return prefix + header + payload


def assert_same(came, sent):
    if isinstance(sent, tuple) and any(map(is_dataclass, sent)):
        for one, other in zip(came, sent, strict=True):
            assert_same(one, other)
    elif is_dataclass(sent) and not hasattr(sent, "to_json"):
        for entry in fields(sent):
            assert_same(getattr(came, entry.name), getattr(sent, entry.name))
    else:
        np.testing.assert_equal(came, sent)
    if isinstance(sent, np.ndarray):
        assert came.dtype == sent.dtype
        assert came.flags.writeable
        assert came.flags.aligned


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_request_and_event_arrives_as_it_was_sent(kind, data):
    item, generation = data.draw(of_class(kind)), data.draw(GENERATIONS)
    message = read_message(io.BytesIO(encode(item, generation)))
    assert message.generation == generation
    assert type(message.item) is kind
    for entry in fields(kind):
        assert_same(getattr(message.item, entry.name), getattr(item, entry.name))
    assert encode(message.item, generation) == encode(item, generation)


@given(items=st.lists(ITEMS, max_size=5))
def test_messages_follow_one_another(items):
    stream = io.BytesIO()
    for number, item in enumerate(items):
        write_message(stream, item, number)
    stream.seek(0)
    for number, item in enumerate(items):
        message = read_message(stream)
        assert encode(message.item, number) == encode(item, message.generation)
    assert read_message(stream) is None


@given(item=ITEMS, share=st.floats(0, 1, exclude_max=True))
def test_half_a_message_is_no_message(item, share):
    whole = encode(item)
    part = whole[: int(share * len(whole))]
    if part:
        with pytest.raises(EOFError):
            read_message(io.BytesIO(part))


@given(item=ITEMS, place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_damage_is_noticed_or_harmless(item, place, change):
    damaged = bytearray(encode(item))
    damaged[int(place * len(damaged))] ^= change
    try:
        message = read_message(io.BytesIO(damaged))
    except (InputError, EOFError):
        return
    encode(message.item, message.generation)


@given(noise=st.binary(min_size=20))
def test_noise_is_no_message(noise):
    with pytest.raises(StreamError, match="no messages"):
        read_message(io.BytesIO(b"\0" + noise))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    kind=st.sampled_from(KINDS),
    values=st.lists(JSON, min_size=MOST_FIELDS, max_size=MOST_FIELDS),
    payload=st.binary(max_size=40),
)
def test_wrong_fields_are_refused_in_a_sentence_and_the_next_message_can_be_read(kind, values, payload):
    plain = dict(zip([entry.name for entry in fields(kind)], values, strict=False))
    stream = io.BytesIO(
        frame({"type": kind.__name__, "generation": 1, "fields": plain}, payload) + encode(StrokeLearnt(7))
    )
    with suppress(InputError):
        assert type(read_message(stream).item) is kind
    assert read_message(stream).item == StrokeLearnt(7)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"[" * 100_000, [], {}, {"type": "Noted", "fields": {"text": ""}},
        {"type": "Noted", "generation": True, "fields": {"text": ""}},
        {"type": "Noted", "generation": "1", "fields": {"text": ""}},
        {"type": "Noted", "generation": 1, "fields": {}},
        {"type": "Noted", "generation": 1, "fields": {"text": "", "more": ""}},
        {"type": "Popen", "generation": 1, "fields": {}},
        {"type": ["Noted"], "generation": 1, "fields": {"text": ""}},
    ],
)  # fmt: skip
def test_wrong_headers_are_refused_in_a_sentence(content):
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_message(io.BytesIO(frame(content)))
    assert not isinstance(caught.value, StreamError)


@pytest.mark.parametrize("shape", [[-1], [9], [1.0], [0] * 99, [0, 2**70], 3, None])
def test_wrong_shapes_are_refused_in_a_sentence(shape):
    paint = {"number": 1, "voxels": shape, "values": [0], "source": "stroke"}
    with pytest.raises(InputError, match=r"cannot be read: Paint\.voxels"):
        read_message(io.BytesIO(frame({"type": "Paint", "generation": 1, "fields": paint}, bytes(8))))


def test_more_bytes_than_arrays_are_refused():
    with pytest.raises(InputError, match="more came"):
        read_message(io.BytesIO(frame({"type": "Noted", "generation": 0, "fields": {"text": ""}}, bytes(8))))


def test_another_version_is_told_so():
    other = bytearray(encode(Noted("")))
    other[4] += 1
    with pytest.raises(StreamError, match="different versions"):
        read_message(io.BytesIO(other))


def test_no_message_is_so_long():
    other = bytearray(encode(Noted("")))
    other[8:12] = b"\xff" * 4
    with pytest.raises(StreamError, match="longer than any"):
        read_message(io.BytesIO(other))


def test_what_is_sent_is_what_the_types_say():
    voxels, values = np.zeros(2, np.int64), np.zeros(2, np.uint8)
    for wrong in (
        Look("0", 1), Look(True, 1), Look(0.5, 1), StepDone(1, "0", 0.5), Noted(b""), Failed("", 1),
        Paint(1, voxels.astype(np.int32), values), Paint(1, voxels, [0, 0]), SetClasses([]),
        HeldOutScored(1, 0.5, {1: 0.5}), NetworkConfig(), {"type": "Noted"}, None,
    ):  # fmt: skip
        with pytest.raises(InputError):
            encode(wrong)


def test_numbers_of_numpy_are_numbers():
    sent = StepDone(np.int64(3), np.float32(0.5), 1)
    came = read_message(io.BytesIO(encode(sent))).item
    assert came == StepDone(3, 0.5, 1.0)
    assert [type(number) for number in (came.step, came.loss, came.progress)] == [int, float, float]


def test_arrays_may_be_strided_and_change_after_they_were_sent():
    voxels, values = np.arange(10)[::2], np.arange(10, dtype=np.uint8)[::-2]
    message = encode(Paint(1, voxels, values))
    voxels[:] = 0
    came = read_message(io.BytesIO(message)).item
    assert came.voxels.tolist() == [0, 2, 4, 6, 8]
    assert came.values.tolist() == [9, 7, 5, 3, 1]


def test_a_namesake_is_not_sent():
    class Noted:
        pass

    with pytest.raises(InputError, match="neither"):
        encode(Noted())


def test_text_without_end_is_not_sent():
    with pytest.raises(InputError, match="too large"):
        encode(Noted("x" * 2**24))
