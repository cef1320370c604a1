"""The layers of what a pretext task sees: one image per picture, beside the image in work."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from napari import Viewer
from napari.layers import Image, Layer
from numpy.typing import NDArray
from psygnal import Signal

from napari_sparseseg.events import PretextPictured
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.layers import OWN_KEY, add_beneath
from napari_sparseseg.widgets.picture_grid import lay_beside
from napari_sparseseg.widgets.placement import Placement, find_camera, slice_axis

_TITLE = "Pre-training: "
_ALIKE = ("input", "target", "prediction")
_PERCENTILES = (0.5, 99.5)
_RICH = 0.6  # share of what the richest slice shows

Limits = tuple[float, float]


@dataclass(frozen=True)
class _View:
    """How close the viewer looks where, and in which order its axes are."""

    zoom: float
    center: tuple[float, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, viewer: Viewer) -> Self:
        camera = find_camera(viewer)
        return cls(float(camera.zoom), tuple(map(float, camera.center)), tuple(viewer.dims.order))

    def is_like(self, other: Self) -> bool:
        same = np.allclose([self.zoom, *self.center], [other.zoom, *other.center])
        return same and self.order == other.order


class PretextLayers:
    """Shows what a task sees to the right of an image, turned as that is, and takes it out again.

    Parameters
    ----------
    viewer
        Where.
    source
        The image.
    top
        The layer below which these lie in the list.
    """

    removed = Signal()
    """The user has taken a picture out of the viewer."""

    def __init__(self, viewer: Viewer, source: ImageSource, top: Layer) -> None:
        self._viewer, self._top = viewer, top
        self._placement, self._shape = source.placement, source.shape
        self._layers: dict[str, Image] = {}
        self._places: list[Placement] = []
        self._limits: dict[str, Limits] = {}
        self._spacing: tuple[float, ...] = ()
        self._middle: tuple[int, ...] = ()
        self._axis: int | None = None
        self._views: tuple[_View, _View] | None = None  # before there were pictures, and made to show them
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Take the pictures out of the viewer, and listen to it no longer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._views = None
        self.clear()

    @property
    def names(self) -> tuple[str, ...]:
        """What is pictured."""
        return tuple(self._layers)

    def clear(self) -> None:
        """Take the pictures out of the viewer."""
        layers, self._layers = list(self._layers.values()), {}
        with self._keeping_place():
            for layer in layers:
                if layer in self._viewer.layers:
                    self._viewer.layers.remove(layer)
        self._look_back()

    def show(self, pictured: PretextPictured) -> None:
        """Show pictures in place of the last ones; what is visible and active stays so."""
        images = pictured.images
        if self._placement.ndim == 2:
            images = images[:, images.shape[1] // 2]
        spacing = pictured.spacing[-self._placement.ndim :]
        before = {name: layer.data.shape for name, layer in self._layers.items()}
        fits = before == dict.fromkeys(pictured.names, images.shape[1:]) and spacing == self._spacing
        if before and not fits:
            self.clear()
        self._spacing, self._middle = spacing, find_middle(images)
        limits = find_limits(pictured.names, images)
        named = dict(zip(pictured.names, images, strict=True))
        with self._keeping_place():
            if fits:
                for name, image in named.items():
                    self._renew(name, image, limits[name])
                if not self._is_visible():
                    self._arrange()
            else:
                self._make(named, limits)
                self._look_at_all()

    def place(self, placement: Placement) -> None:
        """Lie beside the image again where it was moved, or other slices of it are shown."""
        axis = slice_axis(self._viewer.dims, placement.ndim)
        turned = axis is not None and axis != self._axis
        if not turned and placement is self._placement:
            return
        self._placement = placement
        if self._layers:
            with self._keeping_place():
                self._arrange()
                if turned:  # napari has just fitted the view to where they were
                    self._look_at_all()

    @contextmanager
    def _keeping_place(self) -> Iterator[None]:
        """Let the view show the same slices afterwards: napari's sliders move when their range changes."""
        dims = self._viewer.dims
        before = dims.point
        yield
        if dims.point != before and dims.ndim == len(before):
            dims.point = before

    def _make(self, images: Mapping[str, NDArray[np.float32]], limits: Mapping[str, Limits]) -> None:
        self._places = self._find_places([image.shape for image in images.values()])
        for (name, image), place in zip(images.items(), self._places, strict=True):
            self._layers[name] = Image(
                image, name=f"{_TITLE}{name}", colormap="gray", contrast_limits=limits[name],
                blending="translucent_no_depth", metadata={OWN_KEY: "pretext"}, **place.transform(),
            )  # fmt: skip
        self._limits = dict(limits)
        for layer in reversed(list(self._layers.values())):
            add_beneath(self._viewer, layer, self._top)

    def _renew(self, name: str, image: NDArray[np.float32], limits: Limits) -> None:
        layer = self._layers[name]
        layer.data = image
        if np.allclose(layer.contrast_limits, self._limits[name]):  # the user's own stay
            layer.contrast_limits = limits
        self._limits[name] = limits

    def _arrange(self) -> None:
        self._places = self._find_places([layer.data.shape for layer in self._layers.values()])
        for layer, place in zip(self._layers.values(), self._places, strict=True):
            for name, value in place.transform().items():
                setattr(layer, name, value)

    def _find_places(self, shapes: Sequence[tuple[int, ...]]) -> list[Placement]:
        """Return where pictures of these shapes lie in the view as it is."""
        dims, count = self._viewer.dims, self._placement.ndim
        self._axis = slice_axis(dims, count)
        shown = (count - 2, count - 1)
        if dims.ndisplay == 2:
            rows, columns = (axis - (dims.ndim - count) for axis in dims.order[-2:])
            if min(rows, columns) >= 0:
                shown = (rows, columns)
        return lay_beside(
            self._placement, self._shape, [(shape, self._spacing) for shape in shapes], shown,
            np.asarray(dims.point[-count:], float), self._middle,
            upright=find_camera(self._viewer).orientation2d[0] == "up",
        )  # fmt: skip

    def _is_visible(self) -> bool:
        """Tell whether the visible slice meets all pictures, as they were arranged."""
        axis = slice_axis(self._viewer.dims, self._placement.ndim)
        if axis is None or self._placement.ndim == 2:
            return True
        point = np.asarray(self._viewer.dims.point[-3:], float)
        layers = self._layers.values()
        return axis == self._axis and all(
            -0.5 <= place.slice_at(point, axis) < layer.data.shape[axis] - 0.5
            for layer, place in zip(layers, self._places, strict=True)
        )

    # -- the camera --

    def _look_at_all(self) -> None:
        """Let the view show image and pictures."""
        if self._viewer.dims.ndisplay == 2:
            before = self._views[0] if self._views else _View.of(self._viewer)
            self._viewer.reset_view()
            self._views = before, _View.of(self._viewer)

    def _look_back(self) -> None:
        """Let the view be as it was before there were pictures, unless the user has changed it since."""
        if self._views is None:
            return
        (before, ours), self._views = self._views, None
        if not _View.of(self._viewer).is_like(ours):
            return
        if before.order != ours.order:
            self._viewer.reset_view()
            return
        camera = find_camera(self._viewer)
        camera.zoom, camera.center = before.zoom, before.center

    def _on_removed(self, event: Any) -> None:
        layer = getattr(event, "value", None)
        gone = [name for name, own in self._layers.items() if own == layer]
        for name in gone:
            self._places.pop(list(self._layers).index(name))
            del self._layers[name]
        if gone:
            self.removed.emit()


