"""Which cases of a batch somebody should look at first, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sparseseg.batch_records import BatchRecord

_LEAST_CASES = 8  # that a batch needs to be compared with itself
_FAR_OUT = 3.0  # quartile ranges beyond the quartiles (Tukey 1977)
_LEAST_SPREAD = 0.02  # of the middle; what is closer is not unusual however alike the others are
_MOST_UNCERTAIN = 3
_NOTABLE = 1.1  # times the middle; what is less uncertain is not told
_ABSURD = 1e9  # no figure of a case is as large
_BESIDE_OTHERS = " in this batch:"


@dataclass(frozen=True)
class Attention:
    """A case to look at: in a few words why, and the reasons in sentences."""

    record: BatchRecord
    kind: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """How a figure is distributed over a batch.

    Attributes
    ----------
    middle
        The median.
    low, high
        The quartiles.
    fences
        What lies outside of them is unusual; infinite where there are too few cases to say.
    """

    middle: float
    low: float
    high: float
    fences: tuple[float, float]

    def holds(self, number: float) -> bool:
        """Tell whether a figure is not unusual."""
        return self.fences[0] <= number <= self.fences[1]


def told_ml(record: BatchRecord, name: str) -> float:
    """Return the millilitres of a class; 0 where there is none of it, or a damaged record holds no number."""
    ml = record.volumes_ml.get(name, 0.0)
    return ml if 0 < ml < _ABSURD else 0.0


def find_spread(numbers: Sequence[float]) -> Spread | None:
    """Return how numbers are distributed, those left out that are none; None where there are no others."""
    known = [number for number in numbers if abs(number) < _ABSURD]
    if not known:
        return None
    low, middle, high = (float(number) for number in np.percentile(known, (25, 50, 75)))
    reach = _FAR_OUT * max(high - low, _LEAST_SPREAD * abs(middle))
    far = (low - reach, high + reach) if len(known) >= _LEAST_CASES else (-np.inf, np.inf)
    return Spread(middle, low, high, far)


def find_spreads(records: Sequence[BatchRecord], classes: Sequence[str]) -> dict[str, Spread]:
    """Return the spread of each class's millilitres over the cases that have it."""
    found = {}
    for name in classes:
        spread = find_spread([ml for record in records if (ml := told_ml(record, name))])
        if spread is not None:
            found[name] = spread
    return found


def choose_first(records: Sequence[BatchRecord], classes: Sequence[str]) -> list[Attention]:
    """Return the cases that need a human, the most urgent first.

    First those that failed; then those with warnings, empty masks and the most warnings first; then those
    that are unusual beside the others of the batch; then the few that the network is least sure of.
    """
    failed = [Attention(record, "failed", (record.error,)) for record in records if record.error]
    rest = sorted((r for r in records if not r.error), key=lambda r: (-_finite(r.uncertainty), r.name))
    spreads = find_spreads(rest, classes)
    uncertain = find_spread([record.uncertainty for record in rest])
    warned: list[Attention] = []
    unusual: list[Attention] = []
    least_sure: list[Attention] = []
    for record in rest:
        odd = _compare(record, spreads, uncertain)
        if record.warnings:
            told = tuple(text for text in odd if not _is_told(text, record.warnings))
            warned.append(Attention(record, "needs a look", (*record.warnings, *told)))
        elif odd:
            unusual.append(Attention(record, "unusual in this batch", odd))
        elif uncertain is not None and _stands_out(record, uncertain) and len(least_sure) < _MOST_UNCERTAIN:
            reason = f"{_tell_uncertainty(record, uncertain)}."
            least_sure.append(Attention(record, "less sure than most", (reason,)))
    warned.sort(key=lambda a: (any(a.record.volumes_ml.values()), -len(a.record.warnings)))
    return [*failed, *warned, *unusual, *(least_sure if len(rest) >= _LEAST_CASES else ())]


def _compare(record: BatchRecord, spreads: dict[str, Spread], uncertain: Spread | None) -> tuple[str, ...]:
    """Return what is unusual about a case beside the others of its batch."""
    reasons = []
    for name, spread in spreads.items():
        ml = told_ml(record, name)
        if ml and not spread.holds(ml):
            size = "small" if ml < spread.low else "large"
            reasons.append(
                f"{name} is unusually {size}{_BESIDE_OTHERS} {ml:.3g} ml; half of the cases have "
                f"{spread.low:.3g}–{spread.high:.3g} ml."
            )
    if uncertain is not None and uncertain.fences[1] < record.uncertainty < _ABSURD:
        reasons.append(f"{_tell_uncertainty(record, uncertain)}.")
    return tuple(reasons)


def _is_told(reason: str, warnings: Sequence[str]) -> bool:
    """Tell whether a warning says of the training cases what `reason` says of the batch."""
    beginning, *rest = reason.split(_BESIDE_OTHERS)
    return bool(rest) and any(warning.startswith(beginning) for warning in warnings)


def _stands_out(record: BatchRecord, spread: Spread) -> bool:
    return max(spread.high, _NOTABLE * spread.middle) < record.uncertainty < _ABSURD


def _tell_uncertainty(record: BatchRecord, spread: Spread) -> str:
    return (
        f"the network is less sure here: its mean uncertainty is {record.uncertainty:.2g}; half of the cases "
        f"have less than {spread.middle:.2g}"
    )


def _finite(number: float) -> float:
    return number if abs(number) < _ABSURD else 0.0
