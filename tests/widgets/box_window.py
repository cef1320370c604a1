"""A viewer with one image in work, and what a user asks for of its boxes."""

import numpy as np

from napari_sparseseg.events import BoxesLabelled, BoxRoundMade, Noted
from napari_sparseseg.widgets.box_states import boxes_state
from tests.widgets.conftest import settle

START, STOP = (4, 10, 12), (8, 26, 34)


class Window:
    """One image in work, and what a user can ask for."""

    def __init__(self, viewer, coordinator, worker, told):
        self.viewer, self.coordinator, self.worker, self.told = viewer, coordinator, worker, told
        self.session, self.work = coordinator.session, coordinator.session.boxes
        self.drawing, self.masks, self.annotate = (
            coordinator.box_drawing, coordinator.boxes, coordinator.annotate,
        )  # fmt: skip
        self.place = coordinator._place

    @property
    def layer(self):
        return self.viewer.layers["boxes of scan"]

    @property
    def state(self):
        return boxes_state(self.session)

    def names(self):
        return {layer.name for layer in self.viewer.layers}

    def draw(self, axis=0, index=6, low=(10, 12), high=(26, 34)):
        start, stop = list(low), list(high)
        start.insert(axis, index)
        stop.insert(axis, index + 1)
        self.drawing.add(axis, tuple(start), tuple(stop))

    def extents(self):
        return sorted((record.value, record.start, record.stop) for record in self.work.records)

    def make(self, labels, quality=None):
        """Make masks; the worker answers with these labels ``(Z, Y, X)`` of the whole image."""
        self.masks.run()
        region = tuple((0, size) for size in labels.shape)
        answers = (
            Noted("box 1 is empty, so its middle is taken instead (box_inner)."),
            BoxRoundMade(0, 0, region, labels, np.zeros_like(labels), quality or {}, 0.5),
            BoxesLabelled(()),
        )
        for answer in answers:
            self.worker.on_event(answer)
        settle()

    def labels(self, value=2):
        labels = np.zeros((12, 40, 48), np.uint8)
        labels[START[0] : STOP[0], 10:26, 12:34] = 1
        labels[5:7, 14:20, 16:30] = value
        return labels
