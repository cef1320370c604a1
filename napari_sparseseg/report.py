"""The picture that shows what was labelled, what came of it, and the truth."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import UNLABELLED, ClassTable
from napari_sparseseg.atomic import atomic_path
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#e8e8e8"
_GROUND = "#101014"
_FILL_OPACITY = 0.5
_BACKGROUND_OPACITY = 0.3
_DOTS_PER_INCH = 130
_COLUMN_INCHES = 2.75
_MARGIN_INCHES = 0.75
_ROW_HEIGHTS = (0.4, 2.0)
# What is shown around the foreground, as a share of its longest side.
_SURROUNDINGS = 0.12
# A slice counts as labelled when it holds at least this share of the most labelled slice's labels.
_LABELLED_SHARE = 0.5


@dataclass(frozen=True)
class _Plane:
    """How an orientation is displayed: which way up, and what its edges are called."""

    name: str
    origin: Literal["upper", "lower"]
    edges: str
    """Letters of the left, right, top and bottom edge."""


# Arrays run to superior, posterior and left; radiological display has the patient's left on the right.
_PLANES = (
    _Plane("axial", "upper", "RLAP"),
    _Plane("coronal", "lower", "RLSI"),
    _Plane("sagittal", "lower", "APSI"),
)


@dataclass(frozen=True)
class _View:
    """One panel: where it is drawn, the axis it looks along, and the index that cuts the slice out."""

    axes: "Axes"
    axis: int
    cut: tuple[slice | int, ...]


def draw_comparison(
    path: str | os.PathLike[str],
    volume: Volume,
    annotation: NDArray[np.integer[Any]],
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]] | None,
    table: ClassTable,
) -> None:
    """Draw three orthogonal views of the labels, the prediction and the truth to a PNG file.

    Each row is an orientation.  Its first column shows the most labelled slice with its labels; the
    others show one slice in which few voxels were labelled: as it is, with the prediction, and with the
    truth.  Display is radiological, with pixels in their true proportions.

    Parameters
    ----------
    path
        PNG file to write; it appears whole or not at all.
    volume
        Image; its first channel is shown.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes.
    prediction, truth
        Mask values ``(Z, Y, X)``, 0 background; without a truth its column is left out.
    table
        Names and colors.

    Raises
    ------
    InputError
        If the shapes differ or the file cannot be written.
    """
    # matplotlib takes a good part of a second to import.
    from matplotlib.figure import Figure

    shape = volume.data.shape[1:]
    for name, array in (("annotation", annotation), ("prediction", prediction), ("truth", truth)):
        if array is not None and array.shape != shape:
            raise InputError(f"the {name} is {array.shape} voxels and the volume {shape}.")
    box = _choose_box(annotation, prediction if truth is None else truth, volume.spacing)
    image = volume.data[0][box]
    annotation, prediction = annotation[box], prediction[box]
    layers: list[tuple[str, NDArray[np.int16] | None]] = [
        ("labels given", _channels_from_annotation(annotation)),
        ("unlabelled slice", None),
    ]
    layers.append(("prediction", _channels_from_mask(prediction, table)))
    if truth is not None:
        layers.append(("truth", _channels_from_mask(truth[box], table)))
    reference = prediction if truth is None else truth[box]
    z, y, x = np.multiply(image.shape, volume.spacing)
    heights = np.clip([y / x, z / x, z / y], *_ROW_HEIGHTS)
    size = (_COLUMN_INCHES * len(layers), _COLUMN_INCHES * heights.sum() + _MARGIN_INCHES)
    figure = Figure(figsize=size, facecolor=_GROUND)
    grid = figure.subplots(3, len(layers), height_ratios=heights, squeeze=False)
    window = _display_window(image)
    for axis in range(3):
        given, other = _choose_positions(annotation, reference, axis)
        for column, (title, channels) in enumerate(layers):
            index = other if column else given
            view = _View(grid[axis, column], axis, (slice(None),) * axis + (index,))
            _draw_image(view, image, volume.spacing, window)
            if channels is not None:
                _draw_classes(view, channels[view.cut], table, annotated=column == 0)
            if column < 2:
                _write_caption(view, index + box[axis].start)
            if axis == 0:
                view.axes.set_title(title, color=_INK, fontsize=11, pad=6)
    _draw_legend(figure, table)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH, format="png", facecolor=_GROUND)


def _channels_from_annotation(annotation: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
    """Return class channels; −1 where nothing is labelled."""
    return annotation.astype(np.int16) - 1


def _channels_from_mask(mask: NDArray[np.integer[Any]], table: ClassTable) -> NDArray[np.int16]:
    channels = np.zeros(mask.shape, np.int16)
    for channel, value in enumerate(table.mask_values):
        channels[mask == value] = channel
    return channels


def _choose_positions(
    annotation: NDArray[np.integer[Any]], reference: NDArray[np.integer[Any]], axis: int
) -> tuple[int, int]:
    """Return the most labelled slice, and one through much foreground away from labelled ones."""
    others = tuple(other for other in range(3) if other != axis)
    labels = np.count_nonzero(annotation != UNLABELLED, axis=others)
    # Foreground decides between slices that are labelled alike.
    foreground = np.count_nonzero(annotation > 1, axis=others) + 1e-3 * labels
    given = int(foreground.argmax())
    area = np.count_nonzero(reference > 0, axis=others).astype(float)
    labelled = np.flatnonzero(labels >= max(1, _LABELLED_SHARE * labels.max()))
    if not area.any() or not labelled.size:
        return given, int(area.argmax())
    distance = np.abs(np.arange(len(area))[:, None] - labelled).min(axis=1)
    wanted = max(1.0, 0.12 * np.count_nonzero(area))
    return given, int((area / area.max() * np.minimum(1, distance / wanted)).argmax())


def _choose_box(
    annotation: NDArray[np.integer[Any]], mask: NDArray[np.integer[Any]], spacing: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    """Return the region around all foreground; the whole where there is none."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero((annotation > 1).any(axis=others) | (mask > 0).any(axis=others))
        spans.append((used[0], used[-1] + 1) if used.size else (0, mask.shape[axis]))
    sides = [(stop - start) * side for (start, stop), side in zip(spans, spacing, strict=True)]
    margins = [max(2, round(_SURROUNDINGS * max(sides) / side)) for side in spacing]
    z, y, x = (
        slice(max(0, int(start) - margin), min(size, int(stop) + margin))
        for (start, stop), margin, size in zip(spans, margins, mask.shape, strict=True)
    )
    return z, y, x


