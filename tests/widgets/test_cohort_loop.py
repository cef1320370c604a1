"""A study from its folder to a batch: a real window, a real worker, the panels' lists, buttons and keys."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton
from robot import Robot

from napari_sparseseg.settings import LIVE_TRAINING
from napari_sparseseg.volume import save_map, volume_from_array
from napari_sparseseg.widgets import batch_panel
from napari_sparseseg.widgets.batch_panel import BatchPanel
from napari_sparseseg.widgets.cases_panel import CasesPanel

SHAPE = (12, 32, 32)
NAMES = ("a", "b", "c")
STEPS = 12
STATES = ["done", "done", "unlabelled", "unlabelled"]


@pytest.fixture
def study(tmp_path):
    """Three scans of a bright ball, and one that is cut off."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        z, y, x = np.indices(SHAPE)
        inside = ((z - 6) / 5) ** 2 + ((y - 14 - number) / 8) ** 2 + ((x - 16) / 9) ** 2 < 1
        image = (2 * inside + np.random.default_rng(number).normal(0, 0.2, SHAPE)).astype(np.float32)
        save_map(folder / f"{name}.nii.gz", image, volume_from_array(image, affine=np.diag([2.0, 1, 1, 1])))
    (folder / "d.nii.gz").write_bytes(b"cut off")
    return folder


class Clinic:
    """A window, its panels, and a hand at mouse and keyboard."""

    def __init__(self, viewer):
        viewer.window._qt_window.resize(1000, 760)
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
        self.viewer, self.robot = viewer, Robot(viewer)
        self.coordinator, self.session = self.dock.coordinator, self.dock.coordinator.session
        self.cases, self.batch = self.dock.findChild(CasesPanel), self.dock.findChild(BatchPanel)
        self.robot.wait(lambda: self.session.worker == "ready", what="the worker")

    @property
    def project(self):
        return self.coordinator._place.desk.project

    def row(self, name):
        return next(case for case in self.session.cohort.cases if case.name == name)

    def show(self, panel):
        self.dock.show_panel(panel)
        self.robot.settle(0.1)

    def click(self, button):
        self.dock.panels.currentWidget().ensureWidgetVisible(button)
        self.robot.wait(button.isEnabled, 5, button.text())
        self.robot.click(button)

    def double_click(self, view, place):
        index = view.model().index(place, 0)
        view.scrollTo(index)
        position = view.visualRect(index).center()
        for press in (QTest.mouseClick, QTest.mouseDClick):
            press(view.viewport(), Qt.MouseButton.LeftButton, pos=position)
        QApplication.processEvents()

    def wait_for(self, name):
        opened = self.session.cohort
        self.robot.wait(lambda: opened.opened == self.row(name).key and self.session.paintable, what=name)
        self.robot.settle(0.1)

    def paint(self, index):
        """Paint a stroke of background and one of the ball; return the labels."""
        layer = self.viewer.layers[f"labels of {self.session.image}"]
        layer.brush_size = 3
        self.viewer.dims.set_point(0, index * 2)
        for value, y in ((1, 2), (2, 15)):
            layer.selected_label = value
            self.robot.stroke(layer, [(index, y, x) for x in range(12, 21, 2)])
        return layer


@pytest.fixture
def clinic(projects, told):
    import napari

    opened = []

    def open_clinic():
        opened.append(napari.Viewer())
        return Clinic(opened[-1])

    yield open_clinic
    for viewer in opened:
        viewer.close()


