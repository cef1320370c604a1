"""Pictures of what a task sees, beside the image: where they lie, and what stays the user's."""

import numpy as np
import pytest

from napari_sparseseg.widgets.image_source import prepare_reading
from napari_sparseseg.widgets.placement import Placement, find_camera, turn_to
from napari_sparseseg.widgets.pretext_layers import PretextLayers, find_limits, find_middle
from tests.widgets.conftest import settle
from tests.widgets.pretrain_window import NAMES, make_pictures


@pytest.fixture
def viewer():
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def show(viewer, image):
    """Shows an image with labels over it; returns the layers of pictures beside it."""
    made = []

    def make(values=image, **transform):
        scan = viewer.add_image(values, name="scan", **transform)
        labels = viewer.add_labels(np.zeros(values.shape, np.uint8), name="labels of scan", **transform)
        viewer.layers.selection.active = labels
        made.append(PretextLayers(viewer, prepare_reading(scan)(), labels))
        return made[-1]

    yield make
    for layers in made:
        if layers.names:
            layers.close()


def pictures(viewer):
    return [layer for layer in viewer.layers if layer.name.startswith("Pre-training: ")]


def visible(viewer, layer):
    """Return the index of the slice that napari shows of a layer across its first axis."""
    return Placement.of_layer(layer).slice_at(np.array(viewer.dims.point), viewer.dims.order[0])


def test_pictures_lie_right_of_the_image_on_the_visible_slice(viewer, show):
    layers = show(scale=(3, 1, 1))
    viewer.dims.set_point(0, 9)
    layers.show(make_pictures())
    assert [layer.name for layer in viewer.layers] == [
        "scan", *(f"Pre-training: {name}" for name in reversed(NAMES)), "labels of scan",
    ]  # fmt: skip
    assert viewer.layers.selection.active == viewer.layers["labels of scan"]
    for layer in pictures(viewer):
        assert layer.extent.world[0][2] > viewer.layers["scan"].extent.world[1][2]
        assert layer.extent.world[0][1] >= viewer.layers["scan"].extent.world[0][1]
        assert round(visible(viewer, layer)) == 4
        assert layer.blending == "translucent_no_depth"  # "additive" is not seen on a light theme's white
    assert viewer.dims.point[0] == 9


def test_new_pictures_take_the_place_of_the_last(viewer, show):
    layers = show()
    layers.show(make_pictures())
    before = pictures(viewer)
    places = [layer.affine.affine_matrix for layer in before]
    new = make_pictures(seed=1)
    layers.show(new)
    assert pictures(viewer) == before
    for layer, place in zip(before, places, strict=True):
        name = layer.name.removeprefix("Pre-training: ")
        np.testing.assert_array_equal(layer.data, new.images[NAMES.index(name)])
        np.testing.assert_array_equal(layer.affine.affine_matrix, place)
    layers.show(make_pictures(("tiles", "answer"), (4, 6, 6)))
    assert [layer.name for layer in pictures(viewer)] == ["Pre-training: answer", "Pre-training: tiles"]
    assert layers.names == ("tiles", "answer")


def test_what_can_be_compared_is_shown_between_the_same_values(viewer, show):
    images = make_pictures(("input", "target", "prediction", "where it was hidden"))
    limits = find_limits(images.names, images.images)
    assert limits["input"] == limits["target"] == limits["prediction"] != limits["where it was hidden"]
    low, high = limits["input"]
    assert images.images[:2].min() <= low < high <= images.images[:2].max()
    assert find_limits(("tiles",), np.zeros((1, 2, 2, 2), np.float32)) == {"tiles": (-1, 1)}
    layers = show()
    layers.show(images)
    first = viewer.layers["Pre-training: input"]
    assert tuple(first.contrast_limits) == pytest.approx(low_high := limits["input"])
    first.contrast_limits = (-0.25, 0.25)  # the user's own
    layers.show(make_pictures(images.names, scale=4))
    assert tuple(first.contrast_limits) == (-0.25, 0.25)
    assert viewer.layers["Pre-training: target"].contrast_limits[1] > 2 * low_high[1]


