"""Where pictures lie beside an image: to its right, from its top down, on the visible slice."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_sparseseg.widgets.picture_grid import lay_beside
from napari_sparseseg.widgets.placement import Placement

sizes = st.tuples(*[st.integers(1, 40)] * 3)
lengths = st.tuples(*[st.floats(0.3, 5)] * 3)


@st.composite
def placements(draw):
    """A grid in space: axes in any direction, turned a little, as patients lie in scanners."""
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    turn = Rotation.from_euler("zyx", draw(st.tuples(*[st.floats(-25, 25)] * 3)), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(signs) * np.array(draw(lengths))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Placement(affine)


def corners(placement, size, shown):
    """Return the lowest and the highest world place that a layer is drawn at, along the shown axes."""
    within = placement.affine[np.ix_(shown, shown)]
    ends = itertools.product(*[(-0.5, size[axis] - 0.5) for axis in shown])
    drawn = np.array([within @ end + placement.affine[shown, placement.ndim] for end in ends])
    return drawn.min(0), drawn.max(0)


@given(
    placement=placements(),
    shape=sizes,
    pictures=st.lists(st.tuples(sizes, lengths), min_size=1, max_size=5),
    axis=st.integers(0, 2),
    point=st.tuples(*[st.floats(-100, 100)] * 3),
    upright=st.booleans(),
    data=st.data(),
)
def test_pictures_lie_beside_the_image_and_none_covers_another(
    placement, shape, pictures, axis, point, upright, data
):
    shown = tuple(other for other in range(3) if other != axis)
    middle = data.draw(st.tuples(*[st.integers(0, 39)] * 3))
    places = lay_beside(placement, shape, pictures, shown, np.array(point), middle, upright=upright)
    (top, _), (bottom, right) = corners(placement, shape, shown)
    boxes = [corners(p, size, shown) for p, (size, _) in zip(places, pictures, strict=True)]
    tolerance = 1e-6 * (1 + np.abs(placement.affine).max() + bottom - top)
    for place, (_, spacing) in zip(places, pictures, strict=True):
        np.testing.assert_allclose(place.spacing, spacing)
        np.testing.assert_allclose(
            place.affine[:3, :3] / place.spacing, placement.affine[:3, :3] / placement.spacing, atol=1e-9
        )
        assert abs(place.slice_at(np.array(point), axis) - middle[axis]) < 1e-6
    for low, high in boxes:
        assert low[1] > right
        if upright:
            assert high[0] < bottom + tolerance
        else:
            assert low[0] > top - tolerance
    edge = boxes[0][1][0] - bottom if upright else boxes[0][0][0] - top
    assert abs(edge) < tolerance
    for (low, high), (other_low, other_high) in itertools.combinations(boxes, 2):
        assert (high < other_low).any() or (other_high < low).any()


def test_small_pictures_lie_below_each_other_and_large_ones_side_by_side():
    image = Placement(np.diag([3.0, 1, 1, 1]))
    shown, point = (1, 2), np.array([9.0, 0, 0])

    def place(size, count):
        found = lay_beside(
            image, (12, 40, 48), [(size, (3, 1, 1))] * count, shown, point, (4, 0, 0), upright=False
        )
        return np.array([each.affine[:3, 3] for each in found])

    small = place((8, 10, 12), 4)
    assert (small[:3, 2] == small[0, 2]).all()
    assert small[3, 2] > small[0, 2] + 12
    assert (np.diff(small[:3, 1]) > 10).all()
    assert small[3, 1] == small[0, 1] == 0
    assert (small[:, 0] == 9 - 4 * 3).all()
    large = place((8, 40, 40), 3)
    assert (large[:, 1] == 0).all()
    assert (np.diff(large[:, 2]) > 40).all()


def test_pictures_of_a_flat_image_lie_beside_it():
    image = Placement(np.diag([0.5, 0.5, 1]))
    (place,) = lay_beside(
        image, (1, 20, 30), [((8, 8), (0.5, 0.5))], (0, 1), np.zeros(2), (0, 0), upright=False
    )
    np.testing.assert_allclose(place.affine[:2, :2], image.affine[:2, :2])
    assert place.affine[0, 2] == 0
    assert place.affine[1, 2] > 0.5 * 29.5
