"""One image that is worked on: its shared arrays, its layers, and what is visible of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from napari import Viewer
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.label_change import LabelChange
from napari_sparseseg.requests import OpenImage
from napari_sparseseg.shared_array import SharedArray
from napari_sparseseg.widgets.annotation_watch import AnnotationWatch
from napari_sparseseg.widgets.image_source import ImageSource, with_values
from napari_sparseseg.widgets.layers import CaseLayers
from napari_sparseseg.widgets.placement import Placement, move_to_slice, slice_axis, turn_to
from napari_sparseseg.widgets.recording import APART, is_apart

Shared = tuple[SharedArray, SharedArray, SharedArray]
"""Image ``(C, Z, Y, X)`` float32, prediction and uncertainty ``(Z, Y, X)`` uint8."""


def share_source(read: Callable[[], ImageSource]) -> tuple[ImageSource, Shared]:
    """Read an image into memory that the worker sees too; may run in any thread.

    Raises
    ------
    InputError
        As `read` does, or if there is no room.
    """
    source = read()
    made: list[SharedArray] = []
    try:
        for shape, dtype in (
            (source.volume.data.shape, np.float32),
            (source.shape, np.uint8),
            (source.shape, np.uint8),
        ):
            made.append(SharedArray.create(shape, dtype))
        image, prediction, uncertainty = made
        np.copyto(image.array, source.volume.data)
    except BaseException:
        for array in made:
            array.close()
        raise
    return with_values(source, image.array), (image, prediction, uncertainty)


class OpenedCase:
    """An image with its layers in a viewer.

    Parameters
    ----------
    viewer
        Where it is shown.
    source, shared
        As `share_source` made them.
    table
        The classes.
    on_changed
        Called with voxels, values, how and source, as `AnnotationWatch.changed` is emitted.
    on_refused
        Called with a sentence, as `AnnotationWatch.refused` is emitted.
    """

    def __init__(
        self,
        viewer: Viewer,
        source: ImageSource,
        shared: Shared,
        table: ClassTable,
        on_changed: Callable[[NDArray[np.int64], NDArray[np.uint8], str, str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self._viewer = viewer
        self.source = source
        self._image, self._prediction, self._uncertainty = shared
        self._on_changed, self._on_refused = on_changed, on_refused
        self._show_layers(table)

    def close(self) -> None:
        """Take the layers out and let go of the memory."""
        self.watch.close()
        self.layers.close()
        for array in (self._image, self._prediction, self._uncertainty):
            array.close()

    def bring_back_layers(self, table: ClassTable) -> None:
        """Show the layers anew, where the user took some out of the viewer."""
        self.watch.close()
        self.layers.close()
        self._show_layers(table)

    def place(self, placement: Placement) -> None:
        """Lie elsewhere in the viewer, as the image does that was moved; the volume stays what it was."""
        self.source = replace(self.source, placement=placement)
        self.layers.place(placement)

    @property
    def prediction(self) -> NDArray[np.uint8]:
        """``(Z, Y, X)`` painted values, as the worker last wrote them."""
        array: NDArray[np.uint8] = self._prediction.array
        return array

    @property
    def uncertainty(self) -> NDArray[np.uint8]:
        """``(Z, Y, X)`` uncertainty, 0 to 255."""
        array: NDArray[np.uint8] = self._uncertainty.array
        return array

    def clear_picture(self) -> None:
        """Show no prediction any more."""
        if self.prediction.any():
            self.prediction[:] = 0
            self.uncertainty[:] = 0
            self.layers.picture_completed()

    def request(self, table: ClassTable, state_folder: str) -> OpenImage:
        """Return what opens this image in the worker."""
        return OpenImage(
            self._image.handle, self.source.volume.spacing, self._prediction.handle,
            self._uncertainty.handle, table, self.source.name, state_folder,
        )  # fmt: skip

    @property
    def axis(self) -> int | None:
        """Axis of ``(Z, Y, X)`` that the visible slice lies across; None in 3D display."""
        if self.source.placement.ndim == 2:
            return 0 if self._viewer.dims.ndisplay == 2 else None
        return slice_axis(self._viewer.dims, 3)

    def index(self, axis: int) -> int:
        """Return the index of the slice across `axis` that is, or would be, visible."""
        point = np.asarray(self._viewer.dims.point[-3:], float)
        if self.source.placement.ndim == 2 or len(point) < 3:  # the layers may be gone, when napari closes
            return 0
        place = round(self.source.placement.slice_at(point, axis))
        return min(max(place, 0), self.source.shape[axis] - 1)

    def voxel_at(self, position: Sequence[float]) -> tuple[int, int, int] | None:
        """Return the voxel ``(z, y, x)`` seen at a world position; None outside of the image."""
        place = self.layers.annotation.world_to_data(position)
        z, y, x = np.rint([*np.zeros(3 - len(place)), *place]).astype(int).tolist()
        inside = all(0 <= at < size for at, size in zip((z, y, x), self.source.shape, strict=True))
        return (z, y, x) if inside else None

    def go_to(self, axis: int, index: int) -> None:
        """Show slice `index` across `axis`."""
        if self.source.placement.ndim == 3:
            if self.axis != axis:
                turn_to(self._viewer.dims, 3, axis)
            move_to_slice(self._viewer.dims, self.source.placement, axis, index)

    def view_changed(self) -> None:
        """Take in which slice is visible now, so that strokes land in it."""
        self.layers.annotation.slice_axis = slice_axis(self._viewer.dims, self.source.placement.ndim)

    def slice_voxels(self) -> NDArray[np.int64]:
        """Return the flat indices of the visible slice, empty in 3D display."""
        axis = self.axis
        if axis is None:
            return np.zeros(0, np.int64)
        _, height, width = self.source.shape
        steps = (height * width, width, 1)
        rows, columns = (other for other in range(3) if other != axis)
        across = np.arange(self.source.shape[rows], dtype=np.int64) * steps[rows]
        along = np.arange(self.source.shape[columns], dtype=np.int64) * steps[columns]
        return (self.index(axis) * steps[axis] + across[:, None] + along).reshape(-1)

    def show_labels(self, labels: NDArray[np.uint8], sources: NDArray[np.uint8]) -> None:
        """Show the project's labels ``(Z, Y, X)``, each in the layer of its source."""
        voxels = np.flatnonzero((labels > 0) & ~is_apart(sources))
        self.watch.put(voxels, labels.reshape(-1)[voxels])
        self.show_apart(labels, sources)

    def show_apart(self, labels: NDArray[np.uint8], sources: NDArray[np.uint8]) -> None:
        """Show the labels of each source that has a layer of its own."""
        for source in APART:
            own = sources == source_code(source)
            self.layers.show_apart(source, np.where(own, labels, np.uint8(0)) if own.any() else None)

    def show_change(self, change: LabelChange) -> None:
        """Bring the annotation layer in line with a change that did not come from it."""
        shown = np.where(is_apart(change.sources), 0, change.values).astype(np.uint8)
        self.watch.put(change.voxels, shown)

    def _show_layers(self, table: ClassTable) -> None:
        self.layers = CaseLayers(self._viewer, self.source, self.prediction, self.uncertainty, table)
        self.watch = AnnotationWatch(self.layers.annotation)
        self.watch.changed.connect(self._on_changed)
        self.watch.refused.connect(self._on_refused)
        self.view_changed()
