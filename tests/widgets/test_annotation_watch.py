"""Every change of the annotation layer is noticed once, whoever made it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.widgets.annotation_layer import Labels
from napari_sparseseg.widgets.annotation_watch import AnnotationWatch
from napari_sparseseg.widgets.placement import Placement
from tests.widgets.conftest import settle, wait_for

SHAPE = (6, 20, 24)


def make(ndim=3):
    layer = Labels(np.zeros(SHAPE[-ndim:], np.uint8), Placement(np.eye(ndim + 1)))
    watch = AnnotationWatch(layer)
    known, told = np.zeros_like(layer.data), []

    def take(voxels, values, how, source):
        assert (known.reshape(-1)[voxels] != values).all()
        known.reshape(-1)[voxels] = values
        told.append((how, source))

    watch.changed.connect(take)
    return layer, watch, known, told


places = st.tuples(*(st.integers(0, size - 1) for size in SHAPE))
edits = st.one_of(
    st.tuples(st.just("paint"), places, st.integers(0, 4)),
    st.tuples(st.just("fill"), places, st.integers(0, 4)),
    st.tuples(st.just("undo"), st.none(), st.none()),
    st.tuples(st.just("redo"), st.none(), st.none()),
    st.tuples(st.just("set"), places, st.integers(0, 4)),
)


@given(st.lists(edits, max_size=12))
def test_what_is_told_adds_up_to_what_is_there(work):
    layer, watch, known, _ = make()
    for kind, place, value in work:
        if kind == "set":
            watch.paint(
                np.array([np.ravel_multi_index(place, SHAPE)]), np.array([value], np.uint8), "accepted"
            )
        elif place is None:
            getattr(layer, kind)()
        else:
            with layer.block_history():
                getattr(layer, kind)(place, value)
        assert np.array_equal(known, layer.data)
    watch.close()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_change_announced_before_it_is_written_is_found_after(ndim):
    layer, watch, known, told = make(ndim)
    layer.paint((5,) * ndim, 2)
    settle()
    wait_for(lambda: told == [("done", "stroke")])
    assert np.array_equal(known, layer.data)
    watch.close()


def test_undo_redo_and_their_source_are_named():
    layer, watch, _, told = make()
    watch.paint(np.arange(5), np.full(5, 3, np.uint8), "accepted")
    layer.undo()
    layer.redo()
    assert told == [("done", "accepted"), ("undone", "stroke"), ("redone", "stroke")]
    watch.forget_history()
    layer.undo()
    assert layer.data.any()
    watch.close()


def test_what_is_put_is_not_told():
    _, watch, known, told = make()
    watch.put(np.arange(5), np.full(5, 3, np.uint8))
    watch.look()
    assert told == []
    assert not known.any()
    watch.close()


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.uint8), np.full(SHAPE, 300), np.full(SHAPE, -1)])
def test_arrays_that_are_no_labels_are_refused(wrong):
    layer, watch, known, _ = make()
    refused = []
    watch.refused.connect(refused.append)
    layer.data = np.full(SHAPE, 2)
    layer.data = wrong
    assert len(refused) == 1
    assert layer.data.dtype == np.uint8
    assert (layer.data == 2).all()
    assert (known == 2).all()
    watch.close()
