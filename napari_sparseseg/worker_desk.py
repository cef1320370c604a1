"""The work in a worker process: one job at a time, which requests are handed to and events come from.

A new kind of work is a new row in `JOBS`: the request that begins it, how, and what may be asked of it.
"""

import gc
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.cohort_requests import JudgeCases, LearnFrom, PredictBatch, TrainCohort
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Failed, ModelSaved, Waiting
from napari_sparseseg.messages import NO_SESSION, Message
from napari_sparseseg.requests import (
    CloseImage,
    Configure,
    KeepState,
    LabelBoxes,
    LabelImage,
    Look,
    MapClass,
    OpenImage,
    Paint,
    Pretrain,
    ProbeEncoders,
    Restart,
    SaveModel,
    SetClasses,
    SharedHandle,
    StartFrom,
    Train,
    TrainClassifier,
)
from napari_sparseseg.shared_array import SharedArray

_LOGGER = logging.getLogger(__name__)
_DROPPED = "The work on this image has ended; open the image again to go on."
_NOTHING_OPEN = "no image is open in the background worker; open the image again."

Result = TypeVar("Result")


class Job(Protocol):
    """Work on one thing that was opened."""

    def run(self) -> Generator[Event, None, None]:
        """Work, event by event; after `Waiting` nothing is done until a request has come."""

    def close(self) -> None:
        """Keep what must last."""


Opener = Callable[[Any, ExitStack], Job]
"""Makes a job of the request that opens it; what must be let go of at its end is put on the stack."""

Action = Callable[[Any, Any], Event | None]
"""Hands a request to a job: ``action(job, request)``; returns the answer if there is one at once."""


@dataclass(frozen=True)
class JobKind:
    """How a kind of job is opened, and by request what can be asked of it."""

    open: Opener
    actions: Mapping[type, Action] = field(default_factory=dict)


def open_live_session(request: OpenImage, resources: ExitStack) -> Job:
    """Begin a `live.LiveSession` on the arrays that a request points to.

    Raises
    ------
    InputError
        If they are gone or do not belong together.
    """
    from napari_sparseseg.live import LiveSession

    image, prediction, uncertainty = (
        resources.enter_context(_attach(handle, dtype)).array
        for handle, dtype in (
            (request.image, np.float32),
            (request.prediction, np.uint8),
            (request.uncertainty, np.uint8),
        )
    )
    if image.ndim != 4 or not image.shape[1:] == prediction.shape == uncertainty.shape:
        raise InputError(
            f"image {image.shape}, prediction {prediction.shape} and uncertainty {uncertainty.shape} of "
            f"{request.name} do not belong together; open the image again."
        )
    folder = Path(request.state_folder) if request.state_folder else None
    return LiveSession(
        image, request.spacing, prediction, uncertainty, request.table, request.name, folder
    )  # fmt: skip


def open_box_job(request: LabelBoxes, resources: ExitStack) -> Job:
    """Begin a `box_job.BoxJob` on the image that a request points to.

    Raises
    ------
    InputError
        If the image is gone.
    """
    from napari_sparseseg.box_job import BoxJob

    return BoxJob(_attach_image(request, resources), request)


def open_classifier_job(request: TrainClassifier, resources: ExitStack) -> Job:
    """Begin a `cam_job.ClassifierJob` on the image that a request points to.

    Raises
    ------
    InputError
        If the image is gone.
    """
    from napari_sparseseg.cam_job import ClassifierJob

    return ClassifierJob(_attach_image(request, resources), request)


def open_map_job(request: MapClass, resources: ExitStack) -> Job:
    """Begin a `cam_job.MapJob` on the arrays that a request points to.

    Raises
    ------
    InputError
        If they are gone or do not belong together.
    """
    from napari_sparseseg.cam_job import MapJob

    image = _attach_image(request, resources)
    target = resources.enter_context(_attach(request.target, np.uint8)).array
    if target.shape != image.shape[1:]:
        raise InputError(
            f"image {image.shape} and class map {target.shape} of {request.name} do not belong together; "
            "open the image again."
        )
    return MapJob(image, target, request)


