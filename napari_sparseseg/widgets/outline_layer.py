"""The Labels layer that shows labels as outlines: napari's, without its warning in 3D."""

from typing import Any

import napari.layers
import numpy as np
from numpy.typing import NDArray


class Labels(napari.layers.Labels):
    """A Labels layer that is drawn as outlines where a slice is visible, and as it is in 3D.

    Its name is that of its base, since napari finds icons, menus and writers by it.

    Parameters
    ----------
    data
        ``(Y, X)`` or ``(Z, Y, X)`` painted values.
    arguments
        As of `napari.layers.Labels`.
    """

    def __init__(self, data: NDArray[np.uint8], **arguments: Any) -> None:
        super().__init__(data, **arguments)
        self.contour = 1

    def _calculate_contour(self, labels: NDArray[Any], data_slice: tuple[slice, ...]) -> Any:
        # napari slices its layers before anyone is told of 3D, and would warn.
        return None if labels.ndim > 2 else super()._calculate_contour(labels, data_slice)
