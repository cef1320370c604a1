"""What is visible, and where, of layers that lie in any way."""

import warnings

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_sparseseg.widgets.placement import Placement, move_to_slice, slice_axis, turn_to

TURNS = [(0, 0, 0), (0, 0, 30), (8, -5, 12), (20, 10, -15)]


@pytest.fixture(params=TURNS, ids=str)
def placed(request, viewer):
    """An image turned by three angles, in a viewer, and its placement; napari warns of what it leaves out."""
    warnings.filterwarnings("ignore", "Non-orthogonal slicing")
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", request.param, degrees=True).as_matrix() @ np.diag(
        [3, 0.5, 1]
    )
    affine[:3, 3] = 5, -6, 7
    values = np.arange(20 * 30 * 25, dtype=np.float32).reshape(20, 30, 25)
    layer = viewer.add_image(values, affine=affine)
    return layer, Placement.of_layer(layer)


def test_the_slice_named_is_the_slice_shown(placed, viewer):
    layer, placement = placed
    for axis in (0, 1, 2):
        turn_to(viewer.dims, 3, axis)
        for index in (9, 13):  # napari's sliders do not reach the outermost slices of a turned image
            move_to_slice(viewer.dims, placement, axis, index)
            assert slice_axis(viewer.dims, 3) == axis
            assert round(placement.slice_at(np.array(viewer.dims.point), axis)) == index
            voxel = np.array([9.0, 9.0, 9.0])
            voxel[axis] = index
            others = [other for other in range(3) if other != axis]
            world = np.array(viewer.dims.point)
            world[others] = placement.affine[others][:, others] @ voxel[others] + placement.affine[others, 3]
            # what napari says lies under the cursor there is the value of that very voxel
            seen = layer.get_value(voxel, dims_displayed=list(viewer.dims.displayed))
            assert seen == layer.data[tuple(voxel.astype(int))]
            assert np.array_equal(placement.voxel_at(world, axis).round(), voxel)


def test_a_voxel_drawn_is_the_voxel_found(placed):
    _, placement = placed
    for axis in (0, 1, 2):
        others = [a for a in range(3) if a != axis]
        voxel = np.array([7.0, 8.0, 9.0])
        drawn = placement.affine[others][:, others] @ voxel[others] + placement.affine[others, 3]
        world = np.empty(3)
        world[others], world[axis] = drawn, placement.point_of(7 + axis, axis)
        voxel[axis] = 7 + axis
        assert placement.voxel_at(world, axis) == pytest.approx(voxel)


def test_slices_stay_where_they_are_when_the_view_turns(placed, viewer):
    _, placement = placed
    indices = (9, 14, 12)
    for axis in range(3):
        move_to_slice(viewer.dims, placement, axis, indices[axis])
    for axis in (1, 2, 0):
        turn_to(viewer.dims, 3, axis)
        point = np.array(viewer.dims.point)
        assert tuple(round(placement.slice_at(point, a)) for a in range(3)) == indices
        assert viewer.dims.displayed == tuple(a for a in range(3) if a != axis)


def test_flat_layers_and_3d_display_have_no_slice(viewer):
    layer = viewer.add_image(np.zeros((8, 9)), scale=(2, 3))
    placement = Placement.of_layer(layer)
    assert placement.ndim == 2
    assert slice_axis(viewer.dims, 2) is None
    assert placement.affine_3d.diagonal() == pytest.approx([1, 2, 3, 1])
    viewer.add_image(np.zeros((4, 8, 9)))
    assert slice_axis(viewer.dims, 3) == 0
    viewer.dims.ndisplay = 3
    assert slice_axis(viewer.dims, 3) is None


def test_layers_with_more_axes_in_the_viewer_do_not_matter(viewer):
    viewer.add_image(np.zeros((2, 4, 8, 9)))
    turn_to(viewer.dims, 3, 1)
    assert viewer.dims.order == (0, 2, 1, 3)
    assert slice_axis(viewer.dims, 3) == 1
