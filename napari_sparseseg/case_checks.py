"""Whether a mask can be right: what is measured of it, and what stands out beside the training cases."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import ClassTable

SURELY_BACKGROUND = 0.05
"""Background that is less uncertain than this is left out of a case's mean uncertainty."""

_SLAB = 16  # planes that are turned to float32 at once
_COARSE = 128  # voxels along each axis in which pieces are counted
_PIECE_SHARE = 0.05  # of a class; smaller pieces do not count
_LEAST_VOXELS = 64  # of a class, to say anything about its form
_LEAST_PLANES = 4  # along an axis, to say that something is cut off there
_CUT = 0.5  # an end this large, as a share of the largest cross section, looks cut off
_RARELY_CUT = 0.25
_FEW = 5  # training cases, by which little is known of others
_LEAST_RISE = 0.05  # of the uncertainty
_COARSENING = 2.5  # voxels larger or smaller than any of the training by this factor
_FACES = (("lower", "upper"), ("front", "rear"), ("right", "left"))


@dataclass(frozen=True)
class CaseMeasures:
    """What was measured of a mask.

    Attributes
    ----------
    volumes_ml
        Millilitres by the class's name, background left out.
    uncertainty
        Mean uncertainty, 0 to 1, over the voxels that are not surely background: those of a class, and
        those more uncertain than `SURELY_BACKGROUND`.  0 where there are none.
    warnings
        Why somebody should look at it, in sentences.
    pieces
        Connected pieces of each class that is there, of at least a twentieth of it each.  Not told, like
        `cut`, of a class of a few voxels.
    cut
        Of each class that is there, how far it looks cut off by the volume's border, 0 to 1: the largest of
        the areas in the six outermost planes, as a share of its largest cross section along that axis.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    """

    volumes_ml: dict[str, float]
    uncertainty: float
    warnings: tuple[str, ...] = ()
    pieces: dict[str, int] = field(default_factory=dict)
    cut: dict[str, float] = field(default_factory=dict)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


def measure_case(
    channels: NDArray[np.uint8],
    uncertainty: NDArray[np.floating[Any]] | None,
    spacing: tuple[float, float, float],
    table: ClassTable,
    typical: Any = None,
) -> CaseMeasures:
    """Measure a mask, and say what stands out beside the training cases.

    Parameters
    ----------
    channels
        ``(Z, Y, X)`` class channels, 0 background.
    uncertainty
        ``(Z, Y, X)``, 0 to 1; None where it is not known.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    table
        Names of the classes.
    typical
        What `describe_typical` made, as `Model.summary` holds it under "typical".  Whatever in it is missing
        or damaged is not checked; without it only an empty mask is told.
    """
    volumes, pieces, cut, faces = {}, {}, {}, {}
    boxes = ndimage.find_objects(channels, max_label=len(table) - 1)
    voxel_ml = math.prod(spacing) / 1000
    for channel, name in enumerate(class_names(table), start=1):
        box = boxes[channel - 1]
        volumes[name] = 0.0
        if box is None:
            continue
        inside = channels[box] == channel
        count = int(np.count_nonzero(inside))
        volumes[name] = count * voxel_ml
        pieces[name] = _count_pieces(inside) if count >= _LEAST_VOXELS else 1
        cut[name], faces[name] = (
            _find_cut(inside, box, channels.shape) if count >= _LEAST_VOXELS else (0.0, "")
        )
    mean = 0.0 if uncertainty is None else _mean_uncertainty(channels, uncertainty)
    measures = CaseMeasures(volumes, mean, (), pieces, cut, spacing)
    warnings = tuple(_find_oddities(measures, faces, _Typical.read(typical)))
    return CaseMeasures(volumes, mean, warnings, pieces, cut, spacing)


def describe_typical(measured: Sequence[CaseMeasures]) -> dict[str, Any]:
    """Return what the training cases have in common, as plain JSON.

    Returns
    -------
    dict
        ``cases``: their number; ``uncertainty``: the least and the largest; ``spacing``: the least and the
        largest voxel size in mm ``[Z, Y, X]``; ``classes``: by name, in how many cases it is there, and where
        it is the least and largest volume (``ml``), the largest number of pieces, and how far it looked cut
        off at most.  Empty without cases.
    """
    if not measured:
        return {}
    classes = {}
    for name in dict.fromkeys(name for case in measured for name in case.volumes_ml):
        there = [case for case in measured if case.volumes_ml.get(name, 0.0) > 0]
        classes[name] = entry = dict[str, Any](cases=len(there))
        if there:
            volumes = [case.volumes_ml[name] for case in there]
            entry |= {
                "ml": [min(volumes), max(volumes)],
                "pieces": max(case.pieces.get(name, 1) for case in there),
                "cut": max(case.cut.get(name, 0.0) for case in there),
            }
    sides = list(zip(*(case.spacing for case in measured), strict=True))
    uncertainties = [case.uncertainty for case in measured]
    return {
        "cases": len(measured),
        "uncertainty": [min(uncertainties), max(uncertainties)],
        "spacing": [[min(side) for side in sides], [max(side) for side in sides]],
        "classes": classes,
    }


