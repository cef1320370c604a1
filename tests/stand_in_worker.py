"""A worker process with a session that learns nothing, for tests of the process around it.

Run as ``python stand_in_worker.py [warm-up]``; the warm-up can be "broken", "talkative" or "gate=FILE": it
waits for that file.
"""

import os
import sys
from pathlib import Path

from worker_talk import wait_until

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    ImageReady,
    Noted,
    PictureChanged,
    StepDone,
    StrokeLearnt,
    Waiting,
)
from napari_sparseseg.requests import OpenImage
from napari_sparseseg.shared_array import SharedArray
from napari_sparseseg.worker import run_worker
from napari_sparseseg.worker_desk import LIVE_ACTIONS, JobKind


class StandInSession:
    """Answers what it is told with notes; the image's name decides how it behaves."""

    def __init__(self, request, resources):
        self.name, self.folder = request.name, request.state_folder
        if self.name == "unreadable":
            raise InputError("this image is unreadable; choose another.")
        self.prediction = resources.enter_context(SharedArray.attach(request.prediction)).array
        self.said = []
        self.running = False
        self.steps = 0

    def configure(self, training, network, inference):
        print("a stray print")  # noqa: T201
        os.write(1, b"a stray write")
        self.said.append(Noted(f"{training.seed} {network.size} {inference.overlap}"))

    def keep_state(self, folder):
        self.folder = folder

    def paint(self, number, voxels, values, source):
        if voxels.size and voxels.max() >= self.prediction.size:
            raise InputError("a label lies outside the image; open the image again.")
        self.prediction.reshape(-1)[voxels] = values
        self.said += [PictureChanged(((0, 1), (0, 1), (0, 1)), source), StrokeLearnt(number)]

    def look(self, axis, index):
        self.said.append(Noted(f"look {axis} {index}"))

    def train(self, running):
        self.running = running

    def restart(self):
        raise RuntimeError("nobody\nforesaw this")

    def set_classes(self, table):
        self.said.append(Noted(", ".join(table.names)))

    def save_model(self, folder):
        if self.steps == 0:
            raise InputError("no network has learnt yet; start learning first.")

    def run(self):
        yield ImageReady()
        while self.name == "endless computation":
            self.steps += 1
        while self.name != "short work" or self.said:
            if self.said and self.name == "unspeakable":
                self.said.clear()
                yield Noted(b"no text")
            elif self.said:
                yield self.said.pop(0)
            elif self.running and self.name == "bad training":
                raise MemoryError
            elif self.running:
                self.steps += 1
                yield StepDone(self.steps, 0.5, 0.0)
            else:
                yield Waiting(self.name)

    def close(self):
        if self.folder:
            Path(self.folder, "closed").write_text(self.name)
        if self.name == "unsaveable":
            raise InputError("the state cannot be written; free some space.")


def warm_up():
    if "broken" in sys.argv:
        raise ImportError("no torch")
    if "talkative" in sys.argv:
        os.write(1, b"a library says hello")
    if sys.argv[-1].startswith("gate="):
        wait_until(Path(sys.argv[-1].removeprefix("gate=")).exists)
    return "stand-in"


if __name__ == "__main__":
    run_worker(warm_up=warm_up, jobs={OpenImage: JobKind(StandInSession, LIVE_ACTIONS)})
