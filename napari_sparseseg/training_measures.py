"""Measuring a trained network: on cases that it never learnt from, and what its answers usually look like."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sparseseg.annotation import OverlapCounter
from napari_sparseseg.case_checks import CaseMeasures, describe_typical, measure_case
from napari_sparseseg.case_survey import SurveyedCase
from napari_sparseseg.cases import find_measurable, measurable_labels
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted
from napari_sparseseg.inference import PlacedNetwork, predict_volume

_DESCRIBED_CASES = 12
_LEAST_DESCRIBED = 3


@dataclass(frozen=True)
class ValScores:
    """How well a network does on cases that it has not learnt from.

    Attributes
    ----------
    cases
        Mean Dice over the classes by the case's name, on its own grid, where it is labelled.
    overall
        The same of all their labels together; None without such cases.
    """

    cases: dict[str, float] = field(default_factory=dict)
    overall: float | None = None


def measure_val(
    model: Model, placed: PlacedNetwork, cases: Sequence[SurveyedCase]
) -> Generator[Event, None, ValScores]:
    """Predict cases that the network has not learnt from and compare with their labels.

    Labels that were derived from boxes or class maps count only in a case that has no others.

    Parameters
    ----------
    model, placed
        The network, and the same on its device.
    cases
        The cases; one that cannot be read any more is left out, with a note.
    """
    classes = len(model.table)
    overall = OverlapCounter(classes)
    dice = {}
    for seen in cases:
        try:
            case = seen.read()
        except InputError as error:
            yield Noted(f"{seen.name} is left out: {error}")
            continue
        prediction = yield from predict_volume(model, case.image, case.spacing, placed=placed)
        labels = measurable_labels(case, derived=find_measurable([case]))
        where = labels > 0
        counter = OverlapCounter(classes)
        for counts in (counter, overall):
            counts.add(labels[where].astype(np.int64) - 1, prediction.channels[where])
        dice[seen.name] = counter.mean_dice()
    return ValScores(dice, overall.mean_dice() if dice else None)


def describe_training(
    model: Model,
    placed: PlacedNetwork,
    cases: Sequence[SurveyedCase],
    out_of_time: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, dict[str, Any]]:
    """Return what the network's answers for some of its own training cases have in common.

    Parameters
    ----------
    model, placed
        The network, and the same on its device.
    cases
        All of them; up to twelve are predicted.
    out_of_time
        Whether to stop after three.

    Returns
    -------
    As `case_checks.describe_typical` returns it.
    """
    chosen = np.unique(np.linspace(0, len(cases) - 1, _DESCRIBED_CASES).round().astype(int)).tolist()
    measured: list[CaseMeasures] = []
    for index in chosen:
        if len(measured) >= _LEAST_DESCRIBED and out_of_time():
            break
        try:
            case = cases[index].read()
        except InputError as error:
            yield Noted(f"{cases[index].name} is left out: {error}")
            continue
        prediction = yield from predict_volume(model, case.image, case.spacing, placed=placed)
        measured.append(measure_case(prediction.channels, prediction.uncertainty, case.spacing, model.table))
    return describe_typical(measured)
