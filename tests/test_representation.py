import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sparseseg.representation import alignment, dimensions, has_collapsed, spread, uniformity

POINTS = arrays(np.float32, (5, 3), elements=st.floats(-2, 2, width=32)).filter(
    lambda points: (np.linalg.norm(points, axis=1) > 0.1).all()
)


def directions(points):
    points = np.asarray(points, np.float64)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def squared_distances(points):
    unit = directions(points)
    return [((unit[i] - unit[j]) ** 2).sum() for i in range(len(unit)) for j in range(i)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1, 0], [-3, 0]], math.sqrt(2)),  # antipodal
        (np.eye(4), 1),
        ([[1, 2], [1, 2], [2, 4]], 0),
    ],
    ids=["antipodal", "orthogonal", "identical"],
)
def test_spread_of_known_points(points, expected):
    assert spread(torch.tensor(points, dtype=torch.float32)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("points", "expected"),
    [([[1, 0], [-3, 0]], -8), (np.eye(4), -4), ([[1, 2], [1, 2], [2, 4]], 0)],
    ids=["antipodal", "orthogonal", "identical"],
)
def test_uniformity_of_known_points(points, expected):
    assert uniformity(torch.tensor(points, dtype=torch.float32)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("second", "expected"),
    [([[5.0, 0], [0, 0.1]], 0), ([[0.0, 1], [1, 0]], 2), ([[-1.0, 0], [0, -1]], 4)],
    ids=["identical", "orthogonal", "antipodal"],
)
def test_alignment_of_known_points(second, expected):
    assert alignment(torch.eye(2), torch.tensor(second)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(POINTS, st.floats(0.5, 5))
def test_spread_and_uniformity_equal_their_formulas(points, sharpness):
    distances = squared_distances(points)
    assert spread(torch.from_numpy(points)) == pytest.approx(math.sqrt(np.mean(distances) / 2), abs=1e-3)
    expected = math.log(np.mean(np.exp(-sharpness * np.array(distances))))
    assert uniformity(torch.from_numpy(points), sharpness) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(POINTS, arrays(np.float32, 5, elements=st.floats(0.125, 8, width=32)))
def test_the_length_of_features_does_not_matter(points, lengths):
    features, longer = torch.from_numpy(points), torch.from_numpy(points * lengths[:, None])
    assert alignment(features, longer) == pytest.approx(0, abs=1e-6)
    assert uniformity(longer) == pytest.approx(uniformity(features), abs=1e-3)
    assert spread(longer) == pytest.approx(spread(features), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(POINTS, POINTS)
def test_only_the_same_directions_are_aligned(first, second):
    apart = ((directions(first) - directions(second)) ** 2).sum(1).mean()
    assert alignment(torch.from_numpy(first), torch.from_numpy(second)) == pytest.approx(apart, abs=1e-5)


def common_part(deviation, seed=0):
    """Return features as an encoder's are: positive, and alike but for a share of `deviation`."""
    random = np.random.default_rng(seed)
    mean = random.uniform(0.5, 1.5, 128)
    return torch.from_numpy(mean * (1 + deviation * random.standard_normal((32, 128))))


@pytest.mark.parametrize("deviation", [0, 0.001, 0.01])
def test_features_equal_up_to_a_hundredth_have_collapsed(deviation):
    assert has_collapsed(common_part(deviation))


@pytest.mark.parametrize("deviation", [0.3, 1, 10])
def test_features_that_differ_have_not_collapsed(deviation):
    assert not has_collapsed(common_part(deviation))


def test_two_answers_for_everything_are_a_collapse_though_they_are_far_apart():
    features = torch.randn(1, 128, generator=torch.Generator().manual_seed(0)).repeat(32, 1)
    features[::2] *= -1
    features += 0.01 * common_part(1)
    assert spread(features) > 0.9
    assert has_collapsed(features)


def test_what_is_no_number_has_collapsed():
    assert has_collapsed(torch.full((4, 8), math.nan))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_dimensions_are_counted(count):
    """Points on the axes of a space: as many directions as axes, for their mean is 0."""
    points = torch.cat([torch.eye(count), -torch.eye(count)])
    assert dimensions(points) == pytest.approx(count)


@given(POINTS, st.floats(0.1, 10))
def test_dimensions_do_not_depend_on_length(points, factor):
    points = torch.from_numpy(points)
    if spread(points) > 0.1:
        assert dimensions(points * factor) == pytest.approx(dimensions(points), rel=1e-3)
        assert 1 - 1e-6 <= dimensions(points) <= 3 + 1e-6
