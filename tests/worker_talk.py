"""Talking to a worker in tests: collected events, waiting with a deadline, and a small shared image."""

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.requests import OpenImage, Paint
from napari_sparseseg.shared_array import SharedArray
from napari_sparseseg.worker_client import WorkerClient
from napari_sparseseg.worker_process import WorkerProcess

DEADLINE = 120.0  # seconds; only a test that fails waits that long
STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))


class Conversation:
    """A client of a worker, and all that it has heard."""

    def __init__(self, *arguments, command=STAND_IN, **options):
        self.events, self.exits = [], []
        self._changed = threading.Condition()
        connect = partial(WorkerProcess, (*command, *arguments)) if command else WorkerProcess
        self.client = WorkerClient(
            partial(self._hear, self.events), partial(self._hear, self.exits), connect=connect, **options
        )

    def _hear(self, kept, heard):
        with self._changed:
            kept.append(heard)
            self._changed.notify_all()

    def wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE), f"heard only {self.events} {self.exits}"

    def wait_for(self, kind, after=0):
        """Return the first event of a kind among those heard after the first `after`."""
        self.wait(lambda: any(isinstance(event, kind) for event in self.events[after:]))
        return next(event for event in self.events[after:] if isinstance(event, kind))

    def texts(self, kind):
        return [event.text for event in self.events if isinstance(event, kind)]

    def __enter__(self):
        self.client.start()
        return self

    def __exit__(self, *_):
        self.client.close(0.2)


class SharedImage:
    """Zeros of ``(1, Z, Y, X)``, what the worker writes, and the request to open them."""

    def __init__(self, name, shape=(4, 5, 6), state_folder="", classes=1):
        self.image = SharedArray.create((1, *shape), np.float32)
        self.prediction = SharedArray.create(shape, np.uint8)
        self.uncertainty = SharedArray.create(shape, np.uint8)
        self.request = OpenImage(
            self.image.handle, (1.0, 1.0, 1.0), self.prediction.handle, self.uncertainty.handle,
            ClassTable.from_values(range(2, 2 + classes)), name, str(state_folder),
        )  # fmt: skip

    def close(self):
        for array in (self.image, self.prediction, self.uncertainty):
            array.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def paint(number, voxels=(0,), value=2, source="stroke"):
    voxels = np.array(voxels, np.int64)
    return Paint(number, voxels, np.full(len(voxels), value, np.uint8), source)


def is_running(process):
    """Tell whether a process runs; one that has ended and was not fetched by its parent does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():  # not Linux
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_gone(process):
    wait_until(lambda: not is_running(process))
