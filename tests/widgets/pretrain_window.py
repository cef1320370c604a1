"""A viewer with one image in work, and what a user asks for of encoders that learn without labels."""

from pathlib import Path

import numpy as np

from napari_sparseseg.events import (
    EncoderProbed,
    EncoderTrained,
    PretextPictured,
    PretextScored,
    StepDone,
    WorkDone,
)
from napari_sparseseg.requests import Pretrain, ProbeEncoders
from napari_sparseseg.widgets.pretrain_states import pretrain_state
from tests.encoder_folders import make_encoder
from tests.widgets.conftest import settle

SHAPE = (12, 40, 48)
NAMES = ("input", "target", "prediction")


class Window:
    """One image in work, and what a user can ask for."""

    def __init__(self, viewer, coordinator, worker, told):
        self.viewer, self.coordinator, self.worker, self.told = viewer, coordinator, worker, told
        self.session, self.place, self.pretrain = (
            coordinator.session,
            coordinator._place,
            coordinator.pretrain,
        )

    @property
    def state(self):
        return pretrain_state(self.session)

    @property
    def project(self):
        return self.place.desk.project

    @property
    def pictures(self):
        return [each for each in self.viewer.layers if each.metadata.get("sparseseg_role") == "pretext"]

    def answer(self, *events):
        for event in events:
            self.worker.on_event(event)
        settle()

    def learn(self, **changes):
        """Let an encoder learn; the worker answers at once."""
        self.pretrain.train()
        folder = self.worker.asked(Pretrain)[-1].folder
        self.answer(StepDone(1, 0.7, 0.1), score(1))
        self.answer(EncoderTrained(str(make_encoder(Path(folder), **changes))))
        return folder

    def label(self):
        """Paint a little of background and of a class."""
        layer = self.viewer.layers["labels of scan"]
        for value, place in ((1, (6, 4, 4)), (2, (6, 20, 24))):
            with layer.block_history():
                layer.paint(place, value)
        settle()

    def compare(self, *dice):
        """Compare all encoders; the worker answers with these figures, random weights' first."""
        self.pretrain.probe()
        folders = ("", *self.worker.asked(ProbeEncoders)[-1].folders)
        for number, (folder, each) in enumerate(zip(folders, dice, strict=True), 1):
            self.answer(WorkDone(number / len(folders), "Measuring"))
            assert self.session.pretrain.running == "probe"
            self.answer(EncoderProbed(folder, each, {"class 2": each}))


def score(step, value=0.5, **changes):
    values = {
        "step": step, "figure": "accuracy", "value": value, "trivial": 0.25, "alignment": 0.5,
        "uniformity": -2.0, "spread": 0.8, "collapsed": False, "within_volume": True,
    }  # fmt: skip
    return PretextScored(**(values | changes))


def make_pictures(names=NAMES, shape=(8, 12, 10), spacing=(3, 1, 1), seed=0, scale=1.0):
    images = np.random.default_rng(seed).normal(0, scale, (len(names), *shape)).astype(np.float32)
    return PretextPictured(names, images, spacing)