def test_from_a_folder_of_scans_to_masks_of_all(clinic, study, told, monkeypatch):
    window = clinic()
    robot, session, viewer = window.robot, window.session, window.viewer
    window.show("Cases")
    window.cases.cases.drop([str(study)])
    robot.wait(lambda: len(session.cohort.cases) == 4 and window.row("d").problem, what="the cases")

    # two are labelled: one opened by a double click, the next by its key while a stroke is being drawn
    window.double_click(window.cases.cases.list, 0)
    window.wait_for("a")
    window.paint(4)
    layer = window.paint(7)
    ends = [robot.canvas_position(layer, (7, 20, x)) for x in (12, 20)]
    QTest.mousePress(robot.canvas, Qt.MouseButton.LeftButton, pos=ends[0])
    QTest.mouseMove(robot.canvas, ends[1])
    drawn = layer.data.copy()
    assert drawn[7, 20].any()
    robot.key(Qt.Key.Key_PageDown)
    window.wait_for("b")
    QTest.mouseRelease(robot.canvas, Qt.MouseButton.LeftButton, pos=ends[1])
    assert np.array_equal(window.project.labels(window.row("a").number), drawn)
    window.paint(6)
    window.cases.cases.list.selectAll()
    window.click(window.cases.cases.done)
    for name in "cd":  # not those
        window.cases.cases.list.mark(window.row(name).key)
        window.click(window.cases.cases.done)
    robot.wait(lambda: [case.state for case in session.cohort.cases] == STATES, 5, "the marks")

    # one network learns from both, and says which case is next
    monkeypatch.setattr(
        type(window.coordinator.cohort), "_training",
        lambda actions: replace(LIVE_TRAINING, seconds=0, steps=STEPS, batch_size=2, preview_weight=0),
    )  # fmt: skip
    window.click(window.cases.network.train)
    robot.wait(lambda: session.cohort.trained and not session.cohort.running, what="the network")
    window.click(window.cases.network.ask)
    robot.wait(lambda: session.cohort.advice is not None, what="the advice")
    assert session.cohort.advice.key == window.row("c").key

    # of the recommended one the network's answer is there without a stroke, and it is corrected
    window.click(window.cases.network.open_advised)
    window.wait_for("c")
    robot.wait(lambda: session.pictured, what="the prediction")
    assert "project's network" in session.shown
    assert session.cohort.advice is None
    window.paint(5)
    window.show("Train")
    window.click(robot.find(QPushButton, "Start learning"))
    robot.wait(lambda: session.learning.steps > 0, what="the steps")
    corrected = window.paint(8).data.copy()

    # all scans are segmented meanwhile; it is stopped, goes on, and its report and masks are looked at
    window.show("Batch")
    window.batch.sources_requested.emit((str(study),))
    robot.wait(lambda: session.batching.found == 4, what="the volumes")
    window.click(window.batch.run)
    robot.wait(lambda: session.batching.done > 1, what="the first volumes")
    window.click(window.batch.run)
    robot.wait(lambda: not session.batching.running, what="the end")
    window.click(window.batch.run)
    robot.wait(lambda: session.batching.report and not session.batching.running, what="the report")
    assert session.batching.outcome.startswith("3 volumes are segmented (")
    assert "1 could not be" in session.batching.outcome
    robot.wait(lambda: len(window.batch.results.names) == 4, 5, "the list")
    looked_at = []
    monkeypatch.setattr(batch_panel, "_open_outside", looked_at.append)
    window.click(window.batch.open_report)
    assert looked_at == [session.batching.report]
    place = window.batch.results.names.index("a")
    window.double_click(window.batch.results, place)
    robot.wait(lambda: "mask of a" in viewer.layers, what="the mask")
    before = session.learning.steps
    robot.wait(lambda: session.learning.steps > before, what="more steps")  # it goes on learning

    # another project, and back: everything is there
    folder = window.project.folder
    window.coordinator.projects.begin()
    robot.wait(lambda: session.cohort.cases == (), 5, "an empty list")
    viewer.layers.clear()
    robot.settle(0.1)
    window.coordinator.projects.open(folder)
    window.show("Cases")
    window.wait_for("c")
    assert np.array_equal(viewer.layers["labels of c"].data, corrected)
    assert [case.state for case in session.cohort.cases] == [*STATES[:2], "work", STATES[3]]
    assert session.cohort.trained
    assert "project's network" in session.shown or session.running
    assert session.batching.sources == (str(study),)
    assert [sentence for sentence in told if "taken over" not in sentence] == []
