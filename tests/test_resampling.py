import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sparseseg import resampling
from napari_sparseseg.resampling import resample_image, resample_labels, resample_slabs, shape_at

shapes = st.tuples(*[st.integers(1, 12)] * 3)


@given(shape=shapes, spacing=st.tuples(*[st.floats(0.2, 10)] * 3))
def test_the_same_spacing_keeps_the_shape(shape, spacing):
    assert shape_at(shape, spacing, spacing) == shape
    assert shape_at(shape, spacing, tuple(s * 1.04 for s in spacing)) == shape


def test_the_box_keeps_its_size_in_millimetres():
    assert shape_at((10, 20, 30), (5.0, 1.0, 0.5), (1.0, 1.0, 1.0)) == (50, 20, 15)
    assert shape_at((1, 1, 1), (1.0, 1.0, 1.0), (9.0, 9.0, 9.0)) == (1, 1, 1)


@given(
    labels=hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, 3)
    ),
    shape=shapes,
)
def test_no_label_gets_lost(labels, shape):
    resampled = resample_labels(labels, shape)
    assert resampled.shape == shape
    assert resampled.dtype == labels.dtype
    assert resampled.max() == labels.max()
    assert set(np.unique(resampled)) <= set(np.unique(labels))


@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 3),
    factors=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 99),
)
def test_growing_labels_and_shrinking_them_again_changes_nothing(sizes, factors, seed):
    labels = np.random.default_rng(seed).integers(0, 4, sizes)
    larger = tuple(n * f for n, f in zip(sizes, factors, strict=True))
    assert np.array_equal(resample_labels(resample_labels(labels, larger), sizes), labels)
    repeated = labels.repeat(factors[0], 0).repeat(factors[1], 1).repeat(factors[2], 2)
    assert np.array_equal(resample_labels(labels, larger), repeated)


def test_a_single_labelled_voxel_survives_any_shrinking():
    for place in np.ndindex(5, 7, 6):
        labels = np.zeros((5, 7, 6), np.uint8)
        labels[place] = 2
        for shape in ((2, 3, 4), (1, 1, 1), (5, 2, 6)):
            assert (resample_labels(labels, shape) == 2).sum() == 1


@given(shape=shapes, wanted=shapes, value=st.floats(-100, 100, width=32))
def test_a_constant_image_stays_constant(shape, wanted, value):
    image = np.full((2, *shape), value, np.float32)
    resampled = resample_image(image, wanted)
    assert resampled.shape == (2, *wanted)
    assert resampled.dtype == np.float32
    assert resampled == pytest.approx(value, rel=1e-5, abs=1e-5)


def test_the_same_shape_keeps_every_value():
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    assert np.array_equal(resample_image(image, (4, 5, 6)), image)
    [(first, slab)] = list(resample_slabs(torch.from_numpy(image), (4, 5, 6)))
    assert first == 0
    assert torch.allclose(slab, torch.from_numpy(image), atol=1e-6)


def test_shrinking_averages_and_growing_interpolates():
    image = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    assert resample_image(image, (1, 1, 4)).reshape(-1).tolist() == [0.5, 2.5, 4.5, 6.5]
    grown = resample_image(image, (1, 1, 16)).reshape(-1)
    assert grown[1:-1] == pytest.approx((np.arange(16)[1:-1] - 0.5) / 2)


@pytest.mark.parametrize("slab_voxels", [1, 50, 10**6])
@pytest.mark.parametrize("wanted", [(9, 5, 6), (3, 11, 4), (1, 1, 1)])
def test_slabs_equal_torch_s_trilinear_interpolation(monkeypatch, slab_voxels, wanted):
    monkeypatch.setattr(resampling, "_SLAB_VOXELS", slab_voxels)
    values = torch.randn(3, 5, 6, 7)
    slabs = list(resample_slabs(values.half(), wanted))
    expected = torch.nn.functional.interpolate(
        values.half().float()[None], wanted, mode="trilinear", align_corners=False
    )[0]
    assert [first for first, _ in slabs] == np.cumsum([0, *(s.shape[1] for _, s in slabs)])[:-1].tolist()
    assert torch.allclose(torch.cat([slab for _, slab in slabs], 1), expected, atol=1e-5)
