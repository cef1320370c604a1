"""Spreading labels along homogeneous tissue: the random walker with a prior.

Method: Grady 2005, "Multilabel random walker image segmentation using prior models".  Class
probabilities u minimise  Σ_edges w (u_i − u_j)² + γ Σ_voxels (u_i − prior_i)²  with u fixed at the
labelled voxels.  The linear system is solved for all classes at once by conjugate gradients, without
building its matrix.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EDGE_CONTRAST = 13.0
"""β: how strongly a step in normalised intensity (standard deviation 1) parts two voxels."""

PRIOR_WEIGHT = 0.03
"""γ: how strongly each voxel is tied to its prior."""

LAST_PRIOR_WEIGHT = 0.05
"""γ where the prior is the answer of a whole method, not of the instant classifier alone."""

_SMALLEST_EDGE = 1e-6
_TOLERANCE = 2e-3
_MAXIMUM_ITERATIONS = 200


def walk_from_labels(
    image: NDArray[np.float32],
    annotation: NDArray[np.integer[Any]],
    prior: NDArray[np.floating[Any]],
    spacing: tuple[float, float, float],
    prior_weight: float = PRIOR_WEIGHT,
    contrast: float = EDGE_CONTRAST,
) -> NDArray[np.float32]:
    """Refine class probabilities by the labels and the edges of the image.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes.
    prior
        ``(K, Z, Y, X)`` class probabilities of another method.
    spacing
        Voxel size in mm ``(Z, Y, X)``; a step across a longer voxel edge counts for less.
    prior_weight, contrast
        γ > 0 and β of the method.

    Returns
    -------
    ``(K, Z, Y, X)`` probabilities; exactly the label at labelled voxels.
    """
    intensities = torch.from_numpy(image)
    start = torch.tensor(prior, dtype=torch.float32)
    labelled = torch.from_numpy(np.asarray(annotation, np.int64))
    one_hot = torch.nn.functional.one_hot((labelled - 1).clamp_min(0), start.shape[0]).movedim(-1, 0)
    free = labelled == 0
    solution = torch.where(free, start, one_hot.to(torch.float32))
    edges = _edge_weights(intensities, spacing, contrast)
    diagonal = torch.full(labelled.shape, prior_weight)
    for axis, weights in enumerate(edges):
        diagonal.narrow(axis, 0, weights.shape[axis]).add_(weights)
        diagonal.narrow(axis, 1, weights.shape[axis]).add_(weights)
    residual = (prior_weight * start - _apply(solution, diagonal, edges)) * free
    _conjugate_gradients(solution, residual, diagonal, edges, free)
    return solution.clamp_(0, 1).numpy()


def _edge_weights(image: Tensor, spacing: tuple[float, float, float], contrast: float) -> list[Tensor]:
    """Weights between neighbours along each axis."""
    weights = []
    for axis in range(3):
        step = image.diff(dim=axis + 1).square().sum(0)
        closeness = (min(spacing) / spacing[axis]) ** 2
        weights.append(closeness * (torch.exp(-contrast * step) + _SMALLEST_EDGE))
    return weights


def _apply(values: Tensor, diagonal: Tensor, edges: list[Tensor]) -> Tensor:
    """Multiply ``(K, Z, Y, X)`` values by the system's matrix."""
    product = values * diagonal
    for axis, weights in enumerate(edges):
        length = weights.shape[axis]
        product.narrow(axis + 1, 0, length).sub_(weights * values.narrow(axis + 1, 1, length))
        product.narrow(axis + 1, 1, length).sub_(weights * values.narrow(axis + 1, 0, length))
    return product


def _conjugate_gradients(
    solution: Tensor, residual: Tensor, diagonal: Tensor, edges: list[Tensor], free: Tensor
) -> None:
    """Solve in place for the free voxels, each class its own system, preconditioned by the diagonal."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    scaled = residual / diagonal
    direction = scaled.clone()
    energy = dot(residual, scaled)
    target = _TOLERANCE**2 * energy
    for _ in range(_MAXIMUM_ITERATIONS):
        if bool((energy <= target).all()):
            return
        product = _apply(direction, diagonal, edges).mul_(free)
        length = energy / dot(direction, product).clamp_min(1e-30)
        solution += length * direction
        residual -= length * product
        scaled = residual / diagonal
        following = dot(residual, scaled)
        direction = scaled + following / energy.clamp_min(1e-30) * direction
        energy = following
