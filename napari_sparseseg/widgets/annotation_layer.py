"""The Labels layer that is painted on: napari's, true to what is visible, and telling of undo."""

from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
from napari.utils.events import Event
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.widgets.placement import Placement


class Labels(napari.layers.Labels):
    """A Labels layer that paints where the user points, on oblique images too, and reports undo and redo.

    Its name is that of its base, since napari finds icons, menus and writers by it.

    ``events.undone`` and ``events.redone`` are emitted after napari's history was replayed, which emits no
    ``events.paint``.

    Parameters
    ----------
    data
        ``(Y, X)`` or ``(Z, Y, X)`` painted values.
    placement
        Where the voxels lie.
    arguments
        As of `napari.layers.Labels`, without ``affine`` and ``scale``.
    """

    def __init__(self, data: NDArray[np.uint8], placement: Placement, **arguments: Any) -> None:
        self.placement = placement
        self.slice_axis: int | None = None
        """Axis across which the visible slice lies; None where there is none (2D layers, 3D display)."""
        super().__init__(data, **placement.transform(), **arguments)
        self.events.add(undone=Event, redone=Event)
        self.undo_elsewhere: Callable[[], bool] = lambda: False
        """Takes back the last change where napari's history does not know of it, and says whether it did."""
        self.redo_elsewhere: Callable[[], bool] = lambda: False
        """The same for what was undone last."""

    def world_to_data(self, position: ArrayLike) -> NDArray[np.float64]:
        """Return the voxel ``(N,)`` seen at a world position, which is where a stroke belongs."""
        place = np.asarray(position, float)
        if self.slice_axis is None or len(place) < self.ndim:
            voxel: NDArray[np.float64] = np.asarray(super().world_to_data(position))
            return voxel
        return self.placement.voxel_at(place[-self.ndim :], self.slice_axis)

    @property
    def is_painting(self) -> bool:
        """Whether the user is in the middle of a stroke."""
        return bool(self._block_history)

    def undo(self) -> None:
        """Take back the last change, of napari's history or outside it."""
        if not self.undo_elsewhere():
            super().undo()
            self.events.undone()

    def redo(self) -> None:
        """Make again what was undone last."""
        if not self.redo_elsewhere():
            super().redo()
            self.events.redone()
