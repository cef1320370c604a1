"""The layers of an image: colors, order, and how seldom they are drawn anew."""

import numpy as np
import pytest

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.image_source import prepare_reading
from napari_sparseseg.widgets.layers import CaseLayers, color_labels, is_own
from tests.widgets.conftest import settle, wait_for

TABLE = ClassTable.from_values([2, 5])


@pytest.fixture
def layers(viewer):
    image = viewer.add_image(np.zeros((6, 20, 24)), name="scan", scale=(3, 1, 1))
    source = prepare_reading(image)()
    made = CaseLayers(viewer, source, *np.zeros((2, 6, 20, 24), np.uint8), TABLE)
    yield made
    made.close()


def test_strokes_lie_over_the_prediction_which_lies_over_the_image(viewer, layers):
    names = [layer.name for layer in viewer.layers]
    assert names == ["scan", "uncertainty of scan", "prediction of scan", "labels of scan"]
    layers.show_apart("interpolated", np.full((6, 20, 24), 2, np.uint8))
    names = [layer.name for layer in viewer.layers]
    assert names.index("prediction of scan") < names.index("interpolated labels of scan")
    assert names[-1] == "labels of scan"
    assert all(is_own(layer) for layer in list(viewer.layers)[1:])
    for layer in list(viewer.layers)[1:]:
        assert layer.data_to_world((1, 1, 1)) == pytest.approx((3, 1, 1))
    layers.show_apart("interpolated", None)
    assert len(viewer.layers) == 4


def test_only_the_annotation_can_be_painted(layers):
    assert layers.annotation.editable
    assert layers.annotation.n_edit_dimensions == 2
    assert not layers.prediction.editable


def test_colors_come_from_the_table():
    drawn = color_labels(TABLE, faint_background=True).color_dict
    assert drawn[0][3] == drawn[None][3] == 0
    assert 0 < drawn[1][3] < 0.5
    assert drawn[2][3] == drawn[5][3] == 1
    predicted = color_labels(TABLE, hidden=frozenset({5})).color_dict
    assert predicted[1][3] == predicted[5][3] == 0
    assert np.array_equal(predicted[2], drawn[2])


def test_the_picture_is_drawn_at_most_ten_times_a_second_and_only_where_it_changed(viewer, layers):
    drawn = []
    layers.prediction.events.set_data.connect(lambda: drawn.append(True))
    whole = ((0, 6), (0, 20), (0, 24))
    settle(0.05)
    drawn.clear()
    for _ in range(200):
        layers.picture_changed(whole, 0, 3)
        settle()
    wait_for(lambda: drawn)
    settle(0.15)
    assert len(drawn) <= 4
    drawn.clear()
    layers.picture_changed(((0, 3), (0, 20), (0, 24)), 0, 3)
    settle(0.15)
    assert drawn == []
    layers.picture_changed(((3, 4), (0, 20), (0, 24)), 0, 3)
    wait_for(lambda: drawn)


def test_taking_a_layer_out_is_told(viewer, layers):
    told = []
    layers.removed.connect(told.append)
    viewer.layers.remove(layers.prediction)
    assert told == ["prediction"]
    assert not layers.is_complete


def test_own_layers_can_be_saved_as_labels(layers, tmp_path):
    layers.annotation.data[2] = 2
    (path,) = layers.annotation.save(str(tmp_path / "labels.nii.gz"), plugin="napari-sparseseg")
    assert path.endswith("labels.nii.gz")
