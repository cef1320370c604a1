"""Small pictures of volumes, for the list of a project's cases."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from napari_sparseseg.atomic import atomic_path
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume, load_volume

SIDE = 96
"""Pixels; a picture is at most as wide and as high."""

_AIR, _TISSUE_WINDOW = -500.0, (-160.0, 240.0)  # Hounsfield units


def write_picture(files: Sequence[str], spacing: tuple[float, float, float] | None, target: Path) -> None:
    """Read a volume, and keep a small picture of it; may run in any thread.

    Parameters
    ----------
    files
        As `volume.load_volume` takes them.
    spacing
        Voxel size in mm ``(Z, Y, X)``, for a file that holds none; None for 1 mm.
    target
        The PNG file.

    Raises
    ------
    InputError
        If the volume cannot be read, or the picture not be written.
    """
    volume = load_volume(files[0] if len(files) == 1 else files)
    content = draw_picture(volume, None if volume.grid.has_geometry else spacing)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target.parent} cannot be made ({error.strerror}).") from error
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def draw_picture(volume: Volume, spacing: tuple[float, float, float] | None = None) -> bytes:
    """Draw the axial slice in the middle of a volume's first channel; return a PNG file.

    CT is shown in an abdominal window, all else between percentiles; pixels are square, whatever the
    voxels are.
    """
    plane = volume.data[0, volume.shape[0] // 2]
    low, high = (float(value) for value in np.percentile(plane, (1, 99.5)))
    if low < _AIR and high > _TISSUE_WINDOW[0]:
        low, high = _TISSUE_WINDOW
    grey = np.clip((plane - low) / max(high - low, 1e-6 * max(1.0, abs(low))), 0, 1) * 255
    _, *sides = spacing or volume.spacing
    height, width = (size * side for size, side in zip(plane.shape, sides, strict=True))
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
