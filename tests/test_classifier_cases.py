import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.classifier_cases import TaggedCase, choose_spacing, prepare_volumes
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.settings import NetworkConfig

TABLE = ClassTable.from_values([1, 2])
MOST = 128**3


def prepare(*cases):
    return prepare_volumes(cases, TABLE, NetworkConfig(), outside_absent=True)


def image(shape=(10, 12, 14), channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


@given(
    st.tuples(*[st.integers(1, 700)] * 3),
    st.tuples(*[st.floats(0.2, 8)] * 3),
)
def test_the_grid_is_neither_too_fine_nor_too_coarse(shape, spacing):
    chosen = choose_spacing([shape], [spacing], MOST)
    voxels = np.prod([max(1, n * s / c) for n, s, c in zip(shape, spacing, chosen, strict=True)])
    assert voxels <= MOST * 1.001
    if np.prod(shape) > MOST:
        assert voxels > MOST * 0.99
        assert all(c >= s for c, s in zip(chosen, spacing, strict=True))
    else:
        assert all(s / 2 <= c <= s for c, s in zip(chosen, spacing, strict=True))
    anisotropy = max(spacing) / min(spacing)
    assert max(chosen) / min(chosen) <= anisotropy * 1.001


@given(
    st.lists(
        st.tuples(st.tuples(*[st.integers(1, 700)] * 3), st.tuples(*[st.floats(0.2, 8)] * 3)),
        min_size=1,
        max_size=5,
    )
)
def test_no_volume_is_too_large(volumes):
    shapes, spacings = zip(*volumes, strict=True)
    chosen = choose_spacing(shapes, spacings, MOST)
    extents = np.multiply(shapes, spacings)
    assert np.maximum(extents / chosen, 1).prod(1).max() <= 4 * MOST * 1.001


def test_a_large_volume_among_small_ones_coarsens_the_grid():
    small, large = (100, 100, 100), (500, 300, 300)
    assert choose_spacing([small] * 3, [(1.0, 1.0, 1.0)] * 3, MOST) == (1.0, 1.0, 1.0)
    chosen = choose_spacing([small, small, large], [(1.0, 1.0, 1.0)] * 3, MOST)
    assert np.prod(np.divide(large, chosen)) == pytest.approx(4 * MOST, rel=0.01)


def test_a_grid_in_between_is_kept():
    assert choose_spacing([(60, 201, 100)], [(3.0, 1.0, 2.0)], MOST) == (3.0, 1.0, 2.0)


def test_volumes_of_different_spacing_come_to_one():
    labels = [ImageLabel(2, True, 0, 3, 4)]
    cases = [
        TaggedCase(image((40, 60, 60)), (2.0, 1.0, 1.0), labels, "a"),
        TaggedCase(image((40, 30, 60)), (2.0, 2.0, 1.0), labels, "b"),
        TaggedCase(image((80, 60, 60)), (1.0, 1.0, 1.0), labels, "c"),
    ]
    data = prepare(*cases)
    assert len({volume.image.shape for volume in data.volumes}) == 1
    for volume in data.volumes:
        assert volume.image.shape[1:] == volume.presence.shape
    assert [volume.name for volume in data.volumes] == ["a", "b", "c"]


def test_air_round_a_patient_does_not_widen_the_window():
    scan = np.full((1, 20, 40, 40), -1000, np.float32)
    scan[0, :, 15:25, 15:25] = np.random.default_rng(0).normal(40, 30, (20, 10, 10))
    low, high, mean, _ = prepare(
        TaggedCase(scan, (1.0, 1.0, 1.0), [ImageLabel(2, True)])
    ).normalisation.windows[0]
    assert -300 < low < high < 400
    assert 20 < mean < 60
    empty = np.where(scan > -500, -700, scan)  # nothing but lung
    assert prepare(TaggedCase(empty, (1.0, 1.0, 1.0), [ImageLabel(2, True)])).normalisation.windows[0]


def test_what_cannot_be_learnt_from_is_told():
    label = [ImageLabel(2, True, 0, 1, 2)]
    with pytest.raises(InputError, match="no image-level label"):
        prepare(TaggedCase(image(), (1.0, 1.0, 1.0), []))
    with pytest.raises(InputError, match="b has 2 channels and a has 1"):
        prepare(
            TaggedCase(image(), (1.0, 1.0, 1.0), label, "a"),
            TaggedCase(image(channels=2), (1.0, 1.0, 1.0), label, "b"),
        )
    with pytest.raises(InputError, match="the image of b has one intensity"):
        prepare(
            TaggedCase(image(), (1.0, 1.0, 1.0), label, "a"),
            TaggedCase(np.zeros((1, 5, 5, 5), np.float32), (1.0, 1.0, 1.0), [], "b"),
        )
    for bad in (np.nan, np.inf, -np.inf):
        broken = image(channels=2)
        broken[1, 3, 4, 5] = bad
        with pytest.raises(InputError, match="the image of scan has voxels that are infinite or no numbers"):
            prepare(TaggedCase(broken, (1.0, 1.0, 1.0), label, "scan"))
    with pytest.raises(InputError, match="class 4"):
        prepare(TaggedCase(image(), (1.0, 1.0, 1.0), [ImageLabel(4, True)]))
    with pytest.raises(InputError, match="not in the volume"):
        prepare(TaggedCase(image(), (1.0, 1.0, 1.0), [ImageLabel(2, True, 0, 5, 10)]))
