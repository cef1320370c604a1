"""The other labelled cases that the network of a live session learns from, beside the open image."""

from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread

import numpy as np
from scipy.ndimage import find_objects

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.case_arrays import lay_out_case
from napari_sparseseg.cases import PreparedCase, balance_classes, crop_case, prepare_case, weigh_case
from napari_sparseseg.cohort_reading import read_labelled
from napari_sparseseg.cohort_requests import LabelledCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.sampling import TrainingArrays

_MARGIN = 32
"""Voxels around the labels of another case that are kept."""

_MOST_VOXELS = 200_000_000
_FULL = "the other cases already fill the memory; Train on all cases learns from all."


@dataclass(frozen=True)
class LiveView:
    """How a live network sees images: what other cases have to be brought to.

    Attributes
    ----------
    normalisation, spacing, channels
        Of the image, with the voxel size in mm ``(Z, Y, X)``.
    values, seeding
        Which labels count: painted values, and those from class maps as `TrainingConfig` has it.
    table
        The classes of these values.
    """

    normalisation: Normalisation
    spacing: tuple[float, float, float]
    channels: int
    values: tuple[int, ...]
    seeding: float
    table: ClassTable = field(compare=False)

    @classmethod
    def of(cls, learner: LiveRound) -> "LiveView":
        """Return how a network sees images."""
        table = learner.table
        return cls(
            learner.normalisation, learner.spacing, learner.channels, table.mask_values,
            learner.config.seeding, table,
        )  # fmt: skip


class LiveCohort:
    """Reads labelled cases one after the other, beside other work, and gives them to the network.

    They are read again where another network sees images otherwise.
    """

    def __init__(self) -> None:
        self._cases: tuple[LabelledCase, ...] = ()
        self._waiting: list[LabelledCase] = []
        self._prepared: list[TrainingArrays] = []
        self._told: set[str] = set()
        self._learner: LiveRound | None = None
        self._view: LiveView | None = None
        self._reading: tuple[LabelledCase, Future[TrainingArrays | None]] | None = None

    def tell(self, cases: tuple[LabelledCase, ...]) -> None:
        """Learn from these cases from now on, in place of those told before."""
        self._cases, self._view, self._learner = cases, None, None

    def give(self, learner: LiveRound) -> Generator[Event, None, None]:
        """Give `learner` what it lacks and has been read; what cannot be read is noted once."""
        view = LiveView.of(learner)
        changed = view != self._view or learner is not self._learner
        self._learner = learner
        if view != self._view:
            self._view, self._prepared, self._waiting = view, [], list(self._cases)
            self._reading = None
        if self._reading is not None and self._reading[1].done():
            (case, answer), self._reading = self._reading, None
            try:
                changed |= self._keep(answer.result())
            except InputError as error:
                if case.name not in self._told:
                    self._told.add(case.name)
                    yield Noted(f"{case.name} is not learnt from: {error}")
        if self._reading is None and self._waiting:
            case = self._waiting.pop(0)
            self._reading = case, _read_beside(case, view)
        if changed:
            learner.learn_beside(self._prepared)

    def _keep(self, arrays: TrainingArrays | None) -> bool:
        if arrays is None:
            return False
        held = sum(case.image.numel() for case in self._prepared)
        if held + arrays.image.numel() > _MOST_VOXELS:
            self._waiting.clear()
            raise InputError(_FULL)
        self._prepared.append(arrays)
        return True


def _read_beside(case: LabelledCase, view: LiveView) -> "Future[TrainingArrays | None]":
    """Read a case in a thread of its own: strokes must not wait for a large file."""
    answer: Future[TrainingArrays | None] = Future()

    def read() -> None:
        try:
            answer.set_result(prepare_other(case, view))
        except MemoryError:
            answer.set_exception(InputError("it does not fit into the memory."))
        except Exception as error:  # noqa: BLE001 - raised where the answer is taken
            answer.set_exception(error)

    Thread(target=read, name=f"reads {case.name}", daemon=True).start()
    return answer


def prepare_other(case: LabelledCase, view: LiveView) -> TrainingArrays | None:
    """Read a case and bring it to what a network sees; None where none of its labels counts.

    Raises
    ------
    InputError
        If its image cannot be read or has other channels, or it is not the one that was labelled.
    """
    whole = read_labelled(case, view.table)
    if len(whole.image) != view.channels:
        raise InputError(f"it has {len(whole.image)} channels and the open image has {view.channels}.")
    classes = len(view.table)
    prepared = prepare_case(weigh_case(whole, view.seeding), view.normalisation, view.spacing, classes)
    if not prepared.annotation.any():
        return None
    near = crop_to_labels(prepared)
    return lay_out_case(near, near.annotation, None, balance_classes([near], classes))


def crop_to_labels(case: PreparedCase, margin: int = _MARGIN) -> PreparedCase:
    """Return the part of a case that lies within `margin` voxels of its labels."""
    (box,) = find_objects((case.annotation > 0).astype(np.uint8))
    z, y, x = (
        slice(max(0, edge.start - margin), min(length, edge.stop + margin))
        for edge, length in zip(box, case.annotation.shape, strict=True)
    )
    return crop_case(case, (z, y, x))
