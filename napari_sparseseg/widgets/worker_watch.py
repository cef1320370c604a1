"""What happens in a window when its worker says something, fails or dies."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from qtpy.QtCore import QObject, Signal

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    Failed,
    HeldOutScored,
    ModelSaved,
    Noted,
    PictureChanged,
    PictureCompleted,
    RoundStarted,
)
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.predict_actions import PredictActions
from napari_sparseseg.widgets.pretrain_words import name_tasks
from napari_sparseseg.widgets.worker_events import take_event
from napari_sparseseg.widgets.workplace import Workplace

_REOPEN_SECONDS = 60.0


class WorkerWatch(QObject):
    """Takes each event to the job that it is of, or else into the session and the layers.

    Parameters
    ----------
    place
        The workplace; its worker's events are followed from now on.
    jobs
        Those that may run in place of learning from strokes.
    predict
        What is done with a picture that is complete.
    """

    heard = Signal()
    """The session has changed."""

    def __init__(self, place: Workplace, jobs: Sequence[JobActions], predict: PredictActions) -> None:
        super().__init__(place)
        self._place, self._jobs, self._predict = place, tuple(jobs), predict
        self._reopened = -math.inf
        self._deaths = 0
        place.link.arrived.connect(self._on_event)
        place.link.died.connect(self._on_death)

    def _on_event(self, event: object) -> None:
        place, session = self._place, self._place.session
        if any(job.take_event(event) for job in self._jobs):
            self.heard.emit()
            return
        take_event(session, event)
        try:
            self._keep_figures(event)
        except InputError as error:
            place.tell(str(error))
        if isinstance(event, PictureChanged) and place.case is not None:
            place.case.layers.picture_changed(event.region, session.axis, session.slice_index)
        elif isinstance(event, PictureCompleted):
            self._predict.picture_completed()
        elif isinstance(event, Failed):
            self._on_failure(event)
        elif isinstance(event, Noted):
            place.inform(event.text)
        elif isinstance(event, ModelSaved):
            place.inform(f"The model was saved in {event.folder}.")
        self.heard.emit()

    def _on_failure(self, event: Failed) -> None:
        text = name_tasks(event.text) if self._place.session.pretrain.running else event.text
        self._place.tell(text)
        if self._place.session.job is None and event.ended:
            self._reopen()
        for job in self._jobs:
            job.end(f"Nothing was made: {text}")

    def _keep_figures(self, event: object) -> None:
        """Keep what training says of itself in the project."""
        learning, desk = self._place.session.learning, self._place.desk
        if isinstance(event, RoundStarted):
            learning.record = desk.add_round(
                {"labelled": event.labelled, "held_out": event.held_out, "slices": event.slices}
            )
        elif isinstance(event, HeldOutScored):
            measured = {name: dice for name, dice in event.per_class.items() if math.isfinite(dice)}
            figures = {"step": event.step, "dice": event.dice, "per_class": measured}
            desk.update_round(learning.record, {**figures, "seconds": learning.seconds})

    def _reopen(self) -> None:
        """Begin the work on the image again after an error in it, but not again and again."""
        now = time.monotonic()
        if now - self._reopened > _REOPEN_SECONDS:
            self._reopened = now
            self._place.send_image(again=True)

    def _on_death(self, sentence: str) -> None:
        place, session = self._place, self._place.session
        learnt = session.running and session.job is None
        session.busy = False
        for job in self._jobs:
            job.lose()
        if place.link.alive:
            place.tell(f"{sentence} It was started again; no stroke is lost.")
            session.worker = "starting"
            self._deaths += learnt
            if self._deaths > 1 and session.training.precision == "auto":
                # A fault in a library, most likely, that its slower but older part does not have.
                session.training = replace(session.training, precision="float32")
                place.inform("Learning goes on with the precision float32, which is slower but safer.")
            place.send_image(again=True)
        else:
            place.tell(
                f"{sentence} It stopped again and again; press Start to try once more. No stroke is lost."
            )
            session.worker, session.running = "gone", False
        self.heard.emit()
