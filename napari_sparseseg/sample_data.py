"""A real sample volume, and synthetic ones of any size and number."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume, load_labels, load_volume, volume_from_array

_BODY_RADII = np.array([1.1, 0.82, 0.9])
_BODY_LEVEL = 0.35
_AIR_LEVEL = 0.02
_SPINE_CENTRE_YX = np.array([0.55, 0.0])
_SPINE_RADIUS = 0.14
_NOISE = 0.04
_FIELD_NODES = 6
_TILE = 48
_SLAB = 16


def load_sample() -> tuple[Volume, NDArray[np.int32], ClassTable]:
    """Return the sample that comes with the package: an MR template of the brain with its tissues.

    Returns
    -------
    volume
        T1-weighted ICBM 152 average (Fonov et al. 2009), 2 mm, ``(1, 94, 116, 98)``.
    labels
        ``(Z, Y, X)``: 0 background, 1 CSF, 2 grey matter, 3 white matter; the most probable tissue.
    table
        The classes with their names.
    """
    files = resources.files("napari_sparseseg.sample_files")
    with (
        resources.as_file(files / "mni152_t1.nii.gz") as image,
        resources.as_file(files / "mni152_labels.nii.gz") as mask,
    ):
        volume = load_volume(image)
        labels = load_labels(mask, volume)
    names = json.loads((files / "mni152_labels.json").read_text(encoding="utf-8"))
    values = [int(value) for value in names if int(value) > 0]
    return volume, labels, ClassTable.from_values(values, {int(v): name for v, name in names.items()})


@dataclass(frozen=True)
class _Organ:
    """One class: an ellipsoid in coordinates −1…1 ``(z, y, x)``, and its look in each channel."""

    centre: NDArray[np.float64]
    to_unit_sphere: NDArray[np.float64]
    levels: NDArray[np.float64]
    texture: NDArray[np.float32]


def generate_case(
    seed: int,
    shape: tuple[int, int, int] = (48, 64, 64),
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    classes: int = 3,
    channels: int = 1,
) -> tuple[Volume, NDArray[np.int32], ClassTable]:
    """Generate a synthetic volume with its true labels; the same arguments give the same case.

    A body holds one organ per class.  An organ keeps its place, size, brightness and grain over all
    seeds, up to a variation of pose, form and brightness, so that a network can learn from some cases
    and segment others.  A bright column behind the organs looks like the brightest class, so that
    intensity alone does not tell them apart.  A bias field and noise lie over everything.  Planes are
    made some at a time: beside the result itself memory holds a few slabs.

    Parameters
    ----------
    seed
        Chooses the case.
    shape
        Voxels ``(Z, Y, X)``; the body fills them whatever the spacing.
    spacing
        Voxel size in mm ``(Z, Y, X)``; the grain of the textures is in mm.
    classes, channels
        Number of organs, and of channels; the channels differ in contrast and noise.

    Returns
    -------
    volume, labels, table
        ``(C, Z, Y, X)`` float32 data; labels ``(Z, Y, X)`` with 0 background and 1…`classes`.

    Raises
    ------
    InputError
        If the shape is too small to hold every class, or a number is not positive.
    """
    if min(shape) < 1 or classes < 1 or channels < 1 or min(spacing) <= 0:
        raise InputError(
            "a synthetic case needs a positive shape, spacing, and number of classes and channels."
        )
    random = np.random.default_rng([seed, classes, channels])
    organs = _draw_organs(random, spacing, classes, channels)
    bends = random.normal(0, 0.045, (3, *[_FIELD_NODES] * 3))
    biases = np.exp(random.normal(0, 0.15, (channels, *[_FIELD_NODES] * 3)))
    weights = [_field_weights(size) for size in shape]
    data = np.empty((channels, *shape), np.float32)
    labels = np.empty(shape, np.int32)
    seen: set[int] = set()
    for start in range(0, shape[0], _SLAB):
        planes = slice(start, min(start + _SLAB, shape[0]))
        slab_weights = [weights[0][planes], *weights[1:]]
        points = _slab_coordinates(shape, planes)
        for axis in range(3):
            points[axis] = points[axis] + _upsample(bends[axis], slab_weights)
        labels[planes] = _label_slab(points, organs)
        seen.update(np.unique(labels[planes][labels[planes] > 0]).tolist())
        for channel in range(channels):
            image = _paint_slab(points, labels[planes], organs, channel, start)
            image *= _upsample(biases[channel], slab_weights)
            image += random.standard_normal(image.shape, np.float32) * np.float32(_NOISE)
            data[channel, planes] = 1000 * image
    if len(seen) < classes:
        raise InputError(
            f"a volume of {shape} voxels is too small for {classes} classes; ask for more voxels."
        )
    table = ClassTable.from_values(range(1, classes + 1), {k: f"organ {k}" for k in range(1, classes + 1)})
    return volume_from_array(data, spacing, name=f"synthetic {seed}"), labels, table


def generate_cohort(
    number: int, seed: int = 0, **options: Any
) -> Iterator[tuple[Volume, NDArray[np.int32], ClassTable]]:
    """Yield `number` cases that share their classes; `options` are those of `generate_case`."""
    for case in range(number):
        yield generate_case(seed + case, **options)


def _draw_organs(
    random: np.random.Generator, spacing: tuple[float, float, float], classes: int, channels: int
) -> list[_Organ]:
    centres, radius = _arrange_centres(classes)
    organs = []
    for row, centre in enumerate(centres):
        constant = np.random.default_rng(row)  # what every case has in common
        radii = radius * constant.uniform(0.8, 1.25, 3) * random.uniform(0.85, 1.15, 3)
        turn = _rotation(constant.uniform(-0.8, 0.8, 3) + random.normal(0, 0.15, 3))
        levels = 0.55 + 0.4 * ((row + np.arange(channels)) % classes) / max(1, classes - 1)
        grain = np.array(constant.uniform(0.8, 3.0)) / np.asarray(spacing)
        texture = ndimage.gaussian_filter(random.standard_normal((_TILE,) * 3), grain, mode="wrap")
        texture *= 0.05 / texture.std()
        organs.append(
            _Organ(
                centre + random.normal(0, 0.03, 3),
                turn / radii[:, None],
                levels * random.uniform(0.95, 1.05, channels),
                texture.astype(np.float32),
            )
        )
    return organs


def _arrange_centres(classes: int) -> tuple[NDArray[np.float64], float]:
    """Return organ centres far from each other and their common radius, the same for every seed."""
    candidates = np.random.default_rng(7).uniform(-1, 1, (4096, 3))
    candidates = candidates[np.linalg.norm(candidates, axis=1) < 1] * (0.55, 0.45, 0.55)
    candidates = candidates[candidates[:, 1] < _SPINE_CENTRE_YX[0] - 0.25]
    chosen = [int(np.argmin(candidates @ (0.3, 0.2, 1.0)))]
    nearest = np.full(len(candidates), np.inf)
    for _ in range(classes - 1):
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    gap = min(nearest.max(), 0.72)
    return candidates[chosen], 0.45 * gap


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _field_weights(size: int) -> NDArray[np.float32]:
    """Return the ``(size, nodes)`` cubic interpolation from a coarse field's nodes to `size` voxels."""
    nodes = np.linspace(0, _FIELD_NODES - 1, size)
    columns = [
        ndimage.map_coordinates(column, [nodes], order=3, mode="nearest") for column in np.eye(_FIELD_NODES)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _upsample(field: NDArray[np.float64], weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    along_z = np.tensordot(weights[0], field.astype(np.float32), (1, 0))
    along_y = np.tensordot(along_z, weights[1], (1, 1))
    return np.asarray(np.tensordot(along_y, weights[2], (1, 1)), np.float32)


def _slab_coordinates(shape: tuple[int, int, int], planes: slice) -> list[NDArray[np.float32]]:
    """Return z, y and x in −1…1, each broadcastable to the slab."""
    axes = [((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32) for size in shape]
    return [axes[0][planes, None, None], axes[1][None, :, None], axes[2][None, None, :]]


def _label_slab(points: list[NDArray[np.float32]], organs: list[_Organ]) -> NDArray[np.int32]:
    """Give each voxel to the organ in whose ellipsoid it lies deepest."""
    depth = np.ones(points[0].shape, np.float32)
    labels = np.zeros(points[0].shape, np.int32)
    for value, organ in enumerate(organs, start=1):
        shifted = [p - np.float32(c) for p, c in zip(points, organ.centre, strict=True)]
        squared = np.zeros_like(depth)
        for row in organ.to_unit_sphere.astype(np.float32):
            squared += (row[0] * shifted[0] + row[1] * shifted[1] + row[2] * shifted[2]) ** 2
        inside = squared < depth
        labels[inside] = value
        depth[inside] = squared[inside]
    return labels


def _paint_slab(
    points: list[NDArray[np.float32]],
    labels: NDArray[np.int32],
    organs: list[_Organ],
    channel: int,
    start: int,
) -> NDArray[np.float32]:
    radii = _BODY_RADII.astype(np.float32)
    body = sum((point / radius) ** 2 for point, radius in zip(points, radii, strict=True)) < 1
    spine_y, spine_x = (points[a] - np.float32(c) for a, c in zip((1, 2), _SPINE_CENTRE_YX, strict=True))
    spine = spine_y**2 + spine_x**2 < np.float32(_SPINE_RADIUS**2)
    image = np.where(body, np.float32(_BODY_LEVEL), np.float32(_AIR_LEVEL))
    image[spine & body] = max(organ.levels[channel] for organ in organs)
    for value, organ in enumerate(organs, start=1):
        where = np.nonzero(labels == value)
        z, y, x = ((axis + offset) % _TILE for axis, offset in zip(where, (start, 0, 0), strict=True))
        image[where] = np.float32(organ.levels[channel]) + organ.texture[z, y, x]
    return image
