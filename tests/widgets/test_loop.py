"""The whole loop as a user goes through it: a real window, a real worker, mouse and keyboard."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QPushButton
from robot import Robot

from napari_sparseseg.events import PictureChanged, PictureCompleted, StepDone
from napari_sparseseg.volume import load_labels, load_volume
from tests.small_sample import load_small_sample

GREY, WHITE = 2, 3  # painted values
SLICES = (6, 14, 22)
STEPS = 160
PART = np.s_[10:88, 16:100, 32:60]  # the whole sample takes five times as long


class Loop:
    """The sample in a window with the dock, and all that the worker has said."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.image, truth = viewer.open_sample("napari-sparseseg", "mni")
        rows = {e["name"]: e["value"] for e in truth.metadata["class_table"]}
        self.truth = np.ones(truth.data.shape, np.uint8)
        self.truth[truth.data == rows["grey matter"]] = GREY
        self.truth[truth.data == rows["white matter"]] = WHITE
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
        self.robot = Robot(viewer)
        self.coordinator = self.dock.coordinator
        self.events = []
        self.coordinator._place.link.arrived.connect(self.events.append)
        self.robot.wait(lambda: self.coordinator.session.image == self.image.name, what="the image")

    @property
    def labels(self):
        return self.viewer.layers[f"labels of {self.image.name}"]

    @property
    def prediction(self):
        return self.viewer.layers[f"prediction of {self.image.name}"].data

    def wait_for(self, kind, where=lambda event: True, seconds=120):
        """Wait for an event that comes from now on."""
        start = len(self.events)
        self.robot.wait(
            lambda: any(isinstance(e, kind) and where(e) for e in self.events[start:]), seconds, kind.__name__
        )

    def scroll_to(self, index):
        self.viewer.dims.set_current_step(0, index)
        self.robot.settle(0.1)

    def paint(self, index, value, runs):
        """Paint along runs of voxels ``(y, first x, last x)`` of a slice."""
        self.scroll_to(index)
        self.robot.key(Qt.Key.Key_0 + value)
        assert self.labels.selected_label == value
        for y, first, last in runs:
            self.robot.stroke(self.labels, [(index, y, x) for x in range(first, last + 1, 2)])

    def dice(self):
        found = np.where(self.labels.data > 0, self.labels.data, self.prediction)
        values = []
        for value in (GREY, WHITE):
            a, b = self.truth == value, found == value
            values.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        return float(np.mean(values))


def find_runs(mask, number, length, seed):
    """Return runs along x of at least `length` voxels inside a mask ``(Y, X)``, well spread."""
    runs = []
    for y, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
        runs += [(y, a, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= length]
    chosen = np.random.default_rng(seed).permutation(len(runs))[:number]
    return [runs[i] for i in chosen]


def find_editor(dock):
    """Return the name that is being typed, if one is."""
    editors = [e for e in dock.findChildren(QLineEdit) if e.isVisible() and not e.isReadOnly()]
    return next((e for e in editors if e.accessibleName().startswith("Name of")), None)


@pytest.fixture
def loop(projects, tmp_path, monkeypatch):
    import napari

    sample = load_small_sample(tmp_path, PART)
    monkeypatch.setattr("napari_sparseseg.sample_data.load_sample", lambda: sample)

    viewer = napari.Viewer()
    made = Loop(viewer)
    yield made
    viewer.close()
    made.robot.settle(0.3)


def test_scribble_learn_correct_save(loop, tmp_path, told):
    robot, session = loop.robot, loop.coordinator.session

    # a second class, named by keyboard
    robot.click(robot.find(QPushButton, "Add class"))
    robot.wait(lambda: len(session.table) == 3, what="the new class")
    robot.wait(lambda: find_editor(loop.dock), what="the new class's name to be typed")
    editor = find_editor(loop.dock)
    QTest.keyClicks(editor, "white matter")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    robot.wait(lambda: "white matter" in session.table.names, what="the class's name")

    # strokes on slices; the first of a second class brings the preview
    loop.labels.brush_size = 1
    for index in SLICES[:2]:
        for value, length in ((1, 12), (GREY, 5), (WHITE, 6)):
            loop.paint(index, value, find_runs(loop.truth[index] == value, 8, length, seed=index + value))
    painted = loop.labels.data.copy()
    assert (painted > 0).sum() > 200
    assert (painted[painted > 0] == loop.truth[painted > 0]).mean() > 0.95
    robot.wait(lambda: any(isinstance(e, PictureCompleted) for e in loop.events), what="the preview")
    assert {e.shown for e in loop.events if isinstance(e, PictureChanged)} == {"preview"}

    # the network learns and takes over
    training = replace(session.training, steps=STEPS, patch_voxels=32**3)
    loop.coordinator.predict.change_settings(training, session.network)
    loop.dock.show_panel("Train")
    robot.click(robot.find(QPushButton, "Start or pause learning"))
    assert session.running
    loop.wait_for(StepDone, lambda event: event.step >= 0.6 * STEPS)
    loop.wait_for(PictureCompleted, lambda event: event.shown in ("network", "both"))
    assert "held-out" in session.shown or "kept aside" in session.shown or "network" in session.shown

    # a correction where the prediction is wrong
    index = SLICES[2]
    loop.scroll_to(index)
    robot.settle(0.5)
    wrong = (loop.truth[index] == GREY) & (loop.prediction[index] != GREY)
    (y, first, last) = max(find_runs(wrong, 200, 2, seed=0), key=lambda run: run[2] - run[1])
    before = len(loop.events)
    loop.paint(index, GREY, [(y, first, last)])
    robot.wait(
        lambda: (
            any(isinstance(e, PictureChanged) for e in loop.events[before:])
            and (loop.prediction[index, y, first : last + 1 : 2] == GREY).all()
        ),
        what="the correction",
    )
    for value, length in ((GREY, 5), (WHITE, 6)):
        loop.paint(index, value, find_runs(loop.truth[index] == value, 6, length, seed=value))
    loop.wait_for(StepDone, lambda event: event.progress > 0.6)
    robot.click(robot.find(QPushButton, "Start or pause learning"))
    loop.wait_for(PictureCompleted)
    assert not session.running
    assert loop.dice() >= 0.75

    # the mask, from the panel
    loop.dock.show_panel("Predict")
    robot.settle(0.3)
    robot.click(robot.find(QPushButton, "Save mask…"))
    robot.settle(0.3)
    dialog = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QFileDialog) and w.isVisible())
    path = tmp_path / "mask.nii.gz"
    dialog.findChild(QLineEdit).setText(str(path))
    QTest.keyClick(dialog.findChild(QLineEdit), Qt.Key.Key_Return)
    robot.wait(path.exists, what="the mask")
    robot.settle(0.5)
    source = loop.image.metadata["sparseseg_volume"]
    assert np.allclose(load_volume(path).affine, source.affine)
    mask = load_labels(path, source)
    assert set(np.unique(mask)) == {0, GREY, WHITE}
    own = loop.labels.data > 1
    assert (mask[own] == loop.labels.data[own]).all()
