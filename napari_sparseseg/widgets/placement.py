"""Where a layer's voxels lie in the viewer, and which slice of them is visible.

napari slices and draws a layer that is turned against the axes (oblique) without the part of the turn
that leads out of the slice.  What is visible then differs from what the layer's whole transform says;
here is computed what napari shows.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from napari import Viewer
from napari.components import Camera, Dims
from napari.layers import Layer
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError

_RIGHT_ANGLE = 0.01  # largest cosine, as for files
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Placement:
    """The transform of a layer's last two or three axes.

    Attributes
    ----------
    affine
        ``(N + 1, N + 1)`` index -> world, N = 2 or 3.
    """

    affine: NDArray[np.float64]

    @classmethod
    def of_layer(cls, layer: Layer) -> Self:
        """Return the placement of the last three axes of a layer, or of its two."""
        size = min(3, layer.ndim)
        lead = layer.ndim - size
        origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), float)
        affine = np.eye(size + 1)
        for axis in range(size):
            step = np.zeros(layer.ndim)
            step[lead + axis] = 1
            affine[:size, axis] = (np.asarray(layer.data_to_world(step), float) - origin)[lead:]
        affine[:size, size] = origin[lead:]
        return cls(affine)

    def check(self, name: str) -> None:
        """Raise `InputError` where voxels are not boxes: sheared, or of no size."""
        spacing = self.spacing
        if not np.isfinite(self.affine).all() or (spacing == 0).any():
            raise InputError(f"{name} has a voxel size of zero; correct its scale.")
        axes = self.affine[: self.ndim, : self.ndim] / spacing
        if np.abs(axes.T @ axes - np.eye(self.ndim)).max() > _RIGHT_ANGLE:
            raise InputError(f"{name} is sheared, which cannot be worked on; reset its shear or affine.")

    @property
    def ndim(self) -> int:
        """Number of axes, 2 or 3."""
        return len(self.affine) - 1

    @property
    def spacing(self) -> NDArray[np.float64]:
        """``(N,)`` size of a voxel along its axes."""
        size: NDArray[np.float64] = np.linalg.norm(self.affine[: self.ndim, : self.ndim], axis=0)
        return size

    @property
    def is_plain(self) -> bool:
        """Whether index and world are the same, as for a layer without any transform."""
        return bool(np.allclose(self.affine, np.eye(self.ndim + 1), atol=_SAME))

    @property
    def affine_3d(self) -> NDArray[np.float64]:
        """``(4, 4)`` index ``(z, y, x)`` -> world; the slice of a 2D layer is 1 thick."""
        if self.ndim == 3:
            return self.affine
        affine = np.eye(4)
        affine[1:, 1:] = self.affine
        return affine

    def transform(self) -> dict[str, Any]:
        """Return keywords for a layer that shall lie there.

        The size of a voxel goes in as scale, so that napari's brush is round in the world.
        """
        spacing = self.spacing
        affine = self.affine.copy()
        affine[: self.ndim, : self.ndim] /= spacing
        return {"scale": tuple(spacing), "affine": affine}

    def agrees_with(self, other: "Placement") -> bool:
        """Tell whether two placements are the same."""
        return self.affine.shape == other.affine.shape and bool(np.allclose(self.affine, other.affine))

    def slice_at(self, point: NDArray[np.float64], axis: int) -> float:
        """Return the index along `axis` of the slice that napari shows at world `point` ``(N,)``."""
        inverse = np.linalg.inv(self.affine)
        return float(inverse[axis, axis] * point[axis] + inverse[axis, self.ndim])

    def point_of(self, index: float, axis: int) -> float:
        """Return the world position of a slice along `axis`: the inverse of `slice_at`."""
        inverse = np.linalg.inv(self.affine)
        return float((index - inverse[axis, self.ndim]) / inverse[axis, axis])

    def voxel_at(self, position: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """Return the voxel ``(N,)`` drawn at world `position` ``(N,)`` in the slice across `axis`."""
        shown = [other for other in range(self.ndim) if other != axis]
        voxel = np.empty(self.ndim)
        voxel[axis] = self.slice_at(position, axis)
        within = self.affine[np.ix_(shown, shown)]
        voxel[shown] = np.linalg.solve(within, position[shown] - self.affine[shown, self.ndim])
        return voxel


def find_camera(viewer: Viewer) -> Camera:
    """Return the viewer's camera, which napari 0.9 moved into its scene."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def show_upright(viewer: Viewer, axis: int, in_patient: bool) -> None:
    """Draw coronal and sagittal slices of a patient with the head up, and all others as napari does.

    `in_patient` says whether z grows to superior, as in each `Volume` with geometry.
    """
    rows = "up" if in_patient and axis > 0 else "down"
    camera = find_camera(viewer)
    if camera.orientation2d != (rows, "right"):
        camera.orientation2d = (rows, "right")


def slice_axis(dims: Dims, ndim: int) -> int | None:
    """Return the axis, of a layer of `ndim` axes, that the visible slice lies across; None in 3D.

    A layer's axes are the viewer's last ones.  Of a 2D layer all is visible: axis 0 of its ``(1, Y, X)``.
    """
    if dims.ndisplay != 2:
        return None
    lead = dims.ndim - ndim
    hidden = [axis - lead for axis in dims.order[:-2] if axis >= lead]
    return hidden[-1] if hidden else None


def move_to_slice(dims: Dims, placement: Placement, axis: int, index: int) -> None:
    """Show slice `index` of a 3D layer across the layer's `axis`, in the orientation shown now."""
    dims.set_point(dims.ndim - placement.ndim + axis, placement.point_of(index, axis))


def turn_to(dims: Dims, ndim: int, axis: int) -> None:
    """Show the slices across `axis` of a layer of `ndim` axes; slice positions stay."""
    lead = dims.ndim - ndim
    others = [other for other in range(ndim) if other != axis]
    dims.ndisplay = 2
    dims.order = (*range(lead), lead + axis, *(lead + other for other in others))
