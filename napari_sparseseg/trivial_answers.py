"""Answers to generative tasks that need no learning: what a network has to do better than."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDTHS = (1.0, 0.5, 0.25)  # of a Gaussian, as shares of a hidden block's side
_LITTLE = 1e-3
_TINY = 1e-6
_BINS = 64
_REACH = 4
_LEAST_WIDTH = 0.1
_AREA = (2 * math.pi) ** 0.5


def blur(pieces: Tensor, widths: Sequence[float]) -> Tensor:
    """Return ``(B, C, Z, Y, X)`` pieces blurred by a Gaussian, as if nothing were beyond their border.

    Parameters
    ----------
    pieces
        ``(B, C, Z, Y, X)``.
    widths
        Standard deviation of the Gaussian along each axis, in voxels; below 0.1 an axis is left as it is.
    """
    return _sum_near(pieces, widths) / _sum_near(torch.ones_like(pieces[:1, :1]), widths)


def _sum_near(pieces: Tensor, widths: Sequence[float]) -> Tensor:
    pieces = pieces.float()
    with torch.autocast(pieces.device.type, enabled=False):
        for axis, width in enumerate(widths, 2):
            if width < _LEAST_WIDTH:
                continue
            places = torch.arange(pieces.shape[axis], device=pieces.device)
            distances = (places[:, None] - places) / width
            kernel = (-0.5 * distances.square()).exp() / (width * _AREA)
            kernel[distances.abs() > _REACH] = 0  # else tiny numbers that are slow to compute with
            pieces = torch.tensordot(pieces, kernel, ([axis], [0])).movedim(-1, axis)
    return pieces


def visible_means(pieces: Tensor, hidden: Tensor) -> Tensor:
    """Return ``(B, C, 1, 1, 1)`` means of the voxels of ``(B, C, Z, Y, X)`` pieces that are not hidden.

    Parameters
    ----------
    pieces
        ``(B, C, Z, Y, X)``.
    hidden
        ``(B, 1, Z, Y, X)`` bool; not all of a piece.
    """
    visible = (~hidden).to(pieces.dtype)
    return (pieces * visible).sum((2, 3, 4), keepdim=True) / visible.sum((2, 3, 4), keepdim=True)


def fill_smoothly(pieces: Tensor, hidden: Tensor, block: Sequence[float]) -> Tensor:
    """Fill hidden voxels by the mean of visible ones nearby, weighted by a Gaussian of their distance.

    By normalised convolution (Knutsson & Westin 1993), from coarse to fine: where nothing visible is near,
    the coarser answer stays.

    Parameters
    ----------
    pieces
        ``(B, C, Z, Y, X)``; values at hidden voxels do not matter.
    hidden
        ``(B, 1, Z, Y, X)`` bool; not all of a piece.
    block
        Size of what is hidden, in voxels ``(Z, Y, X)``.
    """
    visible = (~hidden).float()
    shown = pieces.float() * visible
    filling = visible_means(pieces.float(), hidden)
    for share in _WIDTHS:
        widths = [share * length for length in block]
        weights = _sum_near(visible, widths)
        filling = (_sum_near(shown, widths) + _LITTLE * filling) / (weights + _LITTLE)
    return torch.where(hidden, filling, pieces.float())


def shrink(pieces: Tensor, factors: Sequence[int]) -> Tensor:
    """Return the means of blocks of `factors` voxels ``(Z, Y, X)``.

    Where they do not part a piece evenly, its last voxels are repeated.
    """
    missing = [-length % factor for length, factor in zip(pieces.shape[2:], factors, strict=True)]
    padding = [part for extra in reversed(missing) for part in (0, extra)]
    return functional.avg_pool3d(functional.pad(pieces, padding, mode="replicate"), tuple(factors))


def enlarge(coarse: Tensor, factors: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Interpolate linearly between the centres of blocks of `factors` voxels.

    Parameters
    ----------
    coarse
        ``(B, C, z, y, x)`` values of blocks.
    factors
        Size of the blocks, in voxels ``(Z, Y, X)``.
    shape
        Voxels ``(Z, Y, X)`` of the result, from the first block's first one.
    """
    size = [length * factor for length, factor in zip(coarse.shape[2:], factors, strict=True)]
    fine = functional.interpolate(coarse, size, mode="trilinear", align_corners=False)
    z, y, x = shape
    return fine[:, :, :z, :y, :x]


def enlarge_true(fine: Tensor, coarse: Tensor, factors: Sequence[int]) -> Tensor:
    """Shift the blocks of what `enlarge` made so that their means are right again.

    One step of the back-projection of Irani & Peleg (1991).
    """
    z, y, x = fine.shape[2:]
    missing = coarse - shrink(fine, factors)
    for axis, factor in enumerate(factors, 2):
        missing = missing.repeat_interleave(factor, axis)
    return fine + missing[:, :, :z, :y, :x]


class ColourTable(nn.Module):
    """The best answer by a voxel's own grey alone: the mean colour of all that were as grey.

    Parameters
    ----------
    colours
        How many maps there are to tell.
    limit
        Greys lie from -`limit` to `limit`; what does not is taken to its end.
    """

    totals: Tensor
    counts: Tensor

    def __init__(self, colours: int, limit: float) -> None:
        super().__init__()
        self._limit = limit
        self.register_buffer("totals", torch.zeros(colours, _BINS))
        self.register_buffer("counts", torch.zeros(colours, _BINS))

    def forward(self, grey: Tensor) -> Tensor:
        """Return ``(B, C, Z, Y, X)`` colours of ``(B, 1, Z, Y, X)`` greys; 0 for a grey never seen."""
        return (self.totals / self.counts.clamp_min(_TINY))[:, self._bins(grey[:, 0])].transpose(0, 1)

    def learn(self, grey: Tensor, colours: Tensor, weights: Tensor, memory: float = 0.0) -> Self:
        """Take in a batch of ``(B, 1, Z, Y, X)`` greys, and ``(B, C, Z, Y, X)`` colours with their weights.

        What was known before counts `memory` times as much as it did.
        """
        bins = self._bins(grey).reshape(-1)
        for known, values in ((self.totals, colours * weights), (self.counts, weights)):
            new = [torch.bincount(bins, one.reshape(-1), _BINS) for one in values.float().transpose(0, 1)]
            known.mul_(memory).add_(torch.stack(new))
        return self

    def _bins(self, grey: Tensor) -> Tensor:
        return ((grey.float() / self._limit + 1) / 2 * _BINS).long().clamp(0, _BINS - 1)
