"""Small pictures of masks, for lists of many cases."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_sparseseg.annotation import ClassTable

HEIGHT = 128
"""Pixels; a thumbnail is at most three times as wide, and 8 more."""

_GAP = 4
_FILL = 0.35
_ABDOMEN = (-160.0, 240.0)  # Hounsfield units
_AIR = -500.0
_SAMPLE = 48  # voxels along each axis that contrast is judged by
_LONGEST = 1.5  # times the body's width; of a longer scan only the surroundings are shown
_LEAST_COVERED = 0.4  # of a pixel, to take its class's color


def draw_thumbnail(
    image: NDArray[np.floating[Any]],
    channels: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    table: ClassTable,
) -> bytes:
    """Draw a mask over its image: the axial slice with most foreground, a coronal and a sagittal one.

    The display is radiological: the patient's right is on the left, superior is up, and in the sagittal
    slice anterior is on the left.  All three have the same scale.  CT is shown in an abdominal window, all
    else between percentiles.  The same arrays give the same bytes.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities; the first channel is shown.
    channels
        ``(Z, Y, X)`` class channels, 0 background.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    table
        Colors of the classes.

    Returns
    -------
    A PNG file.
    """
    low, high = _choose_window(image[0])
    cuts = _choose_planes(channels)
    z, y, x = (size * side for size, side in zip(channels.shape, spacing, strict=True))
    around = _cut_around(cuts[0], channels.shape[0], round(_LONGEST * max(y, x) / spacing[0]))
    z = (around.stop - around.start) * spacing[0]
    millimetres = max(y / HEIGHT, z / HEIGHT, (x + x + y) / (3 * HEIGHT - 3))
    panels = []
    for axis, sides in enumerate(((y, x), (z, x), (z, y))):
        rows, columns = (max(1, round(side / millimetres)) for side in sides)
        plane, classes = (np.asarray(array.take(cuts[axis], axis)) for array in (image[0], channels))
        if axis:
            plane, classes = plane[around][::-1], classes[around][::-1]
        grey = np.clip((np.nan_to_num(plane) - low) / (high - low), 0, 1) * 255
        panels.append(_paint(grey.astype(np.uint8), classes, (columns, rows), table))
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    picture = np.zeros((height, width, 3), np.uint8)
    left = 0
    for panel in panels:
        top = (height - panel.shape[0]) // 2
        picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP
    return _encode(Image.fromarray(picture), "PNG", compress_level=3)


def shrink_thumbnail(png: bytes) -> bytes:
    """Return a thumbnail as a JPEG file, a fraction of the size.

    Raises
    ------
    ValueError
        If it is damaged, or no thumbnail.
    """
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            if picture.height > HEIGHT or picture.width > 4 * HEIGHT:
                raise ValueError(f"a picture of {picture.size} is no thumbnail")
            return _encode(picture.convert("RGB"), "JPEG", quality=70, subsampling=0, optimize=True)
    # Pillow raises SyntaxError for a broken PNG file
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the thumbnail is damaged ({error})") from error


def _encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def _choose_window(image: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the intensities that are shown black and white."""
    steps = tuple(slice(None, None, -(-size // _SAMPLE)) for size in image.shape)
    sample = np.asarray(image[steps], np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, (1, 99.5)))
    if low < _AIR and high > _ABDOMEN[0]:
        return _ABDOMEN
    least = 1e-6 * max(1.0, abs(low))
    return (low, high) if high - low > least else (low - least, low + least)


def _choose_planes(channels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the axial plane with most foreground, and the planes that cut it where it has most."""
    areas = np.array([np.count_nonzero(plane != 0) for plane in channels])
    z = _middle_of_most(areas)
    foreground = channels[z] != 0
    return z, _middle_of_most(foreground.sum(axis=1)), _middle_of_most(foreground.sum(axis=0))


def _middle_of_most(counts: NDArray[np.integer[Any]]) -> int:
    most = np.flatnonzero(counts == counts.max())
    return int(most[len(most) // 2])


def _cut_around(index: int, size: int, most: int) -> slice:
    """Return at most `most` of `size` planes, around one of them where that is possible."""
    most = min(size, max(1, most))
    start = min(max(0, index - most // 2), size - most)
    return slice(start, start + most)


def _paint(
    grey: NDArray[np.uint8], classes: NDArray[np.uint8], size: tuple[int, int], table: ClassTable
) -> NDArray[np.uint8]:
    """Return one plane ``(rows, columns, 3)`` of `size` (columns, rows) with its classes over it."""
    smooth = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)
    picture = np.repeat(np.asarray(smooth)[..., None], 3, axis=2).astype(np.float32)
    for channel in np.unique(classes):
        if not 0 < channel < len(table):
            continue
        color = np.array(_to_rgb(table.classes[channel].color), np.float32)
        inside = _resize_mask(classes == channel, size)
        picture[inside] += _FILL * (color - picture[inside])
        picture[_outline(inside)] = color
    return picture.astype(np.uint8)


def _resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Scale a mask so that not even its smallest part is lost altogether."""
    covered = np.asarray(
        Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BOX)
    )
    return covered >= min(255 * _LEAST_COVERED, max(1, int(covered.max())))


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    around = np.pad(inside, 1)
    deep = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    edge: NDArray[np.bool_] = inside & ~deep
    return edge


def _to_rgb(color: str) -> tuple[int, int, int]:
    """Return a color as three numbers up to 255; grey for what is none, as files may hold anything."""
    digits = color.removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return 128, 128, 128
    return red, green, blue
