"""Class maps as a user goes through them: a real window, a real worker, the panel's buttons."""

from dataclasses import replace

import numpy as np
import pytest
from robot import Robot

from napari_sparseseg.annotation import source_code
from napari_sparseseg.widgets.class_maps_panel import ClassMapsPanel

SHAPE = (32, 48, 48)
CENTER, RADII = (18, 20, 30), (6, 9, 9)


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
        dock.show_panel("Class maps")
        robot.settle(0.2)
        yield robot, dock, session, inside, told
    finally:
        viewer.close()


def test_say_learn_look_label(loop):
    robot, dock, session, inside, told = loop
    coordinator, panel, work = dock.coordinator, dock.findChild(ClassMapsPanel), session.cam

    # from where to where it is, in each orientation
    for axis, (center, radius) in enumerate(zip(CENTER, RADII, strict=True)):
        begins = (center - radius + 1, panel.presence.begins)
        for index, button in (begins, (center + radius - 1, panel.presence.ends)):
            coordinator.annotate.go_to_slice(axis, index)
            robot.settle(0.2)
            robot.click(button)
    robot.wait(lambda: len(work.labels) == 3, what="the ranges")
    project = coordinator._place.desk.project
    assert [(r.axis, r.first, r.last) for r in project.hints.image_labels(1)] == [
        (axis, c - r + 1, c + r - 1) for axis, (c, r) in enumerate(zip(CENTER, RADII, strict=True))
    ]
    coordinator.annotate.turn(0)

    # a classifier learns to tell where it is from where it is not
    coordinator.cam.change_settings(
        replace(session.classifier_config, classifier_steps=60), session.cam_config, session.seed_config,
        session.crf,
    )  # fmt: skip
    robot.settle(0.3)
    robot.click(panel.classifier.run)
    assert work.running == "classifier"
    robot.wait(lambda: work.progress is not None, what="progress")
    robot.wait(lambda: not work.running, 180, what="the classifier")
    assert work.has_classifier, (told, work.outcome)
    robot.settle(0.3)

    # it is asked where it looks, and whether that was learnt
    robot.click(panel.map.run)
    robot.wait(lambda: work.mapped == 2, 120, what="the map")
    viewer = coordinator.viewer
    shown = np.asarray(viewer.layers["class map of scan (class 2)"].data)
    assert inside[np.unravel_index(shown.argmax(), SHAPE)]
    robot.settle(0.3)
    robot.click(panel.map.check)
    robot.wait(lambda: work.check, 180, what="the check")

    # its surest parts become labels
    robot.wait(lambda: panel.seeds.make.isEnabled(), 20, what="the button")
    robot.click(panel.seeds.make)
    robot.wait(lambda: "cam" in session.apart, what="labels from the map")
    seeds = project.labels(1)[project.sources(1) == source_code("cam")]
    assert {1, 2} <= set(np.unique(seeds))
    assert inside[project.labels(1) == 2].mean() > 0.5
    assert (project.labels(1)[~inside] != 2).mean() > 0.9
    assert not any("error" in sentence or "stopped" in sentence for sentence in told)
    robot.click(panel.seeds.clear)
    robot.wait(lambda: "cam" not in session.apart, what="the labels to go")