def typical_volumes(typical: Any) -> dict[str, tuple[float, float]]:
    """Return the least and largest millilitres of each class in the training, as far as they are known.

    Parameters
    ----------
    typical
        As `measure_case` takes it.
    """
    known = _Typical.read(typical).classes
    return {name: entry.ml for name, entry in known.items() if entry.ml is not None}


def class_names(table: ClassTable) -> tuple[str, ...]:
    """Return the names of the classes without background; those that are there twice get their value, too."""
    times = Counter(table.names[1:])
    return tuple(
        entry.name if times[entry.name] == 1 else f"{entry.name} ({entry.value})"
        for entry in table.classes[1:]
    )


@dataclass(frozen=True)
class _TypicalClass:
    """What the training cases have in common in one class; None and 0 where that is not known."""

    cases: int = 0
    ml: tuple[float, float] | None = None
    pieces: int = 0
    cut: float | None = None


@dataclass(frozen=True)
class _Typical:
    """What `describe_typical` wrote, as far as it can be read."""

    cases: int = 0
    uncertainty: tuple[float, float] | None = None
    spacing: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    classes: Mapping[str, _TypicalClass] = field(default_factory=dict)

    @classmethod
    def read(cls, plain: Any) -> "_Typical":
        """Read any JSON; what is missing or damaged is left out."""
        entries = plain if isinstance(plain, dict) else {}
        classes = entries.get("classes")
        spacing = entries.get("spacing")
        edges = [_read_triple(edge) for edge in spacing] if isinstance(spacing, list) else []
        low, high = edges if len(edges) == 2 else (None, None)
        return cls(
            cases=_read_count(entries.get("cases")),
            uncertainty=_read_range(entries.get("uncertainty")),
            spacing=(low, high) if low and high and min(*low, *high) > 0 else None,
            classes={
                name: _TypicalClass(
                    cases=_read_count(entry.get("cases")),
                    ml=_read_range(entry.get("ml")),
                    pieces=_read_count(entry.get("pieces")),
                    cut=_read_number(entry.get("cut")),
                )
                for name, entry in (classes.items() if isinstance(classes, dict) else ())
                if isinstance(entry, dict)
            },
        )


def _read_number(plain: Any) -> float | None:
    """Return a finite number that is not negative; None for anything else."""
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return None
    return float(plain) if 0 <= plain <= 1e12 else None


def _read_count(plain: Any) -> int:
    number = _read_number(plain)
    return 0 if number is None else int(number)


def _read_range(plain: Any) -> tuple[float, float] | None:
    numbers = [_read_number(number) for number in plain] if isinstance(plain, list) else []
    low, high = numbers if len(numbers) == 2 else (None, None)
    return None if low is None or high is None or low > high else (low, high)


def _read_triple(plain: Any) -> tuple[float, float, float] | None:
    numbers = [_read_number(number) for number in plain] if isinstance(plain, list) else []
    z, y, x = numbers if len(numbers) == 3 else (None, None, None)
    return None if z is None or y is None or x is None else (z, y, x)


def _mean_uncertainty(channels: NDArray[np.uint8], uncertainty: NDArray[np.floating[Any]]) -> float:
    total, count = 0.0, 0
    for start in range(0, len(channels), _SLAB):
        planes = slice(start, start + _SLAB)
        values = np.nan_to_num(uncertainty[planes].astype(np.float32), nan=1.0)
        asked = (values > SURELY_BACKGROUND) | (channels[planes] > 0)
        total += float(values[asked].sum(dtype=np.float64))
        count += int(np.count_nonzero(asked))
    return min(1.0, total / count) if count else 0.0


