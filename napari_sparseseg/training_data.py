"""What a network learns from: prepared cases, the labels held out of them, and what previews teach."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.annotation import OverlapCounter, choose_held_out
from napari_sparseseg.case_arrays import lay_out_case, move_arrays, score_case, without
from napari_sparseseg.case_store import CaseStore
from napari_sparseseg.cases import balance_classes, find_measurable, measurable_labels
from napari_sparseseg.events import Event, Noted, PreviewReady, WorkDone
from napari_sparseseg.inference import PlacedNetwork
from napari_sparseseg.preview import Preview, PreviewTeacher, confident_labels
from napari_sparseseg.sampling import TrainingArrays

LASTING_SHARE = 0.15
"""Held-out labels that are less than this share of all stay out to the end."""

CHECKED_CASES = 24
"""Of more cases than these a part is measured at most checks."""

_DEVICE_SHARE = 0.5


class TrainingData:
    """Cases laid out to be learnt, in memory or on disk, as their store keeps them.

    Parameters
    ----------
    store
        The cases.
    classes
        Number of classes K, background included.
    device
        Where they are learnt; they are brought there if they are in memory, and fit.
    """

    def __init__(self, store: CaseStore, classes: int, device: torch.device) -> None:
        self.store, self._classes, self._device = store, classes, device
        self._placed: dict[int, TrainingArrays] = {}
        self.class_weights = torch.zeros(0)
        self.previews: list[Preview | None] = [None] * len(store)
        self.is_derived = False
        self.labelled = 0
        self.held_out_counts: list[int] = [0] * len(store)

    def hold_out(self, share: float, random: np.random.Generator) -> None:
        """Weigh the classes, and choose labels to measure by, as `annotation.choose_held_out` does."""
        self.class_weights = balance_classes(self.store, self._classes).to(self._device)
        self.labelled = sum(int(np.count_nonzero(case.annotation)) for case in self.store)
        self.is_derived = find_measurable(self.store)
        chosen = choose_held_out(_Measurable(self.store, derived=self.is_derived), share, random)
        self.held_out_counts = [len(voxels) for voxels in chosen]
        for case, voxels in enumerate(chosen):
            self.store.put(case, "held_out", voxels)

    @property
    def lasting(self) -> bool:
        """Whether so few labels are held out that they stay out to the end."""
        return sum(self.held_out_counts) <= LASTING_SHARE * self.labelled

    def _held_out(self, case: int) -> NDArray[np.int64]:
        voxels = self.store.get(case, "held_out")
        return np.zeros(0, np.int64) if voxels is None else voxels

    def make_previews(
        self, seed: int, out_of_time: Callable[[], bool], *, keep: bool
    ) -> Generator[Event, None, None]:
        """Fit the instant classifiers: to all labels, and to those not held out.

        Of their answers those are kept that teach or are measured; all of them if `keep` says so.
        """
        choice = None
        for case, data in enumerate(self.store):
            if out_of_time():
                yield Noted(
                    f"There was time for a preview, which helps learning, of {case} of {len(self.store)} "
                    "volumes; labels are learnt from in all."
                )
                return
            if not keep:
                yield WorkDone(case / len(self.store), "Making previews")
            held_out = self._held_out(case)
            teacher = PreviewTeacher(data.image, data.spacing, self._classes, seed)
            labels = measurable_labels(data, derived=self.is_derived)
            choice = choice or teacher.choose(labels, out_of_time)
            truth = data.annotation.reshape(-1)[held_out].astype(np.int64) - 1
            check = (held_out, truth) if len(held_out) else None
            rest = without(data.annotation, held_out)
            partial = teacher.picture(rest, choice, check)
            choice = partial.choice if partial else choice
            if partial is not None:
                answers = partial.probabilities.reshape(self._classes, -1)[:, held_out]
                self.store.put(case, "held_out_answers", answers)
                self.store.put(case, "taught_partly", confident_labels(partial, rest))
            preview = teacher.picture(data.annotation, choice) if check else partial
            if preview is not None:
                self.store.put(case, "taught_fully", confident_labels(preview, data.annotation))
                self.previews[case] = preview if keep else None
                channels = preview.probabilities.argmax(0).astype(np.uint8)
                yield PreviewReady(case, channels, choice.name, choice.held_out_dice)

    def lay_out(self, *, final: bool) -> None:
        """Lay out the labels to learn from: all of them in the final phase, else without those held out."""
        for index, case in enumerate(self.store):
            annotation = case.annotation if final else without(case.annotation, self._held_out(index))
            taught = self.store.get(index, "taught_fully" if final else "taught_partly")
            arrays = lay_out_case(case, annotation, taught, self.class_weights)
            self.store.put_laid_out(index, arrays)
        self.place(self._device)

    def place(self, device: torch.device) -> None:
        """Bring what is in memory to the device that it is learnt on, if it fits there."""
        self._device, self._placed = device, {}
        self.class_weights = self.class_weights.to(device)
        if device.type == "cpu":
            return
        room = np.inf
        if device.type == "cuda":
            room = _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
        if self.store.held_bytes <= room:
            inside = [index for index in range(len(self.store)) if self.store.in_memory(index)]
            self._placed = {index: move_arrays(self.store.laid_out(index), device) for index in inside}

    @property
    def arrays(self) -> Sequence[TrainingArrays]:
        """The cases as they are learnt; each is opened when it is asked for."""
        return _LaidOut(self.store, self._placed)

    def choose_checked(self, *, every: bool) -> list[int]:
        """Return the cases to measure by: those with labels held out; of very many a part, unless `every`."""
        cases = [index for index, count in enumerate(self.held_out_counts) if count]
        if every or len(cases) <= CHECKED_CASES:
            return cases
        return [cases[i] for i in np.linspace(0, len(cases) - 1, CHECKED_CASES).round().astype(int)]

    def score(self, placed: PlacedNetwork, case: int) -> dict[str, OverlapCounter]:
        """Compare answers with the labels held out of a case, as `case_arrays.score_case` does."""
        answers = self.store.get(case, "held_out_answers")
        return score_case(placed, self.store[case], answers, self._held_out(case))

    def dispatch(self) -> dict[str, Any]:
        """Return, as plain JSON, what another process needs to `receive` this data as it is laid out now."""
        return {
            "cases": [case.to_json() for case in self.store.cases],
            "folder": str(self.store.folder),
            "class_weights": self.class_weights.tolist(),
            "counts": [list(self.store.counts[index]) for index in range(len(self.store))],
            "held_out": self.held_out_counts,
        }


class _Measurable(Sequence[NDArray[np.integer[Any]]]):
    """The labels of each case that can be measured by, read when they are asked for."""

    def __init__(self, store: CaseStore, *, derived: bool) -> None:
        self._store, self._derived = store, derived

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.integer[Any]]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.integer[Any]]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return measurable_labels(self._store[index], derived=self._derived)


class _LaidOut(Sequence[TrainingArrays]):
    """Cases laid out, each opened when it is asked for."""

    def __init__(self, store: CaseStore, placed: dict[int, TrainingArrays]) -> None:
        self._store, self._placed = store, placed

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, index: int) -> TrainingArrays: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingArrays]: ...
    def __getitem__(self, index: int | slice) -> TrainingArrays | Sequence[TrainingArrays]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._placed[index] if index in self._placed else self._store.laid_out(index)
