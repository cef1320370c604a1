"""A real napari viewer, projects in a folder of the test's own, and a worker that answers at once."""

import gc
import os
import subprocess
import time

import numpy as np
import pytest

from napari_sparseseg.events import (
    HeldOutScored,
    ImageReady,
    ModelSaved,
    PictureChanged,
    PictureCompleted,
    RoundStarted,
    StepDone,
    StrokeLearnt,
    Waiting,
    WorkerReady,
)
from napari_sparseseg.requests import OpenImage, Paint, SaveModel, Train
from tests.widgets.viewer_reset import ViewerReset


class InstantWorker:
    """Answers each request at once: the prediction is the value painted last, everywhere."""

    def __init__(self, on_event, on_exit, *, dispatch):
        self.on_event = lambda event: dispatch(lambda: on_event(event))
        self.on_exit = lambda sentence: dispatch(lambda: on_exit(sentence))
        self.requests = []
        self.starts = 0
        self.closed = False

    def start(self):
        self.starts += 1
        self.on_event(WorkerReady("cpu"))

    restart = start

    def send(self, request):
        self.requests.append(request)
        if isinstance(request, OpenImage):
            self.image = request
            self.on_event(ImageReady())
        elif isinstance(request, Paint):
            self.on_event(StrokeLearnt(request.number))
        elif isinstance(request, Train):
            if request.running:
                self.on_event(RoundStarted(1, 100, 10, 2))
                self.on_event(StepDone(1, 0.7, 0.1))
                self.on_event(HeldOutScored(1, 0.875, {"class 2": 0.875}))
            else:
                self.on_event(Waiting(""))
        elif isinstance(request, SaveModel):
            self.on_event(ModelSaved(request.folder))

    def picture(self, prediction, uncertainty=None, shown="preview", reason="the preview: no network"):
        """Write a picture where the window sees it, and say so."""
        from napari_sparseseg.shared_array import SharedArray

        for handle, values in (
            (self.image.prediction, prediction),
            (self.image.uncertainty, uncertainty),
        ):
            if values is not None:
                shared = SharedArray.attach(handle)
                shared.array[:] = values
                shared.close()
        region = tuple((0, size) for size in self.image.prediction.shape)
        self.on_event(PictureChanged(region, shown))
        self.on_event(PictureCompleted(shown, reason, region))

    def close(self):
        self.closed = True

    def asked(self, kind):
        return [request for request in self.requests if isinstance(request, kind)]


def wait_for(condition, seconds=30.0):
    """Let Qt work until a condition holds."""
    from qtpy.QtWidgets import QApplication

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        QApplication.processEvents()
        time.sleep(0.002)


def settle(seconds=0.0):
    """Let Qt do what is due."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= end:
            return
        time.sleep(0.002)


@pytest.fixture(scope="session")
def _screen():
    """An invisible screen of this process's own, so that windows of tests beside it take no keys away.

    It ends by itself with the last window's process: were it ended before, Qt would end that process.
    """
    reading, writing = os.pipe()
    server = f"Xvfb -displayfd {writing} -screen 0 1280x800x24 -nolisten tcp -terminate 2>/dev/null &"
    subprocess.run(["sh", "-c", server], pass_fds=[writing], check=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        number = answer.readline().decode().strip()
    assert number, "Xvfb gave no screen"
    os.environ["DISPLAY"] = f":{number}"


@pytest.fixture(scope="session", autouse=True)
def _application(_screen):
    """The one Qt application, with napari's settings."""
    from napari.qt import get_qapp

    return get_qapp()


@pytest.fixture(scope="module", autouse=True)
def _frozen_heap(_application):
    """Leave what is loaded by now out of garbage collections: napari makes one for each layer taken out."""
    import napari.layers  # noqa: F401 - what viewers need belongs to it

    gc.collect()
    gc.freeze()


@pytest.fixture
def projects(tmp_path, monkeypatch):
    folder = tmp_path / "projects"
    monkeypatch.setenv("SPARSESEG_PROJECTS", str(folder))
    return folder


@pytest.fixture
def told(monkeypatch):
    """Sentences told to the user."""
    from napari.utils.notifications import notification_manager

    sentences = []

    def take(notification):
        sentences.append(notification.message)

    notification_manager.notification_ready.connect(take)
    yield sentences
    notification_manager.notification_ready.disconnect(take)


@pytest.fixture(scope="session")
def _shared_viewer(_application):
    """The viewer that tests use one after the other, and how it was at first."""
    import napari

    made = napari.Viewer(show=False)
    made.add_image(np.zeros((2, 3, 4)))  # what napari makes with the first layer belongs to a fresh viewer
    made.add_labels(np.zeros((2, 3, 4), np.uint8)).mode = "paint"
    settle()
    fresh = ViewerReset(made)
    gc.collect()
    gc.freeze()
    yield fresh
    made.close()
    settle()


@pytest.fixture
def viewer(_shared_viewer, coordinators):
    """A viewer that leaves nothing behind; it is another's afterwards, so that it must not be closed."""
    yield _shared_viewer.viewer
    for coordinator in coordinators:
        coordinator.close()
    _shared_viewer.restore()


@pytest.fixture
def own_viewer():
    """A viewer of the test's own, for a test that ends it."""
    import napari

    made = napari.Viewer(show=False)
    yield made
    made.close()
    settle()


@pytest.fixture
def workers():
    """All workers that were made."""
    return []


@pytest.fixture
def coordinators():
    """All coordinators that were made."""
    return []


@pytest.fixture
def make_coordinator(projects, workers, coordinators):
    """Makes coordinators with instant workers; all are closed in the end."""
    from napari_sparseseg.widgets.coordinator import Coordinator

    def make_worker(*callbacks, dispatch):
        workers.append(InstantWorker(*callbacks, dispatch=dispatch))
        return workers[-1]

    def make(viewer):
        coordinators.append(Coordinator(viewer, make_worker=make_worker))
        return coordinators[-1]

    yield make
    for coordinator in coordinators:
        coordinator.close()


@pytest.fixture
def image():
    """A bright ball in noise, (Z, Y, X)."""
    z, y, x = np.indices((12, 40, 48))
    ball = ((z - 6) / 5) ** 2 + ((y - 20) / 12) ** 2 + ((x - 24) / 14) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 0.1, ball.shape)
    return (ball + noise).astype(np.float32)
