"""Windows over a volume for class maps: cut, mirrored, and their maps blended."""

import itertools
import math
from collections.abc import Iterator

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.sampling import position_channels

_LEAST_IMPORTANCE = 1e-3


class WindowGrid:
    """Overlapping windows that cover a volume.

    Where the volume is smaller than a window, its edge is continued.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)``, as the network sees it.
    window
        Shape of a window.
    position
        Whether windows get `position_channels`.
    overlap
        Least share of a window that its neighbour covers too.
    centre
        With a voxel, there is only one window, round it.

    Attributes
    ----------
    starts
        Where windows begin.
    padded
        The volume's shape with its continued edge.
    """

    def __init__(
        self,
        image: Tensor,
        window: Triple,
        *,
        position: bool,
        overlap: float,
        centre: Triple | None = None,
    ) -> None:
        self.window = window
        self._whole = to_triple(image.shape[1:])
        self._position = position
        self._before = to_triple(
            max(0, size // 2 - length // 2) for length, size in zip(self._whole, window, strict=True)
        )
        self._image = self._pad(image.float()[None], "replicate")[0]
        self.padded = to_triple(self._image.shape[1:])
        if centre is None:
            axes: list[list[int]] = [
                _starts(n, size, overlap) for n, size in zip(self.padded, window, strict=True)
            ]
        else:
            axes = [
                [min(max(0, place + before - size // 2), length - size)]
                for place, before, size, length in zip(centre, self._before, window, self.padded, strict=True)
            ]
        self.starts = [to_triple(start) for start in itertools.product(*axes)]

    def _pad(self, values: Tensor, mode: str) -> Tensor:
        """Continue ``(1, C, Z, Y, X)`` to a window's size at least."""
        pads = []
        for length, size, before in reversed(list(zip(self._whole, self.window, self._before, strict=True))):
            pads += [before, max(0, size - length - before)]
        return torch.nn.functional.pad(values, pads, mode=mode) if any(pads) else values

    def read(self, start: Triple, device: torch.device) -> Tensor:
        """Return the window ``(1, C, Z, Y, X)`` at one of `starts`."""
        part = self._image[(slice(None), *self.place(start))].to(device)
        if self._position:
            origin = to_triple(s - before for s, before in zip(start, self._before, strict=True))
            part = torch.cat([part, position_channels(self.window, origin, self._whole, device)])
        return part[None]

    def pad(self, values: Tensor) -> Tensor:
        """Return ``(Z, Y, X)`` values on the volume's grid with 0 beyond its border, for `place`."""
        return self._pad(values[None, None], "constant")[0, 0]

    def crop(self, padded: Tensor) -> Tensor:
        """Return the volume's part of what is as large as that from `pad`."""
        z, y, x = (slice(b, b + length) for b, length in zip(self._before, self._whole, strict=True))
        return padded[z, y, x]

    def place(self, start: Triple) -> tuple[slice, slice, slice]:
        """Return where the window at one of `starts` lies in what `pad` returns."""
        z, y, x = (slice(s, s + size) for s, size in zip(start, self.window, strict=True))
        return z, y, x


class WindowBlend:
    """Blends maps of windows to one of the volume as they come, with Gaussian weights.

    Parameters
    ----------
    grid
        The windows.
    """

    def __init__(self, grid: WindowGrid) -> None:
        self._grid = grid
        importance = compute_importance_map(grid.window, mode="gaussian", sigma_scale=0.125, device="cpu")
        self._importance = importance.clamp_min(_LEAST_IMPORTANCE)
        self._total = torch.zeros(grid.padded)

    def add(self, start: Triple, values: Tensor) -> None:
        """Add the map ``(Z, Y, X)`` of the window at one of the grid's starts."""
        self._total[self._grid.place(start)] += values.cpu() * self._importance

    def result(self) -> Tensor:
        """Return the map ``(Z, Y, X)`` of the volume; windows that were not added count as 0."""
        weight = torch.zeros(self._grid.padded)
        for start in self._grid.starts:
            weight[self._grid.place(start)] += self._importance
        # where no window lies, as with a single one round a voxel, nothing is known
        return self._grid.crop(self._total / weight.clamp_min(_LEAST_IMPORTANCE))


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Return where windows begin, evenly: mirrored, the volume is cut in the same places."""
    if length <= size:
        return [0]
    number = math.ceil((length - size) / (size * (1 - overlap))) + 1
    return [round(i * (length - size) / (number - 1)) for i in range(number)]


def mirrorings(*, all_axes: bool) -> Iterator[tuple[int, ...]]:
    """Yield the axes of a ``(Z, Y, X)`` array to mirror, for each mirror image; for the image itself none."""
    if not all_axes:
        yield ()
        return
    for chosen in itertools.product((False, True), repeat=3):
        yield tuple(axis for axis, mirrored in zip((-3, -2, -1), chosen, strict=True) if mirrored)
