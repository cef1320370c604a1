"""The layer of points by itself: what it shows, and what it tells of what is done to it."""

import numpy as np
import pytest
from napari.utils.color import ColorValue

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.project_records import PointRecord
from napari_sparseseg.volume import volume_from_array
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.placement import Placement
from napari_sparseseg.widgets.point_layer import PointLayer
from tests.widgets.conftest import settle

TABLE = ClassTable.from_values([2, 3])
RECORDS = (PointRecord(4, 1, 2, (3, 5, 7)), PointRecord(9, 1, 1, (6, 20, 24)))
OBLIQUE = np.array([[2, 0, 0.3, 5], [0, 1, 0, -3], [-0.6, 0, 1, 4], [0, 0, 0, 1.0]])


@pytest.fixture
def make_layer(viewer):
    made = []

    def make(affine=None, shape=(12, 40, 48)):
        placement = Placement(np.diag([3.0, 1, 1, 1]) if affine is None else affine)
        volume = volume_from_array(np.zeros((1, *shape), np.float32), affine=placement.affine_3d)
        layer = PointLayer(viewer, ImageSource("scan", volume, placement, "", ""), TABLE)
        layer.heard = []
        layer.edited.connect(lambda *given: layer.heard.append(given))
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close()


def test_points_have_the_color_of_their_class_and_the_next_one_too(make_layer):
    points = make_layer()
    points.show_points(RECORDS, TABLE, 3)
    colors = [TABLE.classes[1].color, TABLE.classes[0].color]
    assert np.allclose(points.layer.face_color, [np.array(ColorValue(color)) for color in colors])
    assert np.array_equal(points.layer.data, [(3, 5, 7), (6, 20, 24)])
    points.layer.add((1, 2, 3))
    assert np.allclose(points.layer.face_color[2], ColorValue(TABLE.classes[2].color))
    points.show_points((), TABLE, 2)
    assert len(points.layer.data) == 0
    settle()
    assert points.heard == [((), (), ())]  # of what was added, and is not there any more


def test_what_is_done_to_the_layer_is_told_once(make_layer):
    points = make_layer()
    points.show_points(RECORDS, TABLE, 2)
    settle()
    assert not points.heard
    points.layer.add((2.2, 10.4, 11.6))
    settle()
    assert points.heard.pop() == (((2, 10, 12),), (), ())
    points.show_points(RECORDS, TABLE, 2)
    points.layer.selected_data = {1}
    points.layer.remove_selected()
    settle()
    assert points.heard.pop() == ((), (), (9,))
    points.show_points(RECORDS, TABLE, 2)
    points.layer._set_drag_start({0}, np.array([3.0, 5.0, 7.0]))
    points.layer._move({0}, np.array([3.0, 30.0, 31.0]))
    settle()
    ((added, moved, deleted),) = points.heard
    assert (added, deleted) == ((), ())
    assert moved == ((4, (3, 30, 31)),)


def test_what_is_pasted_is_new(make_layer):
    points = make_layer()
    points.show_points(RECORDS, TABLE, 2)
    points.layer.add((3, 5, 7))
    points.layer.features = {"number": [4, 9, 4]}  # as napari copies it
    settle()
    assert points.heard == [(((3, 5, 7),), (), ())]


def test_a_selection_stays_where_points_are_shown_anew(make_layer):
    points = make_layer()
    points.show_points(RECORDS, TABLE, 2)
    points.layer.selected_data = {1}
    points.show_points(RECORDS[1:], TABLE, 2)
    assert points.layer.selected_data == {0}
    assert points.layer.numbers == [9]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_oblique_image_is_pointed_at_where_it_is_seen(make_layer, axis):
    points = make_layer(OBLIQUE)
    points.show_slice(axis)
    placement, voxel = points.layer.placement, np.array([4.0, 11.0, 13.0])
    shown = [other for other in range(3) if other != axis]
    position = np.empty(3)
    position[axis] = placement.point_of(voxel[axis], axis)
    within = placement.affine[np.ix_(shown, shown)]
    position[shown] = within @ voxel[shown] + placement.affine[shown, 3]
    assert np.allclose(points.layer.world_to_data(position), voxel)


def test_a_flat_image_has_its_points_in_slice_0(make_layer):
    points = make_layer(np.diag([2.0, 1, 1]), (1, 40, 48))
    points.show_points((PointRecord(1, 1, 2, (0, 5, 7)),), TABLE, 2)
    assert np.array_equal(points.layer.data, [(5, 7)])
    points.layer.add((6.1, 8.9))
    settle()
    assert points.heard == [(((0, 6, 9),), (), ())]


def test_it_moves_with_the_image_and_tells_when_it_goes(make_layer, viewer):
    points = make_layer()
    gone = []
    points.removed.connect(lambda: gone.append(1))
    points.place(Placement(np.diag([5.0, 2, 2, 1])))
    assert np.allclose(points.layer.scale, (5, 2, 2))
    viewer.layers.remove(points.layer)
    assert gone == [1]
    points.mark(True)
    assert not points.marking
