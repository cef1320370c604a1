"""Looking at all cases once before a network learns from them, one at a time in memory."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import (
    Case,
    CaseSource,
    PreparedCase,
    Region,
    check_case,
    check_cohort,
    crop_case,
    prepare_case,
    weigh_case,
)
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import (
    ForegroundSample,
    Normalisation,
    fit_normalisation_to_foreground,
    sample_foreground,
)
from napari_sparseseg.resampling import shape_at
from napari_sparseseg.sampling import reach_of_patch

_SAMPLED = 20_000
_RAW_SHARE = 0.5  # of the memory for cases as they were read, which else are read twice
_CROPPED_SHARE = 0.8  # a case that would stay larger than this share is left whole


@dataclass(frozen=True, eq=False)
class SurveyedCase:
    """What was seen of a case.

    Attributes
    ----------
    name
        Unlike that of every other.
    read
        Reads it (again), and weighs its labels by where they come from.
    whole
        Whether it is learnt from uncropped: as it was given in memory.
    channels, shape, spacing
        Of the image: their number, voxels and mm ``(Z, Y, X)``.
    region
        As `Case` has it.
    values
        What it is labelled with.
    sample
        For the normalisation.
    """

    name: str
    read: Callable[[], Case]
    whole: bool
    channels: int
    shape: Triple
    spacing: tuple[float, float, float]
    region: Region | None
    values: frozenset[int]
    sample: ForegroundSample | None

    def shape_at(self, spacing: tuple[float, float, float]) -> Triple:
        """Return the shape that it is learnt from at another voxel size, uncropped."""
        shape = shape_at(self.shape, self.spacing, spacing)
        if self.region is None or shape != self.shape:
            return shape
        return to_triple(len(range(*edge.indices(n))) for edge, n in zip(self.region, shape, strict=True))


@dataclass(frozen=True, eq=False)
class CaseSurvey:
    """What there is to learn from, and to measure by.

    Attributes
    ----------
    cases, val
        The cases that are learnt from, and those that are never.
    left_out
        By name why a case is neither, in a sentence.
    normalisation
        How intensities become a network's input.
    spacing
        Voxel size in mm ``(Z, Y, X)`` to learn at.
    """

    cases: tuple[SurveyedCase, ...]
    val: tuple[SurveyedCase, ...]
    left_out: dict[str, str]
    normalisation: Normalisation
    spacing: tuple[float, float, float]

    @property
    def shape(self) -> Triple:
        """Median voxels ``(Z, Y, X)`` of a case at `spacing`."""
        return to_triple(np.median([case.shape_at(self.spacing) for case in self.cases], axis=0).round())

    @property
    def is_streamed(self) -> bool:
        """Whether cases are read when they are needed."""
        return not all(case.whole for case in self.cases)


def survey_cases(
    cases: Sequence[Case | CaseSource],
    val: Sequence[Case | CaseSource],
    table: ClassTable,
    initial: Model | None,
    seeding: float,
    *,
    memory_mb: int | None = None,
    skip_bad: bool = False,
) -> Generator[Event, None, CaseSurvey]:
    """Look at every case once, one at a time.

    Parameters
    ----------
    cases, val
        Those to learn from, and those that are never.
    table, initial
        The classes, and the model to start from, if any.
    seeding
        As `TrainingConfig` has it.
    memory_mb
        Megabytes that cases may take; in half of it they are kept as they were read as long as all fit,
        and are read twice otherwise.  None for no limit.
    skip_bad
        Leave out what cannot be used, with a note, instead of raising.

    Raises
    ------
    InputError
        If a case cannot be used, or what is left cannot be trained on.
    """
    reader = _Reader(table, seeding, memory_mb, sample=initial is None)
    seen: list[SurveyedCase] = []
    left_out: dict[str, str] = {}
    names = _name_apart([case.name for case in (*cases, *val)])
    for number, (name, case) in enumerate(zip(names, (*cases, *val), strict=True)):
        if isinstance(case, CaseSource):
            yield WorkDone(number / len(names), "Looking at the volumes")
        try:
            seen.append(reader.look_at(name, case, learnt=number < len(cases)))
        except InputError as error:
            if not skip_bad:
                raise
            left_out[name] = str(error)
    learnt = set(names[: len(cases)])
    if skip_bad and seen:
        usual = Counter(case.channels for case in seen if case.name in learnt).most_common(1)
        wanted = initial.channels if initial else usual[0][0] if usual else 0
        for other in (case for case in seen if case.channels != wanted):
            left_out[other.name] = f"{other.name} has {other.channels} channels and should have {wanted}."
    for name, reason in left_out.items():
        yield Noted(f"{name} is left out: {reason}")
    seen = [case for case in seen if case.name not in left_out]
    training = tuple(case for case in seen if case.name in learnt)
    if left_out and not training:
        raise InputError("none of the volumes can be learnt from; see the notes on each.")
    values = {value for case in training for value in case.values}
    check_cohort([(case.name, case.channels) for case in seen], values, table, initial)
    samples = [case.sample for case in training if case.sample is not None]
    z, y, x = np.median([case.spacing for case in training], axis=0).tolist()
    return CaseSurvey(
        training,
        tuple(case for case in seen if case.name not in learnt),
        left_out,
        initial.normalisation if initial else fit_normalisation_to_foreground(samples),
        initial.spacing if initial else (z, y, x),
    )


def _name_apart(names: Sequence[str]) -> list[str]:
    """Return the names, with a number behind those that were there before."""
    apart: list[str] = []
    for name in names:
        tries = (name if number == 1 else f"{name} ({number})" for number in range(1, len(names) + 2))
        apart.append(next(one for one in tries if one not in set(apart)))
    return apart


class _Reader:
    """Reads cases, and keeps them as they were read as long as all fit into a share of the memory."""

    def __init__(self, table: ClassTable, seeding: float, memory_mb: int | None, *, sample: bool) -> None:
        self._table, self._seeding, self._sample = table, seeding, sample
        self._room = np.inf if memory_mb is None else memory_mb * 1_000_000 * _RAW_SHARE
        self._kept: dict[str, Case] | None = {}

    def look_at(self, name: str, case: Case | CaseSource, *, learnt: bool) -> SurveyedCase:
        source = case if isinstance(case, CaseSource) else None
        given = source.read() if source else case
        assert isinstance(given, Case)
        weighed = weigh_case(replace(given, name=name) if given.name != name else given, self._seeding)
        values = check_case(weighed, self._table)
        if not (learnt or values):
            raise InputError(f"{name} has no labels to measure by; label some, or leave it out.")
        if source and learnt:
            self._keep(name, weighed)
        sample = None
        if learnt and self._sample:
            sample = sample_foreground(weighed.image, weighed.annotation, _SAMPLED if source else None)
        shape = to_triple(weighed.annotation.shape)
        read = (lambda: self._read(name, source, shape)) if source else lambda: weighed
        return SurveyedCase(
            name, read, source is None, weighed.image.shape[0], shape, weighed.spacing, weighed.region,
            values, sample,
        )  # fmt: skip

    def _keep(self, name: str, case: Case) -> None:
        if self._kept is None:
            return
        arrays = (case.image, case.annotation, case.weights, case.sources)
        self._room -= sum(array.nbytes for array in arrays if array is not None)
        self._kept[name] = case
        if self._room < 0:
            self._kept = None

    def _read(self, name: str, source: CaseSource, shape: Triple) -> Case:
        if self._kept and name in self._kept:
            return self._kept.pop(name)
        case = weigh_case(replace(source.read(), name=name), self._seeding)
        check_case(case, self._table)
        if case.annotation.shape != shape:
            raise InputError(
                f"{name} has changed while it was learnt from; leave the volumes as they are meanwhile."
            )
        return case


def prepare_cases(survey: CaseSurvey, classes: int, patch: Triple) -> Iterator[PreparedCase]:
    """Prepare the cases to learn from, one at a time.

    Those that were read from disk are cut to what a patch round a label can reach, where that is much less.

    Parameters
    ----------
    survey
        The cases.
    classes
        Number of classes, background included.
    patch
        Size in voxels ``(Z, Y, X)``.
    """
    for case in survey.cases:
        prepared = prepare_case(case.read(), survey.normalisation, survey.spacing, classes)
        yield prepared if case.whole else _crop_to_labels(prepared, patch)


def _crop_to_labels(case: PreparedCase, patch: Triple) -> PreparedCase:
    reach = reach_of_patch(patch, case.spacing)
    box = []
    for axis, (margin, length) in enumerate(zip(reach, case.annotation.shape, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        places: NDArray[np.int64] = np.flatnonzero(case.annotation.any(others))
        if not len(places):
            return case
        box.append(slice(max(0, int(places[0]) - margin), min(length, int(places[-1]) + 1 + margin)))
    inside = case.annotation[tuple(box)].size
    z, y, x = box
    return case if inside > _CROPPED_SHARE * case.annotation.size else crop_case(case, (z, y, x))