def _count_pieces(inside: NDArray[np.bool_]) -> int:
    """Count the connected pieces that matter, on a coarser grid where the mask is large.

    A coarse voxel is inside where any of its voxels is, so that nothing falls apart by it.
    """
    for axis, size in enumerate(inside.shape):
        step = -(-size // _COARSE)
        if step > 1:
            inside = np.logical_or.reduceat(inside, np.arange(0, size, step), axis=axis)
    parts, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.reshape(-1))[1:]
    return max(1, int(np.count_nonzero(sizes >= _PIECE_SHARE * sizes.sum())))


def _find_cut(inside: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[float, str]:
    """Return how far a class looks cut off, 0 to 1, and at which plane of the volume."""
    worst, where = 0.0, ""
    for axis in range(3):
        touches = (box[axis].start == 0, box[axis].stop == shape[axis])
        if shape[axis] < _LEAST_PLANES or not any(touches):
            continue
        others = tuple(other for other in range(3) if other != axis)
        areas = np.count_nonzero(inside, axis=others)
        for touched, area, face in zip(touches, (areas[0], areas[-1]), _FACES[axis], strict=True):
            share = float(area / areas.max())
            if touched and share > worst:
                worst, where = share, face
    return worst, where


def _find_oddities(case: CaseMeasures, faces: Mapping[str, str], typical: _Typical) -> Iterator[str]:
    """Yield a sentence for each thing that stands out."""
    something = any(case.volumes_ml.values())
    if not something:
        yield "the mask is empty: nothing was found in this volume."
    for name, ml in case.volumes_ml.items():
        usual = typical.classes.get(name, _TypicalClass())
        if ml:
            yield from _find_class_oddities(case, name, faces.get(name, ""), usual, typical)
        elif something and 0 < typical.cases <= usual.cases:
            every = _cases(1) if typical.cases == 1 else f"all {typical.cases} training cases"
            yield f"{name} is missing; {every} had it{f' ({_span(usual.ml)} ml)' if usual.ml else ''}."
    yield from _find_general_oddities(case, typical)


def _find_class_oddities(
    case: CaseMeasures, name: str, face: str, usual: _TypicalClass, typical: _Typical
) -> Iterator[str]:
    ml, margin = case.volumes_ml[name], _margin(usual.cases)
    training = _cases(usual.cases) + (" with it" if usual.cases < typical.cases else "")
    if usual.ml and not usual.ml[0] / margin <= ml <= usual.ml[1] * margin:
        size = "small" if ml < usual.ml[0] else "large"
        yield f"{name} is unusually {size}: {_figure(ml)} ml; {training} had {_span(usual.ml)} ml."
    pieces = case.pieces.get(name, 1)
    if usual.pieces > 0 and pieces > usual.pieces + (usual.cases < _FEW):
        most = "one" if usual.pieces == 1 else f"at most {usual.pieces}"
        yield f"{name} lies in {pieces} separate pieces; {training} had {most}."
    if usual.cut is not None and case.cut.get(name, 0.0) >= _CUT and usual.cut < _RARELY_CUT:
        far = "did not reach the edge" if usual.cut == 0 else f"had at most {usual.cut:.0%}"
        area = f"its area there is {case.cut[name]:.0%} of its largest"
        yield f"{name} looks cut off by the {face} edge of the volume: {area}; {training} {far}."


def _find_general_oddities(case: CaseMeasures, typical: _Typical) -> Iterator[str]:
    training, margin = _cases(typical.cases), _margin(typical.cases)
    if typical.uncertainty:
        highest = typical.uncertainty[1]
        if case.uncertainty > max(highest * margin, highest + _LEAST_RISE):
            yield (
                f"the network is unsure: its mean uncertainty is {case.uncertainty:.2f}; "
                f"{training} had at most {highest:.2f}."
            )
    if typical.spacing:
        low, high = typical.spacing
        sides = zip(case.spacing, low, high, strict=True)
        if any(not least / _COARSENING <= side <= most * _COARSENING for side, least, most in sides):
            usual = " × ".join(_span(edges) for edges in zip(low, high, strict=True))
            here = " × ".join(_figure(side) for side in case.spacing)
            yield f"voxels of {here} mm (z × y × x) are far from those of the training, {usual} mm."


def _margin(cases: int) -> float:
    """Return the factor by which a figure may leave the training's range: few cases do not show all."""
    return 3.0 if cases < 2 else 2.0 if cases < _FEW else 1.5 if cases < 10 else 1.3


def _cases(number: int) -> str:
    return "the training case" if number == 1 else f"the {number} training cases"


def _span(edges: tuple[float, float]) -> str:
    low, high = (_figure(edge) for edge in edges)
    return low if low == high else f"{low}–{high}"


def _figure(number: float) -> str:
    """Return three digits of a number, as people write it."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
