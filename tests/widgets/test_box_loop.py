"""Box-to-mask as a user goes through it: a real window, a real worker, boxes drawn with the mouse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from robot import Robot

from napari_sparseseg.annotation import source_code
from napari_sparseseg.box_geometry import bounding_box
from napari_sparseseg.volume import load_labels, load_volume
from napari_sparseseg.widgets.boxes_panel import BoxesPanel

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "totalseg_ct"
BLADDER = 50


class BoxLoop:
    """A real CT in a window with the dock, and the Boxes panel in front."""

    def __init__(self, viewer):
        self.viewer = viewer
        volume = load_volume(DATA / "ct.nii.gz")
        self.truth = load_labels(DATA / "labels.nii.gz", volume) == BLADDER
        [self.image] = viewer.open(DATA / "ct.nii.gz", plugin="napari-sparseseg")
        self.known = viewer.add_labels(
            self.truth.astype(np.uint8) * 2, name="truth", visible=False, affine=self.image.affine
        )
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
        self.robot = Robot(viewer)
        self.coordinator = self.dock.coordinator
        self.robot.wait(lambda: self.session.image == self.image.name, what="the image")
        self.dock.show_panel("Boxes")
        self.panel = self.dock.findChild(BoxesPanel)
        self.robot.wait(lambda: self.session.worker == "ready", what="the worker")

    @property
    def session(self):
        return self.coordinator.session

    @property
    def work(self):
        return self.session.boxes

    def draw(self, axis_index, box):
        """Drag a rectangle round the part of `box` that a slice shows."""
        self.viewer.dims.set_current_step(0, axis_index)
        self.robot.settle(0.2)
        (_, y0, x0), (_, y1, x1) = box.start, box.stop
        corners = [(axis_index, y0 - 0.4, x0 - 0.4), (axis_index, y1 - 0.6, x1 - 0.6)]
        steps = [tuple(np.add(corners[0], np.subtract(corners[1], corners[0]) * t)) for t in (0, 0.3, 0.7, 1)]
        self.robot.stroke(self.image, steps)
        self.robot.settle(0.2)


@pytest.fixture
def loop(projects):
    import napari

    if not DATA.exists():
        pytest.skip("the real volumes of ../shared/data are not here")
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1280, 800)
    try:
        yield BoxLoop(viewer)
    finally:
        viewer.close()


def test_draw_make_compare_keep(loop, told):
    robot, panel, work = loop.robot, loop.panel, loop.work
    box = bounding_box(loop.truth, 2)
    first, last = box.start[0], box.stop[0] - 1

    # three rectangles of one object on its middle, first and last slice make one box
    robot.click(panel.draw)
    robot.wait(lambda: work.drawing, what="the rectangle tool")
    loop.draw((first + last) // 2, box)
    robot.wait(lambda: work.records, what="the box")
    assert panel.boxes.line(work.records[0].number).isVisible()
    loop.draw(first, box)
    loop.draw(last, box)
    robot.wait(lambda: work.records[0].stop[0] == last + 1, what="the box's depth")
    [record] = work.records
    assert np.abs(np.subtract(record.start, box.start)).max() <= 1
    assert np.abs(np.subtract(record.stop, box.stop)).max() <= 1
    assert loop.session.changes == 0
    project = loop.coordinator._place.desk.project
    assert [each.start for each in project.hints.boxes(1)] == [record.start]

    # a round of learning, compared with the truth
    loop.coordinator.boxes.compare_with("truth")
    session = loop.session
    loop.coordinator.boxes.change_settings(
        session.box_config, replace(session.recursion, rounds=1, round_steps=30), session.crf
    )
    robot.settle(0.3)
    robot.click(panel.run)
    assert work.running
    robot.wait(lambda: work.progress is not None, what="progress")
    robot.wait(lambda: not work.running, 120, what="the masks")
    assert not any("error" in sentence or "stopped" in sentence for sentence in told)
    assert [made.number for made in work.rounds] == [0, 1]
    assert max(made.quality["class 2"] for made in work.rounds) > 0.6
    robot.settle(0.3)
    shown = next(layer for layer in loop.viewer.layers if layer.metadata.get("sparseseg_role") == "round")
    found = np.asarray(shown.data) == 2
    assert 2 * (found & loop.truth).sum() / (found.sum() + loop.truth.sum()) > 0.6

    # kept as labels of a low weight, of which the strokes win
    robot.click(panel.rounds.keep)
    robot.wait(lambda: session.has_box_labels, what="labels from boxes")
    sources = project.sources(1)
    assert set(np.unique(sources)) == {0, source_code("box")}
    loop.coordinator.annotate.use_tool("paint")
    loop.coordinator.annotate.select(1)
    middle = tuple(round(float(c.mean())) for c in np.nonzero(loop.truth))
    loop.viewer.dims.set_current_step(0, middle[0])
    labels = loop.viewer.layers[f"labels of {loop.image.name}"]
    robot.stroke(labels, [middle, np.add(middle, (0, 0, 2))])
    robot.wait(lambda: project.sources(1)[middle] == source_code("stroke"), what="the stroke")
    assert project.labels(1)[middle] == 1
    robot.click(panel.rounds.clear)
    robot.wait(lambda: not session.has_box_labels, what="the labels to go")
    assert project.labels(1)[middle] == 1
