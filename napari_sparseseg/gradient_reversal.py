"""Gradient reversal: features that a critic learns from and that learn to fool it.

Source: Ganin, Lempitsky: Unsupervised domain adaptation by backpropagation, ICML 2015,
https://proceedings.mlr.press/v37/ganin15.html
"""

from typing import Any

import torch
from torch import Tensor


class _ReversedGradient(torch.autograd.Function):
    """The identity forwards; the gradient times ``-weight`` backwards."""

    @staticmethod
    def forward(context: Any, values: Tensor, weight: float) -> Tensor:
        context.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -context.weight, None


def reverse_gradient(values: Tensor, weight: float = 1.0) -> Tensor:
    """Return ``values`` unchanged, with the gradient that flows back through them reversed.

    What follows (a domain classifier, a critic) learns by gradient descent on its loss as ever; what comes
    before learns by gradient *ascent* on the same loss, ``weight`` times as strongly.

    Parameters
    ----------
    values
        Any tensor.
    weight
        What the reversed gradient is multiplied by: lambda of Ganin & Lempitsky (2015), 0 or more. With 0
        nothing flows back.

    Returns
    -------
    Tensor
        The same values, shape and type.
    """
    reversed_values: Tensor = _ReversedGradient.apply(values, weight)  # type: ignore[no-untyped-call]
    return reversed_values
