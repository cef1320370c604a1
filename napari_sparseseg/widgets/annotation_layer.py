"""The Labels layer that is painted on: napari's, true to what is visible, and telling of undo."""

from collections.abc import Callable
from typing import Any

import napari.layers
import numpy as np
from napari.utils.events import Event
from numpy.typing import NDArray

from napari_sparseseg.widgets.placed_layer import PlacedLayer
from napari_sparseseg.widgets.placement import Placement


class Labels(PlacedLayer, napari.layers.Labels):
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
        super().__init__(data, **placement.transform(), **arguments)
        self.events.add(undone=Event, redone=Event)
        self.undo_elsewhere: Callable[[], bool] = lambda: False
        """Takes back the last change where napari's history does not know of it, and says whether it did."""
        self.redo_elsewhere: Callable[[], bool] = lambda: False
        """The same for what was undone last."""

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