def test_the_slice_in_the_middle_shows_something():
    images = make_pictures(shape=(9, 12, 10)).images
    assert find_middle(images) == (4, 6, 5)
    assert find_middle(np.zeros_like(images)) == (4, 6, 5)
    assert find_middle(images[:, :1, :, :1]) == (0, 6, 0)
    images[:, 4] = images[:, :, 6:] = 0  # a gap between tiles, and air
    first, second, third = find_middle(images)
    assert first in (3, 5)
    assert second < 6
    assert 3 <= third <= 7


def test_pictures_follow_the_orientation_and_the_image(viewer, show):
    layers = show(scale=(3, 1, 1))
    layers.show(make_pictures())
    viewer.dims.set_point(1, 30)
    turn_to(viewer.dims, 3, 1)
    scan = viewer.layers["scan"]
    placement = Placement.of_layer(scan)
    layers.place(placement)
    for layer in pictures(viewer):
        assert layer.extent.world[0][2] > scan.extent.world[1][2]
        assert abs(visible(viewer, layer) - 6) < 0.51
    scan.translate = (0, 0, 100)
    layers.place(Placement.of_layer(scan))
    for layer in pictures(viewer):
        assert layer.extent.world[0][2] > 148


def test_pictures_come_back_to_the_visible_slice_but_do_not_jump_while_they_are_seen(viewer, show):
    layers = show()
    viewer.dims.set_point(0, 5)
    layers.show(make_pictures(spacing=(1, 1, 1)))
    layer = viewer.layers["Pre-training: input"]
    assert round(visible(viewer, layer)) == 4
    viewer.dims.set_point(0, 7)
    layers.show(make_pictures(spacing=(1, 1, 1), seed=1))
    assert round(visible(viewer, layer)) == 6
    viewer.dims.set_point(0, 11)
    layers.show(make_pictures(spacing=(1, 1, 1), seed=2))
    assert round(visible(viewer, layer)) == 4


def test_the_view_shows_them_and_goes_back(viewer, show):
    layers = show()
    camera = find_camera(viewer)
    camera.center, camera.zoom = (0, 20, 24), 9.0
    layers.show(make_pictures())
    assert camera.zoom != 9.0
    layers.clear()
    assert camera.zoom == 9.0
    assert tuple(camera.center)[1:] == (20, 24)
    layers.show(make_pictures())
    closer = camera.zoom
    turn_to(viewer.dims, 3, 2)
    layers.place(Placement.of_layer(viewer.layers["scan"]))
    assert camera.zoom != closer
    layers.clear()
    alone = camera.zoom
    viewer.reset_view()
    assert camera.zoom == alone
    layers.show(make_pictures())
    camera.zoom = 4.0  # the user looks closer
    layers.clear()
    assert camera.zoom == 4.0
    assert not pictures(viewer)


def test_the_user_may_take_them_out(viewer, show):
    layers = show()
    heard = []
    layers.removed.connect(lambda: heard.append(layers.names))
    layers.show(make_pictures())
    viewer.layers.remove("Pre-training: target")
    assert heard == [("input", "prediction")]
    viewer.layers.selection = set(pictures(viewer))
    viewer.layers.remove_selected()
    assert heard[-1] == ()
    layers.show(make_pictures())
    assert len(pictures(viewer)) == 3
    viewer.layers.clear()
    assert heard[-1] == ()
    count = len(heard)
    layers.show(make_pictures())
    layers.close()
    assert len(heard) == count
    assert not viewer.layers


def test_pictures_of_a_flat_image_are_its_middle_slices(viewer, show, image):
    layers = show(image[6])
    shown = make_pictures(shape=(2, 12, 10))
    layers.show(shown)
    settle()
    assert [layer.ndim for layer in pictures(viewer)] == [2, 2, 2]
    np.testing.assert_array_equal(viewer.layers["Pre-training: input"].data, shown.images[0, 1])