def _display_window(image: NDArray[np.float32]) -> tuple[float, float]:
    sample = image[:: max(1, image.shape[0] // 64), ::2, ::2]
    low, high = np.percentile(sample, (1, 99.7))
    return float(low), float(max(high, low + 1e-6))


def _draw_image(
    view: _View, image: NDArray[np.float32], spacing: tuple[float, float, float], window: tuple[float, float]
) -> None:
    vertical, horizontal = (spacing[other] for other in range(3) if other != view.axis)
    plane = _PLANES[view.axis]
    view.axes.imshow(
        image[view.cut],
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin=plane.origin,
        aspect=vertical / horizontal,
        interpolation="bilinear",
    )
    view.axes.set_axis_off()
    edges = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.96), (0.5, 0.04))
    for letter, place in zip(plane.edges, edges, strict=True):
        _write(view, place, letter, ha="center", va="center")


def _draw_classes(view: _View, channels: NDArray[np.int16], table: ClassTable, *, annotated: bool) -> None:
    """Fill each class with its color and draw its contour; background is shown where it was labelled."""
    from matplotlib.colors import to_rgba

    fill = np.zeros((*channels.shape, 4), np.float32)
    rows, columns = (np.arange(-1, size + 1) for size in channels.shape)
    limits = view.axes.get_xlim(), view.axes.get_ylim()
    for channel, entry in enumerate(table.classes):
        where = channels == channel
        if where.any() and (channel or annotated):
            fill[where] = to_rgba(entry.color, _FILL_OPACITY if channel else _BACKGROUND_OPACITY)
            # The rim of zeros closes contours at the edge of the picture.
            view.axes.contour(
                columns, rows, np.pad(where, 1), levels=[0.5], colors=[entry.color], linewidths=0.8
            )
    view.axes.imshow(
        fill,
        interpolation="nearest",
        origin=_PLANES[view.axis].origin,
        aspect=view.axes.get_aspect(),
    )
    view.axes.set(xlim=limits[0], ylim=limits[1])


def _write_caption(view: _View, index: int) -> None:
    _write(
        view, (0.02, 0.02), f"{_PLANES[view.axis].name} {'zyx'[view.axis]} = {index}", ha="left", va="bottom"
    )


def _write(view: _View, place: tuple[float, float], text: str, **alignment: Any) -> None:
    view.axes.text(*place, text, transform=view.axes.transAxes, color=_INK, fontsize=7, **alignment)


def _draw_legend(figure: "Figure", table: ClassTable) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=entry.color, label=entry.name) for entry in table.classes]
    width, height = figure.get_size_inches()
    columns = max(1, min(len(patches), int(width / 1.6)))
    figure.legend(
        handles=patches, loc="lower center", ncols=columns, frameon=False, labelcolor=_INK, fontsize=9
    )
    legend_inches = 0.15 + 0.23 * -(-len(patches) // columns)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.35 / height, bottom=legend_inches / height, wspace=0.02, hspace=0.03
    )