def open_pretrain_job(request: Pretrain, resources: ExitStack) -> Job:
    """Begin a `pretraining_job.PretrainJob` on the image that a request points to.

    Raises
    ------
    InputError
        If the image is gone.
    """
    from napari_sparseseg.pretraining_job import PretrainJob

    return PretrainJob(_attach_image(request, resources), request)


def open_probe_job(request: ProbeEncoders, resources: ExitStack) -> Job:
    """Begin a `pretraining_job.ProbeJob` on the image that a request points to.

    Raises
    ------
    InputError
        If the image is gone, or nothing is labelled.
    """
    from napari_sparseseg.pretraining_job import ProbeJob

    return ProbeJob(_attach_image(request, resources), request)


def open_cohort_job(request: TrainCohort, resources: ExitStack) -> Job:
    """Begin a `cohort_job.TrainCohortJob`, which reads its images from files."""
    from napari_sparseseg.cohort_job import TrainCohortJob

    return TrainCohortJob(request)


def open_judge_job(request: JudgeCases, resources: ExitStack) -> Job:
    """Begin a `cohort_job.JudgeCasesJob`, which reads its images from files."""
    from napari_sparseseg.cohort_job import JudgeCasesJob

    return JudgeCasesJob(request)


def open_batch_job(request: PredictBatch, resources: ExitStack) -> Job:
    """Begin a `batch_job.BatchJob`, which reads its images from files."""
    from napari_sparseseg.batch_job import BatchJob

    return BatchJob(request)


def _attach_image(
    request: LabelBoxes | TrainClassifier | MapClass | Pretrain | ProbeEncoders, resources: ExitStack
) -> NDArray[np.float32]:
    image = resources.enter_context(_attach(request.image, np.float32)).array
    if image.ndim != 4:
        raise InputError(f"{request.name} has {image.ndim} axes instead of 4; open the image again.")
    return image


def _attach(handle: SharedHandle, dtype: type[np.generic]) -> SharedArray:
    if np.dtype(handle.dtype) != dtype:
        raise InputError(
            f"an array of {np.dtype(dtype)} is needed, not {handle.dtype}; open the image again."
        )
    return SharedArray.attach(handle)


def _save_model(session: Any, request: SaveModel) -> Event:
    session.save_model(Path(request.folder))
    return ModelSaved(request.folder)


LIVE_ACTIONS: Mapping[type, Action] = {
    Configure: lambda session, asked: session.configure(asked.training, asked.network, asked.inference),
    KeepState: lambda session, asked: session.keep_state(Path(asked.state_folder)),
    Paint: lambda session, asked: session.paint(asked.number, asked.voxels, asked.values, asked.source),
    Look: lambda session, asked: session.look(asked.axis, asked.index),
    Train: lambda session, asked: session.train(asked.running),
    Restart: lambda session, asked: session.restart(),
    StartFrom: lambda session, asked: session.start_from(Path(asked.folder) if asked.folder else None),
    LearnFrom: lambda session, asked: session.learn_from(asked.cases),
    SetClasses: lambda session, asked: session.set_classes(asked.table),
    LabelImage: lambda session, asked: session.label_image(asked.labels, asked.outside),
    SaveModel: _save_model,
}
"""Request to a live session → what it does with it."""

JOBS: Mapping[type, JobKind] = {
    OpenImage: JobKind(open_live_session, LIVE_ACTIONS),
    LabelBoxes: JobKind(open_box_job),
    TrainClassifier: JobKind(open_classifier_job),
    MapClass: JobKind(open_map_job),
    Pretrain: JobKind(open_pretrain_job),
    ProbeEncoders: JobKind(open_probe_job),
    TrainCohort: JobKind(open_cohort_job),
    JudgeCases: JobKind(open_judge_job),
    PredictBatch: JobKind(open_batch_job),
}
"""Request that begins a job (and ends the one before) → the kind of job.

A request that another kind of job takes is passed over: what it tells is told again to the next job.
"""

