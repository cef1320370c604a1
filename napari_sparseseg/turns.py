"""Turns of a volume by right angles."""

import itertools
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple


@dataclass(frozen=True)
class Turn:
    """A rotation that maps the axes of a grid to its axes.

    Attributes
    ----------
    axes
        Which axis ``(Z, Y, X)`` of the volume each axis of the turned one is.
    flipped
        The axes of the turned volume that then run backwards.
    """

    axes: Triple
    flipped: tuple[int, ...]

    def apply(self, piece: Tensor) -> Tensor:
        """Turn ``(…, Z, Y, X)`` voxels."""
        leading = piece.ndim - 3
        axes = [*range(leading), *(leading + axis for axis in self.axes)]
        return piece.permute(axes).flip([leading + axis for axis in self.flipped]).contiguous()

    def inverse(self) -> "Turn":
        """Return the turn that undoes this one."""
        axes = to_triple(np.argsort(self.axes))
        return Turn(axes, tuple(sorted(self.axes[axis] for axis in self.flipped)))


def cube_turns() -> tuple[Turn, ...]:
    """Return the 24 rotations of the cube; the first one leaves it as it is."""
    turns = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), axes] = signs
            if np.linalg.det(matrix) > 0:  # else a reflection
                turns.append(Turn(to_triple(axes), tuple(i for i, sign in enumerate(signs) if sign < 0)))
    return tuple(turns)


def plane_turns(axis: int) -> tuple[Turn, ...]:
    """Return the 4 rotations about an axis (0 to 2); the first one leaves everything as it is."""
    return tuple(turn for turn in cube_turns() if turn.axes[axis] == axis and axis not in turn.flipped)
