import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sparseseg.edges import find_edges

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.8, 0.8), (0.7, 2.0, 1.1)]


def ball(shape=(20, 22, 24), radius=7.0, spacing=(1.0, 1.0, 1.0)):
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares = [((g - n / 2 + 0.5) * mm) ** 2 for g, n, mm in zip(grids, shape, spacing, strict=True)]
    return sum(squares) < radius**2


def noisy(shape, seed=0, channels=1):
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(channels, *shape)), (0, 1, 1, 1))
    return smooth.astype(np.float32)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_borders_are_strong_and_the_inside_is_faint(spacing):
    shape = tuple(round(24 / mm) + 8 for mm in spacing)
    truth = ball(shape, 9.0, spacing)
    image = truth + np.random.default_rng(0).normal(0, 0.05, shape)
    edges = find_edges(image[None].astype(np.float32), spacing)
    border = truth & ~ndimage.binary_erosion(truth)
    inside = ndimage.distance_transform_edt(truth, sampling=spacing) > 6.0
    assert edges.dtype == np.float32
    assert edges.shape == shape
    assert edges.min() >= 0
    assert edges.max() == 1
    assert np.median(edges[border]) > 0.5
    assert np.median(edges[inside]) < 0.5 * np.median(edges[border])


@pytest.mark.parametrize("value", [0.0, -1000.0, 3e6])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (1, 1, 1)])
def test_a_constant_image_has_no_edges(value, shape):
    assert not find_edges(np.full((2, *shape), value, np.float32), (1.0, 1.0, 1.0)).any()


def test_rounding_of_large_values_is_no_edge():
    image = np.full((1, 5, 6, 7), 1e7, np.float32)
    image[0, 2] = np.nextafter(np.float32(1e7), np.float32(2e7))
    assert not find_edges(image, (1.0, 1.0, 1.0)).any()


@given(st.integers(0, 100), st.floats(-50, 50), st.floats(0.01, 100), st.sampled_from(SPACINGS))
def test_shift_and_gain_change_nothing(seed, shift, gain, spacing):
    image = noisy((6, 9, 8), seed, channels=2)
    gains = np.array([gain, 1 / gain], np.float32)[:, None, None, None]
    other = (image + np.float32(shift)) * gains
    np.testing.assert_allclose(find_edges(other, spacing), find_edges(image, spacing), atol=2e-3)


@given(st.integers(0, 100), st.floats(0.01, 100), st.sampled_from(SPACINGS))
def test_scaling_the_spacing_changes_nothing(seed, factor, spacing):
    image = noisy((6, 9, 8), seed)
    larger = tuple(mm * factor for mm in spacing)
    np.testing.assert_allclose(find_edges(image, larger), find_edges(image, spacing), atol=1e-4)
    scales = [mm * factor for mm in (1.0, 3.0)]
    np.testing.assert_allclose(
        find_edges(image, larger, scales), find_edges(image, spacing, (1.0, 3.0)), atol=1e-4
    )


@given(
    st.integers(0, 100),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from(SPACINGS),
)
def test_axes_can_be_turned_and_flipped(seed, order, flips, spacing):
    image = noisy((5, 9, 7), seed)
    axes = [axis for axis, flip in enumerate(flips) if flip]
    turned = np.flip(image[0].transpose(order), axes)[None]
    expected = np.flip(find_edges(image, spacing).transpose(order), axes)
    found = find_edges(turned, tuple(spacing[axis] for axis in order))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_has_the_edges_within_it(axis):
    shape = [12, 12, 12]
    shape[axis] = 1
    image = np.zeros(shape, np.float32)
    other = (axis + 1) % 3
    image[tuple(slice(6, None) if a == other else slice(None) for a in range(3))] = 1
    edges = find_edges(image[None], (2.0, 1.0, 1.0))
    profile = edges.max(tuple(a for a in range(3) if a != other))
    assert profile[5:7].min() == 1
    assert profile[0] < 0.3


def test_an_edge_in_any_channel_counts():
    image = np.zeros((3, 8, 16, 16), np.float32)
    image[0, :, :8] = 1
    image[2, :, :, :8] = 1000
    edges = find_edges(image, (1.0, 1.0, 1.0))
    assert edges[4, 8, 2] > 0.5
    assert edges[4, 2, 8] > 0.5
    assert edges[4, 2, 2] < 0.3


def test_a_faint_edge_is_found_beside_a_strong_one():
    image = np.zeros((1, 24, 24, 24), np.float32)
    image[0, :, :, 21:] = 10
    truth = ball((24, 24, 24), 6.0)
    image[0, truth] = 1
    edges = find_edges(image, (1.0, 1.0, 1.0))
    assert np.median(edges[truth & ~ndimage.binary_erosion(truth)]) > 0.15
