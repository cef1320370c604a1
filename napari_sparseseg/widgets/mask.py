"""From the prediction and the labels to what is saved and measured."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND, ClassTable, source_code
from napari_sparseseg.widgets.session import Region

_CERTAIN = ("stroke", "import", "accepted")


def merge_mask(
    prediction: NDArray[np.uint8],
    labels: NDArray[np.uint8] | None,
    sources: NDArray[np.uint8] | None,
    table: ClassTable,
) -> NDArray[np.uint8]:
    """Return the mask to save: the prediction, and where the user has labelled, the labels.

    Parameters
    ----------
    prediction
        ``(Z, Y, X)`` painted values.
    labels, sources
        ``(Z, Y, X)`` painted values and source codes; interpolated labels do not overrule the prediction.
    table
        The classes; what is not in it is background.

    Returns
    -------
    ``(Z, Y, X)`` values of the table, background written as 0.
    """
    written = np.zeros(256, np.uint8)
    written[list(table.mask_values)] = table.mask_values
    written[BACKGROUND] = 0
    mask: NDArray[np.uint8] = written[prediction]
    if labels is not None and sources is not None:
        certain = np.zeros(256, bool)
        certain[[source_code(name) for name in _CERTAIN]] = True
        own = certain[sources]
        mask[own] = written[labels[own]]
    return mask


def count_millilitres(
    prediction: NDArray[np.uint8], region: Region | None, table: ClassTable, voxel_ml: float
) -> dict[int, float]:
    """Return the volume of each class but background, in ml, by painted value; outside `region` is none."""
    box = tuple(slice(*edges) for edges in region) if region is not None else ()
    counts = np.zeros(256, np.int64)
    for plane in prediction[box]:
        counts += np.bincount(plane.reshape(-1), minlength=256)
    return {entry.value: float(counts[entry.value]) * voxel_ml for entry in table.classes[1:]}
