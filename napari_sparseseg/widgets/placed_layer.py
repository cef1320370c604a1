"""What layers share in which the user points at voxels: napari's layers, true to what is visible."""

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.widgets.placement import Placement


class PlacedLayer:
    """Lets a layer find the voxel under the mouse as it is drawn, on oblique images too.

    To be named before napari's class as a base.

    Attributes
    ----------
    placement
        Where the voxels lie.
    slice_axis
        Axis across which the visible slice lies; None where there is none (2D layers, 3D display).
    """

    placement: Placement
    slice_axis: int | None = None

    def world_to_data(self, position: ArrayLike) -> NDArray[np.float64]:
        """Return the voxel ``(N,)`` seen at a world position, which is where a stroke or a point belongs."""
        place, base, size = np.asarray(position, float), cast(Any, super()), self.placement.ndim
        if self.slice_axis is None or len(place) < size:
            voxel: NDArray[np.float64] = np.asarray(base.world_to_data(position))
            return voxel
        return self.placement.voxel_at(place[-size:], self.slice_axis)
