"""A viewer with a list of cases, and what a user can ask for of them."""

from pathlib import Path

import numpy as np

from napari_sparseseg.cohort_events import CohortTrained
from napari_sparseseg.cohort_requests import TrainCohort
from napari_sparseseg.fingerprint import fingerprint_volume
from napari_sparseseg.volume import load_volume
from napari_sparseseg.widgets.cohort_states import cases_state
from tests.widgets.conftest import settle, wait_for

SHAPE = (12, 40, 48)


class Window:
    """A viewer, its list of cases, and what a user can ask for."""

    def __init__(self, viewer, coordinator, worker, told):
        self.viewer, self.coordinator, self.worker, self.told = viewer, coordinator, worker, told
        self.session, self.place = coordinator.session, coordinator._place
        self.cases, self.cohort = coordinator.cases, coordinator.cohort

    @property
    def state(self):
        return cases_state(self.session)

    @property
    def project(self):
        return self.place.desk.project

    def row(self, name):
        return next(case for case in self.session.cohort.cases if case.name == name)

    def add(self, *paths):
        self.cases.add([str(path) for path in paths])
        wait_for(lambda: not self.session.cohort.looking)

    def open(self, name):
        self.cases.open(self.row(name).key)
        self.wait_for(name)

    def wait_for(self, name):
        wait_for(lambda: self.session.image == name and self.session.cohort.opened == self.row(name).key)
        settle()

    def label(self, value=2, at=(6, 20, 24)):
        layer = self.viewer.layers[f"labels of {self.session.image}"]
        for painted, place in ((1, (at[0], 4, 4)), (value, at)):
            with layer.block_history():
                layer.paint(place, painted)
        settle()
        return layer.data.copy()

    def answer(self, *events):
        for event in events:
            self.worker.on_event(event)
        settle()

    def label_unseen(self, name, slices=(6,)):
        """Label a case as if it had been open before, for layers take their time."""
        file = self.row(name).files[0]
        number = self.project.add_case(
            name, SHAPE, (3, 1, 1), np.diag([3, 1, 1, 1]), source=file,
            fingerprint=fingerprint_volume(load_volume(file)),
        )  # fmt: skip
        for index in slices:
            first = np.ravel_multi_index((index, 10 + index, 20), SHAPE)
            self.project.add_change(number, np.arange(first, first + 8), np.repeat([1, 2], 4))
        wait_for(lambda: self.row(name).number == number)

    def train(self, dice=(0.5, 0.75)):
        """Let the network learn; the worker answers at once."""
        before = len(self.worker.asked(TrainCohort))
        self.cohort.train()
        wait_for(lambda: len(self.worker.asked(TrainCohort)) > before)
        asked = self.worker.asked(TrainCohort)[-1]
        write_network(Path(asked.folder))
        figures = {case.name: each for case, each in zip(asked.cases, dice, strict=False)}
        self.answer(CohortTrained(asked.folder, figures, float(np.mean(list(figures.values())))))
        return asked


def write_network(folder):
    """Write what is taken for a network, unlike those before."""
    folder.mkdir(exist_ok=True)
    model = folder / "model.json"
    model.write_text(f"{model.read_text() if model.exists() else ''} anew")
    (folder / "model.safetensors").write_bytes(b"weights")
