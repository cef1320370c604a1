"""Labels as a request to the worker process carries them."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError


def make_annotation(
    shape: tuple[int, ...], table: ClassTable, voxels: NDArray[np.int64], values: NDArray[np.uint8]
) -> NDArray[np.uint8] | None:
    """Return painted values as an annotation ``(Z, Y, X)``; None where there are none.

    Parameters
    ----------
    shape
        Of the volume.
    table
        The classes; painted values that it lacks count as unlabelled.
    voxels, values
        ``(N,)`` flat indices and painted values.

    Raises
    ------
    InputError
        If a voxel lies outside the volume.
    """
    if not len(voxels):
        return None
    annotation = np.zeros(shape, np.uint8)
    if not 0 <= voxels.min() <= voxels.max() < annotation.size:
        raise InputError("a label lies outside the volume; choose the image again.")
    annotation.reshape(-1)[voxels] = table.painted_rows()[values]
    return annotation
