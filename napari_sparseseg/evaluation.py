"""How well a mask agrees with the truth: overlap, distances in mm and volumes, per class."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

TOLERANCE_MM = 2.0
"""Default tolerance of the surface Dice."""
_MICROSCOPY_VOXEL_MM = 0.1
_PERCENTILE = 95
_MM3_PER_ML = 1000.0

_Mask = NDArray[np.bool_]
Presence = Literal["both", "missed", "spurious", "neither"]
"""Whether a class is in both masks, only in the truth, only in the prediction, or in neither."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; a score that is not defined is NaN.

    `dice` and `iou` count the voxels compared; everything else describes the whole masks.
    A class that only one of the masks holds has Dice, IoU and surface Dice 0 and no HD95; a class that
    neither holds has none of them.  `volume_error_percent` is relative to the true volume, and both
    errors are positive where the prediction is too large.
    """

    value: int
    name: str
    presence: Presence
    dice: float
    iou: float
    hd95_mm: float
    surface_dice: float
    volume_error_ml: float
    volume_error_percent: float
    voxels_predicted: int
    voxels_true: int


@dataclass(frozen=True)
class Evaluation:
    """Scores of every class and their means.

    A mean is over the classes for which the score is defined.  So a class that is missed altogether
    lowers the mean Dice, and is left out of the mean HD95, which has no value for it: read the mean
    HD95 together with `ClassScore.presence`.
    """

    classes: tuple[ClassScore, ...]
    tolerance_mm: float
    voxels_compared: int
    restricted: bool
    """Whether `dice` and `iou` are over a part of the voxels; distances are always over all of them."""

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the classes, without background."""
        return self._mean("dice")

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes, without background."""
        return self._mean("iou")

    @property
    def mean_hd95_mm(self) -> float:
        """Mean HD95 in mm over the classes that both masks hold."""
        return self._mean("hd95_mm")

    @property
    def mean_surface_dice(self) -> float:
        """Mean surface Dice over the classes, without background."""
        return self._mean("surface_dice")

    def _mean(self, name: str) -> float:
        scores = [getattr(score, name) for score in self.classes]
        defined = [score for score in scores if not math.isnan(score)]
        return float(np.mean(defined)) if defined else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; a score that is not defined is None."""
        means = ("mean_dice", "mean_iou", "mean_hd95_mm", "mean_surface_dice")
        return {
            **{name: _none_if_nan(getattr(self, name)) for name in means},
            "tolerance_mm": self.tolerance_mm,
            "voxels_compared": self.voxels_compared,
            "restricted": self.restricted,
            "classes": [
                {name: _none_if_nan(value) for name, value in asdict(score).items()} for score in self.classes
            ],
        }

    def to_table(self) -> "Table":
        """Return a `rich` table for the terminal."""
        from rich.table import Table

        caption = f"Surface Dice at {self.tolerance_mm:g} mm."
        if self.restricted:
            caption += f" Dice and IoU on {self.voxels_compared:,} voxels; all else on the whole."
        table = Table(caption=caption, caption_justify="left")
        table.add_column("class")
        for heading in ("Dice", "IoU", "HD95 (mm)", "surface Dice", "volume error (ml)", "(%)"):
            table.add_column(heading, justify="right")
        for score in self.classes:
            remark = "" if score.presence == "both" else f" ({score.presence})"
            table.add_row(score.name + remark, *_format_row(score))
        means = (self.mean_dice, self.mean_iou, self.mean_hd95_mm, self.mean_surface_dice)
        table.add_section()
        table.add_row("mean", *_format_numbers(means, ("5.3f", "5.3f", ".2f", "5.3f")), "", "")
        return table


