import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.box_geometry import Box
from napari_sparseseg.work_grid import Scene, WorkGrid, run_to_end


def make_scene(shape, box, spacing=(3.0, 1.0, 1.5), channels=1):
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    return Scene(image, spacing, box, np.zeros(shape, bool))


def test_a_small_box_stays_on_its_own_grid():
    scene = make_scene((8, 9, 10), Box((1, 1, 1), (5, 5, 5), 2))
    grid = WorkGrid(scene, 64)
    assert grid.scene is scene
    values = scene.image[0]
    assert grid.take(values) is values
    assert grid.bring_back(values) is values


@given(
    st.tuples(*[st.integers(2, 14)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.integers(20, 400),
    st.integers(1, 2),
)
def test_a_large_box_is_of_the_same_extent_on_fewer_voxels(shape, spacing, most, channels):
    box = Box((0, 0, 0), shape, 5)
    scene = make_scene(shape, box, spacing, channels)
    grid = WorkGrid(scene, most)
    coarse = grid.scene
    assert coarse.box.volume <= most or coarse is scene
    assert coarse.box.label == 5
    assert coarse.image.shape == (channels, *coarse.others.shape)
    np.testing.assert_allclose(np.multiply(coarse.others.shape, coarse.spacing), np.multiply(shape, spacing))
    back = grid.bring_back(np.full(coarse.others.shape, 0.25, np.float32))
    assert back.shape == shape
    np.testing.assert_allclose(back, 0.25, rtol=1e-5)


def test_a_generator_is_run_to_its_end():
    def work():
        yield 0.5
        return "made"

    assert run_to_end(work()) == "made"
    with pytest.raises(ZeroDivisionError):
        run_to_end(1 / number for number in (1, 0))
