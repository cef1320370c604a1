"""One change of labels: what a stroke, an accepted slice or an erasure did to which voxels.

Values are *painted values* everywhere: 0 unlabelled or erased, 1 background, 2 to 255 the
`LabelClass.value` of a class.  Where a label comes from is a *source code*: 0 for none (unlabelled),
else as `annotation.source_code` says.  Projects hold these codes, so sources are only ever appended.

On disk the arrays of a change are little-endian and compressed by zlib; the voxels are kept as
differences, since neighbours in a stroke are neighbours in memory too.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.annotation import SOURCE_WEIGHTS, SOURCES, UNLABELLED, source_code
from napari_sparseseg.errors import InputError

NO_SOURCE = 0
LARGEST_VALUE = 255


@dataclass(frozen=True, eq=False)
class LabelChange:
    """Voxels of one case whose label or its source changed, and how.

    Attributes
    ----------
    number
        Counted through the whole project from 1; never used twice.
    case
        Number of the case.
    source
        Key of `annotation.SOURCE_WEIGHTS`.
    voxels
        ``(N,)`` flat indices into the case's ``(Z, Y, X)`` labels, ascending, none twice, N ≥ 1.
    before, after
        ``(N,)`` painted values before and after the change.
    before_sources
        ``(N,)`` source codes before the change.
    time
        When it was made, in seconds since 1970.
    undone
        Whether it was taken back: the voxels then hold `before`.
    """

    number: int
    case: int
    source: str
    voxels: NDArray[np.int64]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    before_sources: NDArray[np.uint8]
    time: float
    undone: bool

    @property
    def values(self) -> NDArray[np.uint8]:
        """``(N,)`` painted values that the voxels hold now."""
        return self.before if self.undone else self.after

    @property
    def sources(self) -> NDArray[np.uint8]:
        """``(N,)`` source codes that the voxels have now."""
        return self.before_sources if self.undone else source_codes(self.after, self.source)

    def by_source(self) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield source, voxels and values as they are now, as `requests.Paint` takes them.

        Taking back a change may bring back labels of several sources.  Voxels that are unlabelled now
        come as strokes of value 0.
        """
        sources, values = self.sources, self.values
        for code in np.unique(sources):
            members = sources == code
            name = "stroke" if code == NO_SOURCE else SOURCES[code - 1]
            yield name, self.voxels[members], values[members]


def check_source(source: str) -> None:
    """Raise `InputError` for a name that is not a source."""
    if source not in SOURCES:
        raise InputError(f"the label source {source!r} is not known; use one of {', '.join(SOURCES)}.")


def source_codes(values: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    """Return the source codes ``(N,)`` of painted `values` ``(N,)`` that all come from `source`."""
    return np.where(values == UNLABELLED, NO_SOURCE, source_code(source)).astype(np.uint8)


def source_ranks() -> NDArray[np.float64]:
    """Return the strength of each source code: no source lowest, a user's own stroke above all others."""
    ranks = [-1.0, *SOURCE_WEIGHTS.values()]
    ranks[source_code("stroke")] = np.inf
    return np.array(ranks)


def order_voxels(
    voxels: ArrayLike, values: ArrayLike, voxel_count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Check and sort what is to be painted; of a voxel that is given twice the last value counts.

    Parameters
    ----------
    voxels
        ``(N,)`` flat indices into a volume of `voxel_count` voxels, in any order.
    values
        ``(N,)`` painted values 0 to 255, or one for all.

    Returns
    -------
    Indices in ascending order and their values.

    Raises
    ------
    InputError
        If indices are outside the volume, or values outside 0 to 255.
    """
    given, painted = np.asarray(voxels).reshape(-1), np.asarray(values)
    if given.size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= voxel_count:
        raise InputError(f"voxels must be whole numbers from 0 to {voxel_count - 1}, as the image is large.")
    if painted.dtype.kind not in "iu" or painted.size not in (1, given.size):
        raise InputError(
            f"there must be one whole label value per voxel, not {painted.size} of {given.size}."
        )
    if painted.min() < 0 or painted.max() > LARGEST_VALUE:
        raise InputError(f"label values must be between 0 and {LARGEST_VALUE}; choose a class of the table.")
    indices = given.astype(np.int64)
    labels = np.broadcast_to(painted.reshape(-1), indices.shape).astype(np.uint8)
    if (indices[1:] > indices[:-1]).all():
        return indices, labels
    order = np.argsort(indices, kind="stable")
    indices, labels = indices[order], labels[order]
    last = np.append(indices[1:] != indices[:-1], True)
    return indices[last], labels[last]


def pack_voxels(voxels: NDArray[np.int64], voxel_count: int) -> bytes:
    """Compress ascending flat indices ``(N,)`` into a volume of `voxel_count` voxels."""
    steps = np.diff(voxels, prepend=0)
    return zlib.compress(steps.astype(_step_type(voxel_count)).tobytes(), level=1)


def unpack_voxels(packed: Any, count: Any, voxel_count: int) -> NDArray[np.int64]:
    """Return what `pack_voxels` compressed; raise ValueError for anything but `count` proper indices."""
    if not isinstance(count, int) or not 1 <= count <= voxel_count:
        raise ValueError(f"{count!r} voxels")
    steps = _inflate(packed, _step_type(voxel_count), count)
    if (steps[1:] < 1).any() or steps.sum(dtype=np.float64) >= voxel_count:
        raise ValueError("voxels out of order")
    voxels: NDArray[np.int64] = np.cumsum(steps, dtype=np.int64)
    return voxels


def pack_bytes(values: NDArray[np.uint8]) -> bytes:
    """Compress ``(N,)`` values."""
    return zlib.compress(values.tobytes(), level=1)


def unpack_bytes(packed: Any, count: int, largest: int = LARGEST_VALUE) -> NDArray[np.uint8]:
    """Return what `pack_bytes` compressed; raise ValueError for anything but `count` values ≤ `largest`."""
    values = _inflate(packed, "u1", count)
    if values.max() > largest:
        raise ValueError(f"value {values.max()}")
    return values


def _step_type(voxel_count: int) -> str:
    return "<u4" if voxel_count <= 2**32 else "<u8"


def _inflate(packed: Any, dtype: str, count: int) -> NDArray[Any]:
    if not isinstance(packed, bytes):
        raise ValueError("no bytes")
    expected = count * np.dtype(dtype).itemsize
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed, expected + 1)  # never more, whatever a damaged file says
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(raw) != expected or not inflater.eof:
        raise ValueError(f"{len(raw)} bytes, not {expected}")
    return np.frombuffer(raw, dtype)
