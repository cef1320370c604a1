"""A process that paints and trains until it is killed; `test_survival` starts it and reads its log.

Each line of the log is JSON, on disk before the painter goes on: what it has just done.
"""

import hashlib
import json
import os
import sys
from functools import partial

import numpy as np

SHAPE = (16, 40, 44)


def make_image():
    """Return a bright ball in noise ``(Z, Y, X)``, always the same."""
    z, y, x = np.indices(SHAPE)
    ball = ((z - 8) / 6) ** 2 + ((y - 20) / 12) ** 2 + ((x - 22) / 13) ** 2 < 1
    return (ball + np.random.default_rng(0).normal(0, 0.1, SHAPE)).astype(np.float32), ball


def digest(labels):
    """Return a short hash of labels."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()[:16]


class Log:
    """Lines that are on disk when `write` returns."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, **line):
        """Append a line."""
        os.write(self._file, (json.dumps(line) + "\n").encode())
        os.fsync(self._file)


def main(path, seed, address):
    """Restore what was not closed, or begin; then paint and train without end.

    Workers come from the fork server at an address; new Pythons where that is empty.
    """
    import napari

    from napari_sparseseg.events import StepDone, Waiting
    from napari_sparseseg.widgets.coordinator import Coordinator
    from napari_sparseseg.widgets.dock import TrainDock
    from napari_sparseseg.worker_client import WorkerClient
    from tests.robot import Robot
    from tests.widgets.fork_server import ForkedWorker

    def make_coordinator(viewer):
        connect = {"connect": partial(ForkedWorker, address)} if address else {}
        return Coordinator(viewer, make_worker=partial(WorkerClient, **connect))

    log, random = Log(path), np.random.default_rng(seed)
    image, ball = make_image()
    viewer = napari.Viewer()
    dock = TrainDock(viewer, make_coordinator)
    viewer.window.add_dock_widget(dock, name="Train")
    coordinator = dock.coordinator
    robot = Robot(viewer)
    robot.settle(0.2)
    offer = coordinator.session.offer
    log.write(did="started", pid=os.getpid(), offer=offer)
    if offer:
        coordinator.projects.restore_offered()
    else:
        viewer.add_image(image, name="ball")
    robot.wait(lambda: coordinator.session.image is not None, what="the image")
    place = coordinator._place
    steps = []

    def heard(event):
        if isinstance(event, StepDone):
            if not steps:
                log.write(did="learning", step=event.step)
            steps.append(event.step)
        if isinstance(event, Waiting) and coordinator.session.running:
            coordinator.predict.restart()  # never done

    place.link.arrived.connect(heard)
    place.link.died.connect(lambda _: (steps.clear(), log.write(did="worker died")))
    layer = place.case.layers.annotation
    labels = layer.data
    log.write(
        did="opened", digest=digest(labels), changes=coordinator.session.changes, worker=worker_pid(place)
    )
    layer.brush_size = 2
    layer.mode = "paint"
    while True:
        index = int(random.integers(3, 13))
        viewer.dims.set_current_step(0, index)
        inside = bool(random.random() < 0.5)
        start = random.choice(np.argwhere(ball[index] == inside))
        end = np.clip(start + random.integers(-6, 7, 2), 0, np.array(SHAPE[1:]) - 1)
        layer.selected_label = 2 if inside else 1
        log.write(did="painting")
        robot.stroke(layer, [(index, *start), (index, *((start + end) // 2)), (index, *end)])
        assert "torch" not in sys.modules, "the window's process must never load torch"
        log.write(did="painted", digest=digest(labels), changes=coordinator.session.changes)
        if not coordinator.session.running and np.isin([1, 2], labels).all():
            coordinator.predict.train(True)
            log.write(did="training")
        robot.settle(random.uniform(0, 0.2))
        if len(steps) > 60 and random.random() < 0.2:  # a pause keeps the network's state
            coordinator.predict.train(False)
            robot.settle(0.2)
            coordinator.predict.train(True)
        log.write(did="worker", pid=worker_pid(place))


def worker_pid(place):
    """Return the process id of the worker."""
    return place.link._worker.pid