def find_limits(names: Sequence[str], images: NDArray[np.float32]) -> Mapping[str, Limits]:
    """Return between which values each picture is shown: input, target and prediction between the same.

    Parameters
    ----------
    names
        Of the pictures.
    images
        ``(N, …)``: the pictures.
    """
    alike = [image for name, image in zip(names, images, strict=True) if name in _ALIKE[:2]]
    shared = _range_of(np.stack(alike)) if alike else None
    return {
        name: shared if shared is not None and name in _ALIKE else _range_of(image)
        for name, image in zip(names, images, strict=True)
    }


def find_middle(images: NDArray[np.float32]) -> tuple[int, ...]:
    """Return along each axis of pictures ``(N, …)`` the slice nearest to the middle that shows much.

    The very middle may show nothing: a gap between tiles, or air.
    """
    axes = range(1, images.ndim)
    middle = []
    for axis in axes:
        others = [other for other in axes if other != axis]
        shown = np.sum([np.abs(np.diff(images, axis=other)).sum((0, *others)) for other in others], axis=0)
        rich = np.flatnonzero(shown >= _RICH * shown.max())
        middle.append(int(rich[np.abs(rich - len(shown) // 2).argmin()]))
    return tuple(middle)


def _range_of(image: NDArray[np.float32]) -> Limits:
    low, high = (float(value) for value in np.percentile(image, _PERCENTILES))
    return (low, high) if low < high else (low - 1, low + 1)
