"""A viewer with one image in work, and what a user asks for of its class maps and points."""

import numpy as np

from napari_sparseseg.events import ClassifierTrained, ClassMapMade, StepDone
from napari_sparseseg.requests import MapClass
from napari_sparseseg.shared_array import SharedArray
from napari_sparseseg.widgets.cam_states import class_maps_state
from tests.widgets.conftest import settle

SHAPE = (12, 40, 48)


class Window:
    """One image in work, and what a user can ask for."""

    def __init__(self, viewer, coordinator, worker, told):
        self.viewer, self.coordinator, self.worker, self.told = viewer, coordinator, worker, told
        self.session, self.place = coordinator.session, coordinator._place
        self.cam, self.points, self.annotate = coordinator.cam, coordinator.points, coordinator.annotate

    @property
    def work(self):
        return self.session.cam

    @property
    def state(self):
        return class_maps_state(self.session)

    @property
    def hints(self):
        return self.place.desk.project.hints

    def layers(self, role):
        return [layer for layer in self.viewer.layers if layer.metadata.get("sparseseg_role") == role]

    def go(self, index, axis=0):
        self.annotate.go_to_slice(axis, index)
        settle()

    def say_range(self, first, last, axis=0):
        self.go(first, axis)
        self.cam.begin_range()
        self.go(last, axis)
        self.cam.end_range()

    def answer(self, *events):
        for event in events:
            self.worker.on_event(event)
        settle()

    def learn(self):
        """Let a classifier learn; the worker answers at once."""
        if not self.work.labels:
            self.cam.add_volume_label(True)
        self.cam.train()
        self.answer(ClassifierTrained(self.cam._classifier_folder))

    def learn_network(self):
        """Let the segmentation network learn; the worker answers at once."""
        self.answer(StepDone(1, 0.7, 0.1))

    def answer_map(self, values, score=0.9):
        """Write the map ``(Z, Y, X)`` that was asked for last, and say so."""
        request = self.worker.asked(MapClass)[-1]
        shared = SharedArray.attach(request.target)
        shared.array[:] = values
        shared.close()
        self.answer(ClassMapMade(2, score, not values.any()))

    def make_map(self, values=None, score=0.9):
        """Ask for the map of the selected class; the worker answers with these values ``(Z, Y, X)``."""
        self.cam.make_map()
        settle()
        self.answer_map(ball_map() if values is None else values, score)


def ball_map(center=(6, 20, 24)):
    """Return ``(Z, Y, X)`` uint8 that falls off from 255 at a voxel."""
    z, y, x = np.indices(SHAPE)
    distance = ((z - center[0]) / 4) ** 2 + ((y - center[1]) / 9) ** 2 + ((x - center[2]) / 10) ** 2
    return np.rint(255 * np.exp(-distance)).astype(np.uint8)
