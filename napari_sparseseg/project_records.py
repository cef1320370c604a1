"""What a project keeps beside labels: its cases, training rounds, boxes, points and image-level labels.

Each record checks itself when it is made, so that neither a caller's mistake nor a damaged file gets
any further.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Self

from napari_sparseseg.errors import InputError

Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CaseRecord:
    """One volume of a project.

    Attributes
    ----------
    number
        Counted from 1; never used twice in a project.
    name
        Shown to the user.
    shape
        Voxels ``(Z, Y, X)``.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    affine
        4 × 4, rows of numbers: index ``(z, y, x)`` to patient mm ``(z, y, x)``, as `volume.Volume` has it.
    source
        File that the image came from; empty when the project holds the image itself.
    fingerprint
        What the image is known again by; may be empty.
    """

    number: int
    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: Affine
    source: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(not _is_whole(n) or n < 1 for n in self.shape):
            raise InputError(
                f"the image {self.name} must have three axes (Z, Y, X), not the shape {self.shape}."
            )
        if len(self.spacing) != 3 or not all(_is_finite(s) and s > 0 for s in self.spacing):
            raise InputError(f"the voxel size of {self.name} must be three positive mm, not {self.spacing}.")
        rows = [len(row) for row in self.affine]
        if rows != [4] * 4 or not all(_is_finite(number) for row in self.affine for number in row):
            raise InputError(f"the affine of {self.name} must be 4 × 4 finite numbers, not {self.affine}.")

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read the number and, as JSON, the other fields in their order.

        Raises
        ------
        TypeError, ValueError, OverflowError, RecursionError
            If they are something else.
        """
        number, *texts = row
        name, shape, spacing, affine, source, fingerprint = (json.loads(text) for text in texts)
        rows = tuple(tuple(line) for line in affine)
        return cls(int(number), str(name), tuple(shape), tuple(spacing), rows, str(source), str(fingerprint))


@dataclass(frozen=True)
class RoundRecord:
    """One round of training: its number, its case, when it began (seconds since 1970), and its figures."""

    number: int
    case: int
    time: float
    figures: dict[str, Any]


@dataclass(frozen=True)
class BoxRecord:
    """A bounding box of an object of one class.

    Attributes
    ----------
    number, case
        Which one, and of which case.
    value
        Painted value of the class.
    start, stop
        First voxel and the one after the last, ``(Z, Y, X)``.
    """

    number: int
    case: int
    value: int
    start: tuple[int, int, int]
    stop: tuple[int, int, int]


@dataclass(frozen=True)
class PointRecord:
    """A point inside an object of one class.

    Attributes
    ----------
    number, case
        Which one, and of which case.
    value
        Painted value of the class; 1 is background.
    voxel
        ``(Z, Y, X)``.
    """

    number: int
    case: int
    value: int
    voxel: tuple[int, int, int]


@dataclass(frozen=True)
class ImageLabelRecord:
    """Whether a class occurs in a volume, or in a range of its slices.

    Attributes
    ----------
    number, case
        Which one, and of which case.
    value
        Painted value of the class.
    present
        Whether it occurs there.
    axis, first, last
        Slices across `axis` from `first` to `last`, both included; all None for the whole volume.
    """

    number: int
    case: int
    value: int
    present: bool
    axis: int | None = None
    first: int | None = None
    last: int | None = None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