def evaluate_prediction(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    spacing: tuple[float, float, float],
    table: ClassTable | None = None,
    only_where: _Mask | None = None,
    tolerance_mm: float | None = None,
) -> Evaluation:
    """Compare a mask with the truth, class by class.

    Distances are MONAI's.  HD95 is the larger of the two directed 95th percentiles between the border
    voxels (Huttenlocher et al. 1993).  The surface Dice (NSD, Nikolov et al. 2018) is the share of both
    surfaces that lies within the tolerance of the other, each surface element weighed by its area in
    mm², as in DeepMind's surface-distance.

    Parameters
    ----------
    prediction, truth
        Mask values ``(Z, Y, X)``; 0 is background.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    table
        The classes to score; without it, every value of either mask but 0.
    only_where
        ``(Z, Y, X)`` voxels that Dice and IoU count, e.g. those nobody labelled; all if None.  A
        surface does not end where a label does, so distances and volumes are of the whole masks.
    tolerance_mm
        Tolerance of the surface Dice; by default 2 mm, or one voxel diagonal where no voxel side
        reaches 0.1 mm (microscopy).

    Raises
    ------
    InputError
        If the shapes differ, a mask holds a value that is not in the table, there is no class to
        score, or the tolerance is negative.
    """
    _check_shapes(prediction, truth, only_where)
    if tolerance_mm is None:
        microscopy = max(spacing) < _MICROSCOPY_VOXEL_MM
        tolerance_mm = math.hypot(*spacing) if microscopy else TOLERANCE_MM
    if not 0 <= tolerance_mm < math.inf:
        raise InputError(f"the tolerance must be a number of mm of at least 0, not {tolerance_mm}.")
    present = {int(v) for mask in (prediction, truth) for plane in mask for v in np.unique(plane)} - {0}
    if table is None:
        if not present:
            raise InputError("neither mask holds anything but background, so there is nothing to compare.")
        table = ClassTable.from_values(sorted(present))
    strange = sorted(present - set(table.mask_values))
    if strange:
        raise InputError(f"the masks hold the values {strange}, which are not in the table of classes.")
    scores = tuple(
        _score_class(
            prediction == c.value, truth == c.value, spacing, only_where, tolerance_mm, c.value, c.name
        )
        for c in table.classes[1:]
    )
    compared = truth.size if only_where is None else int(np.count_nonzero(only_where))
    return Evaluation(scores, float(tolerance_mm), compared, only_where is not None)


def _check_shapes(prediction: NDArray[Any], truth: NDArray[Any], only_where: _Mask | None) -> None:
    if truth.ndim != 3:
        raise InputError(f"masks need three axes, not {truth.ndim}.")
    if prediction.shape != truth.shape:
        raise InputError(f"the prediction is {prediction.shape} voxels and the truth {truth.shape}.")
    if only_where is not None and only_where.shape != truth.shape:
        raise InputError(f"the voxels to compare are {only_where.shape} and the truth is {truth.shape}.")


def _score_class(
    predicted: _Mask,
    true: _Mask,
    spacing: tuple[float, float, float],
    only_where: _Mask | None,
    tolerance_mm: float,
    value: int,
    name: str,
) -> ClassScore:
    box = _joint_box(predicted | true)
    predicted, true = predicted[box], true[box]
    counted = slice(None) if only_where is None else only_where[box]
    dice, iou = _overlap(predicted[counted], true[counted])
    counts = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    hd95, surface_dice = _surface_scores(predicted, true, spacing, tolerance_mm)
    difference = counts[0] - counts[1]
    return ClassScore(
        value=value,
        name=name,
        presence=_presence(*counts),
        dice=dice,
        iou=iou,
        hd95_mm=hd95,
        surface_dice=surface_dice,
        volume_error_ml=difference * math.prod(spacing) / _MM3_PER_ML,
        volume_error_percent=100 * difference / counts[1] if counts[1] else math.nan,
        voxels_predicted=counts[0],
        voxels_true=counts[1],
    )


def _presence(predicted: int, true: int) -> Presence:
    if predicted and true:
        return "both"
    if predicted or true:
        return "spurious" if predicted else "missed"
    return "neither"


def _joint_box(mask: _Mask) -> tuple[slice, ...]:
    """Return the bounding box of `mask`; empty where the mask is."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
    return tuple(box)


def _overlap(predicted: _Mask, true: _Mask) -> tuple[float, float]:
    """Return Dice and IoU; NaN where neither mask has a voxel."""
    common = int(np.count_nonzero(predicted & true))
    together = int(np.count_nonzero(predicted)) + int(np.count_nonzero(true))
    if together == 0:
        return math.nan, math.nan
    return 2 * common / together, common / (together - common)


def _surface_scores(
    predicted: _Mask, true: _Mask, spacing: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice, by the rule for empty masks of `ClassScore`."""
    if not (predicted.any() and true.any()):
        return math.nan, 0.0 if predicted.any() or true.any() else math.nan
    # torch and MONAI take seconds to import.
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    masks = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (predicted, true)]
    options = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it passes to itself.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(*masks, percentile=_PERCENTILE, **options)
        surface_dice = compute_surface_dice(*masks, [tolerance_mm], use_subvoxels=True, **options)
    return float(hd95), float(surface_dice)


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _format_row(score: ClassScore) -> list[str]:
    numbers = (
        score.dice,
        score.iou,
        score.hd95_mm,
        score.surface_dice,
        score.volume_error_ml,
        score.volume_error_percent,
    )
    return _format_numbers(numbers, ("5.3f", "5.3f", ".2f", "5.3f", "+.2f", "+.1f"))


def _format_numbers(numbers: Sequence[float], formats: Sequence[str]) -> list[str]:
    pairs = zip(numbers, formats, strict=True)
    return ["–" if math.isnan(number) else format(number, how) for number, how in pairs]
