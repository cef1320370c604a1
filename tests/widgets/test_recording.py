"""napari's undo and the project's journal agree, in whatever order things are done."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.project import Project
from napari_sparseseg.widgets.recording import LabelRecorder

SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def make_recorder(tmp_path_factory):
    def make():
        project = Project.create(tmp_path_factory.mktemp("projects") / "one")
        case = project.add_case("scan", SHAPE, (1, 1, 1), np.eye(4))
        return project, case, LabelRecorder(project, case)

    return make


@given(st.lists(st.one_of(st.none(), st.just(True), st.integers(0, 2**31)), max_size=12))
def test_the_journal_follows_a_history(make_recorder, work):
    """None undoes, True redoes, a number is the seed of a stroke, as napari's history would tell of them."""
    project, case, recorder = make_recorder()
    layer, done, undone = np.zeros(60, np.uint8), [], []
    with project:
        for step in work:
            if step is None and done:
                voxels, before, after = done.pop()
                undone.append((voxels, before, after))
                change, how = before, "undone"
            elif step is True and undone:
                voxels, before, after = undone.pop()
                done.append((voxels, before, after))
                change, how = after, "redone"
            elif step is None or step is True:
                continue
            else:
                random = np.random.default_rng(step)
                voxels = random.choice(60, random.integers(1, 20), replace=False)
                value = random.integers(0, 4)
                voxels = voxels[layer[voxels] != value]
                if not len(voxels):
                    continue
                before, change = layer[voxels].copy(), np.full(len(voxels), value, np.uint8)
                done.append((voxels, before, change))
                undone.clear()
                how = "done"
            layer[voxels] = change
            recorder.record(voxels.astype(np.int64), change, how, "stroke")
            assert np.array_equal(project.labels(case).reshape(-1), layer)
            assert project.label_count() == len(done)


def test_an_undo_that_does_not_fit_the_journal_is_a_change(make_recorder):
    project, case, recorder = make_recorder()
    with project:
        recorder.record(np.arange(5), np.full(5, 2, np.uint8), "done", "stroke")
        recorder.add(np.arange(10, 20), np.full(10, 2, np.uint8), "interpolated")
        recorder.record(np.arange(5), np.zeros(5, np.uint8), "undone", "stroke")
        assert project.voxel_counts(case) == {2: 10}
        assert project.label_count() == 3


def test_undo_over_interpolated_labels_brings_them_back(make_recorder):
    project, case, recorder = make_recorder()
    with project:
        recorder.add(np.arange(10), np.full(10, 3, np.uint8), "interpolated")
        recorder.record(np.arange(5), np.full(5, 2, np.uint8), "done", "stroke")
        # the annotation layer does not show interpolated labels, so that napari brings back "unlabelled"
        recorder.record(np.arange(5), np.zeros(5, np.uint8), "undone", "stroke")
        assert project.voxel_counts(case) == {3: 10}


def test_weaker_labels_leave_strokes_alone(make_recorder):
    project, _, recorder = make_recorder()
    with project:
        recorder.record(np.arange(5), np.full(5, 2, np.uint8), "done", "stroke")
        assert recorder.add(np.arange(5), np.full(5, 3, np.uint8), "interpolated") is None
