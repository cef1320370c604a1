"""How good features are without looking at a task: alignment, uniformity, spread, and whether it is lost."""

import math

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_SPREAD = 0.08
_LEAST_DIMENSIONS = 1.3


def alignment(first: Tensor, second: Tensor) -> float:
    """Return the mean squared distance between features of two views of the same pieces.

    0 is perfect, 2 is what unrelated views have.  After Wang & Isola (2020), Understanding contrastive
    representation learning through alignment and uniformity on the hypersphere.

    Parameters
    ----------
    first, second
        ``(N, F)`` features; their length does not matter.
    """
    return float((_unit(first) - _unit(second)).square().sum(1).mean())


def uniformity(features: Tensor, sharpness: float = 2.0) -> float:
    """Return the logarithm of the mean Gaussian potential of pairs of features (Wang & Isola 2020).

    0 where all are alike; about -`sharpness` * 2 where they fill the sphere evenly.

    Parameters
    ----------
    features
        ``(N, F)``, two at least; their length does not matter.
    sharpness
        Weight of the squared distance.
    """
    potentials = -sharpness * torch.pdist(_unit(features)).square()
    return float(potentials.logsumexp(0)) - math.log(len(potentials))


def spread(features: Tensor) -> float:
    """Return how far apart features lie: 0 all alike, 1 in unrelated directions.

    The root of the mean squared distance of pairs of directions, as a share of that of unrelated ones.

    Parameters
    ----------
    features
        ``(N, F)``, two at least; their length does not matter.
    """
    return float(torch.pdist(_unit(features)).square().mean().sqrt()) / math.sqrt(2)


def dimensions(features: Tensor) -> float:
    """Return in how many directions features differ: the participation ratio of their variances, from 1 on.

    Parameters
    ----------
    features
        ``(N, F)``, two at least; their length does not matter.
    """
    unit = _unit(features)
    variances = torch.linalg.svdvals(unit - unit.mean(0)).square()
    return float(variances.sum().square() / variances.square().sum().clamp(min=1e-30))


def has_collapsed(features: Tensor) -> bool:
    """Return whether ``(N, F)`` features say nearly the same of everything, or one of two things.

    With `encoders.Encoder.summarise` and random weights the spread is 0.28 to 0.66 (U-Net, DynUNet and
    SegResNet, pieces of 32³ and 64³ of hippocampus MR and CT).  Without its predictor and slow target `byol`
    falls from 0.80 to 0.06 in 40 steps; and it has been seen to fall into two opposite points, whose spread
    is large but which differ in one direction only.
    """
    differ = spread(features) >= _LEAST_SPREAD  # not so where they are no numbers any more
    return not (differ and dimensions(features) >= _LEAST_DIMENSIONS)


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features.detach().float().cpu(), dim=1)
