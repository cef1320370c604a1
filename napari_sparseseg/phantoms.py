"""Generated objects whose surfaces are known: what a pretext task learns shape from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_sparseseg.networks import Triple

Spacing = tuple[float, float, float]

_OBJECTS = (2, 4)
_RADIUS = (0.16, 0.34)  # of the piece's size in mm
_ELONGATION = 0.25
_DENTS = 0.3  # of the radius
_DENT_LENGTH = 0.25  # of the piece's size
_GRAINS = (1.0, 1.6, 3.0, 6.0)  # in voxels
_CONTRAST = (0.7, 1.3)
_TEXTURE = 0.25
_BLUR = (0.3, 0.8)  # in voxels
_BIAS = 0.1
_NOISE = (0.03, 0.1)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A generated piece of a volume, and what is known of the surfaces in it.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` float32; mean 0 and standard deviation 1 in each channel.
    inside
        ``(Z, Y, X)``: whether a voxel belongs to an object.
    contour
        ``(Z, Y, X)``: the objects' outermost voxels.
    distance
        ``(Z, Y, X)`` float32, mm to the nearest voxel of the contour: 0 there, negative inside.
    normal
        ``(3, Z, Y, X)`` float32, of length 1: which way, in mm, the surface near by looks; outward.
    """

    image: NDArray[np.float32]
    inside: NDArray[np.bool_]
    contour: NDArray[np.bool_]
    distance: NDArray[np.float32]
    normal: NDArray[np.float32]


def generate_phantom(random: np.random.Generator, shape: Triple, spacing: Spacing, channels: int) -> Phantom:
    """Generate dented ellipsoids of different look, blurred, under a bias field and noise.

    Objects are as large and as round in mm whatever the voxels' shape, brighter or darker than what
    lies around them, and do not touch.

    Parameters
    ----------
    random
        Draws all.
    shape, spacing
        Voxels ``(Z, Y, X)`` and their size in mm.
    channels
        Each has its own contrast and noise, of the same objects.
    """
    level, nearest = _draw_level(random, shape, spacing)
    inside = level < 0
    distance, contour = measure_surface(inside, spacing)
    image = _paint(random, np.where(inside, nearest + 1, 0), channels)
    return Phantom(image, inside, contour, distance, _directions(level, spacing))


def measure_surface(
    inside: NDArray[np.bool_], spacing: Spacing
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the signed distance of each voxel to the surface of objects, and their surface voxels.

    Parameters
    ----------
    inside
        ``(Z, Y, X)``: the objects; they go on beyond the border.
    spacing
        Voxel size in mm ``(Z, Y, X)``.

    Returns
    -------
    distance
        ``(Z, Y, X)`` float32, mm to the nearest surface voxel: 0 there, negative inside, positive
        outside; infinite where there is no surface.
    contour
        ``(Z, Y, X)``: voxels inside of which one of the six neighbours lies outside.
    """
    contour = inside & ~ndimage.binary_erosion(inside, border_value=1)
    if not contour.any():
        return np.where(inside, -np.inf, np.inf).astype(np.float32), contour
    distance = ndimage.distance_transform_edt(~contour, spacing)
    return np.where(inside, -distance, distance).astype(np.float32), contour


def _draw_level(
    random: np.random.Generator, shape: Triple, spacing: Spacing
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ``(Z, Y, X)`` values, about in mm, negative inside, and the nearest object's number."""
    size = np.array(shape) * spacing
    typical = float(np.prod(size) ** (1 / 3))
    axes = [(np.arange(n, dtype=np.float32) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    count = int(random.integers(_OBJECTS[0], _OBJECTS[1] + 1))
    levels = np.empty((count, points.shape[1]), np.float32)
    turns = Rotation.from_quat(random.standard_normal((count, 4))).as_matrix()
    for number, turn in enumerate(turns):
        # The first lies in the middle, so that there is always one.
        centre = size * (random.uniform(0.3, 0.7, 3) if number == 0 else random.uniform(0, 1, 3))
        radius = typical * random.uniform(*_RADIUS)
        stretch = np.exp(random.normal(0, _ELONGATION, 3))
        matrix = (turn / (radius * stretch)).astype(np.float32)
        moved = matrix @ (points - centre[:, None].astype(np.float32))
        levels[number] = (np.sqrt(np.einsum("an,an->n", moved, moved)) - 1) * radius
    dents = _smooth_noise(random, 1, shape, _DENT_LENGTH * typical / np.array(spacing))[0].reshape(-1)
    levels += dents * (_DENTS * typical * np.mean(_RADIUS)).astype(np.float32) / 2
    nearest = levels.argmin(0)
    first, second = np.partition(levels, 1, axis=0)[:2]
    level = np.maximum(first, 2 * float(np.median(spacing)) - (second - first))  # a gap where two would touch
    return level.reshape(shape), nearest.reshape(shape)


def _smooth_noise(
    random: np.random.Generator, count: int, shape: Triple, lengths: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return ``(count, Z, Y, X)`` noise of deviation about 1 that changes over `lengths` voxels per axis."""
    nodes = [max(2, round(n / length) + 1) for n, length in zip(shape, lengths, strict=True)]
    coarse = torch.from_numpy(random.standard_normal((count, 1, *nodes), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)[:, 0]
    smooth: NDArray[np.float32] = (fine / fine.std().clamp_min(1e-3)).numpy()
    return smooth


def _paint(random: np.random.Generator, materials: NDArray[np.int64], channels: int) -> NDArray[np.float32]:
    """Return ``(C, Z, Y, X)`` intensities for the number of each voxel's material, 0 = around the objects."""
    shape, count = materials.shape, int(materials.max()) + 1
    grains = random.choice(_GRAINS, 2, replace=False)
    textures = [_smooth_noise(random, 1, shape, (grain,) * 3)[0] for grain in grains]
    finer = materials % 2 == random.integers(2)  # neighbours differ in grain, not in brightness alone
    texture = np.where(finer, *textures)
    image = np.empty((channels, *shape), np.float32)
    bias = np.exp(_BIAS * _smooth_noise(random, channels, shape, np.array(shape) / 2))
    for channel in range(channels):
        contrast = random.uniform(*_CONTRAST, count) * random.choice((-1, 1), count)
        contrast[0] = 0
        strength = random.uniform(0, _TEXTURE, count)
        painted = (1.5 + contrast).astype(np.float32)[materials]
        painted += strength.astype(np.float32)[materials] * texture
        painted = ndimage.gaussian_filter(painted, random.uniform(*_BLUR), truncate=2.0) * bias[channel]
        noise = random.standard_normal(shape, np.float32)
        image[channel] = painted + np.float32(random.uniform(*_NOISE)) * noise
    image -= image.mean((1, 2, 3), keepdims=True)
    image /= image.std((1, 2, 3), keepdims=True)
    return image


def _directions(level: NDArray[np.float32], spacing: Spacing) -> NDArray[np.float32]:
    """Return the ``(3, Z, Y, X)`` unit gradient in mm; nothing changes along an axis of one voxel."""
    slopes = np.stack(
        [
            np.gradient(level, step, axis=axis) if level.shape[axis] > 1 else np.zeros_like(level)
            for axis, step in enumerate(spacing)
        ]
    ).astype(np.float32)
    length = np.sqrt(np.einsum("azyx,azyx->zyx", slopes, slopes))
    flat = length < 1e-6
    slopes[0][flat] = length[flat] = 1.0
    slopes /= length
    return slopes
