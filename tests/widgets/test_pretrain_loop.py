"""Learning without labels as a user goes through it: a real window, a real worker, the panel's buttons."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton
from robot import Robot

from napari_sparseseg.widgets.pretrain_panel import PretrainPanel
from napari_sparseseg.widgets.train_panel import TrainPanel

SHAPE = (24, 32, 32)
CENTER, RADII = (12, 14, 18), (6, 9, 9)
STEPS = 80


@pytest.fixture
def loop(projects, told):
    import napari

    grid = np.indices(SHAPE)
    inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, CENTER, RADII, strict=True)) < 1
    noise = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1280, 1000)
    try:
        viewer.add_image((2 * inside + noise).astype(np.float32), name="scan")
        _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
        robot = Robot(viewer)
        session = dock.coordinator.session
        robot.wait(lambda: session.image == "scan" and session.worker == "ready", what="the worker")
        dock.show_panel("Pre-train")
        robot.settle(0.2)
        yield robot, dock, session, told
    finally:
        viewer.close()


def click(robot, dock, button):
    """Click a button of the panel, wherever it is scrolled to."""
    dock.panels.currentWidget().ensureWidgetVisible(button)
    robot.settle(0.1)
    robot.click(button)


def test_learn_without_labels_compare_and_start_from_it(loop):
    robot, dock, session, told = loop
    panel, work, viewer = dock.findChild(PretrainPanel), session.pretrain, robot.viewer
    scan, labels = viewer.layers["scan"], viewer.layers["labels of scan"]
    labels.brush_size = 3
    for index in (8, 15):
        viewer.dims.set_point(0, index)
        for value, y in ((1, 2), (2, 14)):
            labels.selected_label = value
            robot.stroke(labels, [(index, y, x) for x in range(14, 24)])
    pretrain = dock.coordinator.pretrain

    # a task is chosen; after some steps it is stopped
    box = panel.task.task
    box.setCurrentIndex(box.findData("denoising"))
    box.activated.emit(box.currentIndex())
    assert session.pretraining.task == "denoising"
    short = replace(session.pretraining, seconds=0, steps=STEPS, batch_size=2, crop_voxels=16**3)
    pretrain.change_settings(short, session.pretext)
    click(robot, dock, panel.learning.run)
    robot.wait(lambda: len(work.losses.points) > 2 and work.pictured, what="the first steps")
    assert {layer.name for layer in viewer.layers} > {"Pre-training: input", "Pre-training: prediction"}
    assert viewer.layers["Pre-training: input"].extent.world[0][2] > scan.extent.world[1][2]
    assert viewer.dims.point[0] == 15
    assert viewer.layers.selection.active == labels
    click(robot, dock, panel.learning.run)
    robot.wait(lambda: session.encoders.known, what="the unfinished encoder")
    (unfinished,) = session.encoders.known
    assert not unfinished.finished
    assert 2 < unfinished.steps < STEPS

    # it goes on where it was stopped, and is listed
    click(robot, dock, panel.learning.run)
    robot.wait(lambda: not work.running, what="the encoder")
    assert work.losses.points[0][0] == unfinished.steps + 1
    assert work.losses.points[-1][0] == STEPS
    (encoder,) = session.encoders.known
    assert (encoder.folder, encoder.finished, encoder.steps) == (unfinished.folder, True, STEPS)
    robot.wait(lambda: panel.encoders.run.isEnabled(), 5, "the button")
    assert panel.encoders.list.folders == (str(encoder.folder),)

    # it is compared with random weights
    click(robot, dock, panel.encoders.run)
    robot.wait(lambda: not work.running, what="the comparison")
    assert [name for name, _ in session.encoders.probes] == ["", "denoising-1"]
    assert Path(encoder.folder, "probe.json").exists()
    robot.wait(lambda: len(panel.encoders.plot.values) == 2, 5, "the bars")

    # and used
    click(robot, dock, panel.encoders.use)
    assert session.encoders.used == str(encoder.folder)
    dock.show_panel("Train")
    start = "Starts from Remove noise 1 (1 volume)."
    robot.wait(lambda: dock.findChild(TrainPanel).origin.text() == start, 5, "the words")
    robot.click(robot.find(QPushButton, "Start learning"))
    robot.wait(lambda: session.learning.steps > 0, what="the network")
    assert any("denoising, 1 volume, 80 steps" in sentence and "taken over" in sentence for sentence in told)
    dock.show_panel("Pre-train")
    click(robot, dock, panel.learning.clear_pictures)
    robot.wait(lambda: not any("Pre-training" in layer.name for layer in viewer.layers), 5, "no pictures")
    assert not [sentence for sentence in told if "taken over" not in sentence]
