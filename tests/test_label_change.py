import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.annotation import SOURCES
from napari_sparseseg.errors import InputError
from napari_sparseseg.label_change import (
    LabelChange,
    check_source,
    order_voxels,
    pack_bytes,
    pack_voxels,
    source_codes,
    source_ranks,
    unpack_bytes,
    unpack_voxels,
)


def make_change(before_sources, *, undone):
    count = len(before_sources)
    arrays = np.arange(count) * 3, np.full(count, 2, np.uint8), np.full(count, 3, np.uint8)
    return LabelChange(1, 1, "accepted", *arrays, np.array(before_sources, np.uint8), 0.0, undone)


def test_projects_hold_source_codes_so_their_order_is_for_ever():
    assert SOURCES[:7] == ("stroke", "import", "accepted", "interpolated", "preview", "box", "cam")


@pytest.mark.parametrize("voxel_count", [5000, 2**32 + 10])
@given(st.data())
def test_what_is_packed_comes_back(voxel_count, data):
    indices = st.integers(0, voxel_count - 1)
    voxels = np.array(sorted(data.draw(st.sets(indices, min_size=1, max_size=50))), np.int64)
    values = np.array(data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=50)), np.uint8)
    assert (unpack_voxels(pack_voxels(voxels, voxel_count), len(voxels), voxel_count) == voxels).all()
    assert (unpack_bytes(pack_bytes(values), len(values)) == values).all()


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=60))
def test_the_last_value_of_a_voxel_counts(pairs):
    voxels, values = order_voxels([v for v, _ in pairs], [v for _, v in pairs], 100)
    assert dict(zip(voxels.tolist(), values.tolist(), strict=True)) == dict(pairs)
    assert voxels.tolist() == sorted(set(voxels.tolist()))


@pytest.mark.parametrize(
    ("voxels", "values"),
    [
        ([100], 1),
        ([-1], 1),
        ([1.5], 1),
        ([2**70], 1),
        ([1, 2], [1, 2, 3]),
        ([1], []),
        ([1], 256),
        ([1], -1),
        ([1], 1.0),
        (["a"], 1),
    ],
)
def test_what_makes_no_sense_is_refused(voxels, values):
    with pytest.raises(InputError):
        order_voxels(voxels, values, 100)


@given(st.binary(max_size=60), st.integers(-1, 101))
def test_damaged_voxels_are_noticed(noise, count):
    with pytest.raises(ValueError, match=r"."):
        unpack_voxels(noise, count, 100)


def test_proper_bytes_that_are_no_voxels_are_noticed():
    good = pack_voxels(np.array([3, 7, 99]), 100)
    assert unpack_voxels(good, 3, 100).tolist() == [3, 7, 99]
    for packed, count, size in [
        (good, 2, 100),
        (good, 4, 100),
        (good, 3, 99),  # one is outside the image
        (good, 3.0, 100),
        (good[:-1], 3, 100),
        (None, 3, 100),
        (pack_voxels(np.array([3, 3, 9]), 100), 3, 100),  # twice the same
    ]:
        with pytest.raises(ValueError, match=r"."):
            unpack_voxels(packed, count, size)
    with pytest.raises(ValueError, match="value 9"):
        unpack_bytes(pack_bytes(np.array([1, 9], np.uint8)), 2, largest=7)


def test_a_stroke_is_stronger_than_everything_and_everything_than_nothing():
    ranks = source_ranks()
    assert ranks[0] == ranks.min()
    assert (ranks[1] > np.delete(ranks, 1)).all()


def test_unknown_sources_are_refused():
    for source in SOURCES:
        check_source(source)
    with pytest.raises(InputError, match="guess"):
        check_source("guess")


def test_erased_voxels_have_no_source():
    assert source_codes(np.array([0, 1, 2], np.uint8), "accepted").tolist() == [0, 3, 3]


def test_undone_changes_tell_the_sources_that_come_back():
    change = make_change([1, 0, 3, 1], undone=False)
    ((source, voxels, values),) = change.by_source()
    assert (source, voxels.tolist(), values.tolist()) == ("accepted", [0, 3, 6, 9], [3, 3, 3, 3])
    pieces = {
        (source, tuple(v.tolist())) for source, v, _ in make_change([1, 0, 3, 1], undone=True).by_source()
    }
    assert pieces == {("stroke", (3,)), ("stroke", (0, 9)), ("accepted", (6,))}