_ASKED_FOR = (Restart, SaveModel)
"""Requests that a user waits for; the others may well come when there is no job (any more)."""


class Desk:
    """Where the job in work lies: takes requests to it and advances it.

    What goes wrong in a job ends the job, never the worker.

    Parameters
    ----------
    jobs
        As `JOBS`.
    send
        Sends an event with the generation that it belongs to.
    """

    def __init__(
        self,
        jobs: Mapping[type, JobKind],
        send: Callable[[Event, int], None],
    ) -> None:
        self._jobs, self._send = jobs, send
        self._known = {request for kind in jobs.values() for request in kind.actions}
        self._actions: Mapping[type, Action] = {}
        self._generation = NO_SESSION
        self._job: Job | None = None
        self._work: Generator[Event, None, None] | None = None
        self._resources = ExitStack()
        self._waiting = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a request comes."""
        return self._work is None or self._waiting

    def take(self, message: Message) -> None:
        """Do what a request asks."""
        request = message.item
        kind = type(request)
        self._waiting = False
        if kind in self._jobs:
            self.close()
            self._generation = message.generation
            self._attempt(lambda: self._open(request), message.generation)
        elif isinstance(request, CloseImage):
            self.close()
        elif kind not in self._known:
            text = f"the background worker does not know what {kind.__name__} means; install it anew."
            self._send(Failed(text), NO_SESSION)
        elif self._job is not None and kind in self._actions:
            job, action = self._job, self._actions[kind]
            # Whoever asked wants the answer, whatever is open by the time it arrives.
            answer = self._attempt(lambda: action(job, request), NO_SESSION, forgiving=True)
            if answer is not None:
                self._send(answer, NO_SESSION)
        elif isinstance(request, _ASKED_FOR):
            self._send(Failed(_NOTHING_OPEN), NO_SESSION)

    def advance(self) -> None:
        """Let the job work until its next event, and send that."""
        work = self._work
        if work is None or self._waiting:
            return
        event = self._attempt(lambda: next(work, None), self._generation)
        if event is not None:
            self._waiting = isinstance(event, Waiting)
            self._send(event, self._generation)
        elif self._work is not None:  # it is done
            self.close()

    def close(self) -> None:
        """End the job: it keeps what must last, and lets go of what it holds."""
        job, work = self._job, self._work
        if job is not None and work is not None:
            self._attempt(work.close, NO_SESSION, forgiving=True)
            self._attempt(job.close, NO_SESSION, forgiving=True)
        del job, work
        self._let_go()

    def _open(self, request: Any) -> None:
        kind = self._jobs[type(request)]
        self._job, self._actions = kind.open(request, self._resources), kind.actions
        self._work = self._job.run()

    def _attempt(
        self, step: Callable[[], Result], generation: int, *, forgiving: bool = False
    ) -> Result | None:
        """Return what `step` returns; where it fails tell so, and end the job.

        If `forgiving`, a mistake of the user's does not end it.
        """
        try:
            return step()
        except InputError as error:
            self._send(Failed(str(error)), generation)
            if forgiving:
                return None
        except Exception as error:
            _LOGGER.exception("A job was ended by an error")
            self._send(Failed(_describe(error), ended=True), generation)
        self._let_go()
        self._send(Waiting(_DROPPED), self._generation)
        return None

    def _let_go(self) -> None:
        self._job = self._work = None
        gc.collect()  # a job and its generator hold each other, and the arrays
        self._resources.close()


def _describe(error: Exception) -> str:
    """Return a sentence about an error that nobody foresaw."""
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":  # torch's, for a GPU
        return (
            "the memory is full; close other programs or choose a smaller network, and open the image again."
        )
    text = " ".join(str(error).split())
    return f"the work was stopped by an error in the program ({kind}: {text:.300}); open the image again."
