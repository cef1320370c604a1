"""What *seed, expand and constrain* adds to the loss beside the labels: expansion and constraint.

Method: Kolesnikov & Lampert 2016, "Seed, Expand and Constrain: Three Principles for Weakly-Supervised Image
Segmentation".  Its first term, seeding, is the cross-entropy on labels of source "cam", which `losses` does.

Expansion pools the probabilities of a class over a patch by global weighted rank pooling: sorted from the
largest on, the j-th one counts decay**(j - 1).  A class that is there must fill a part of the patch, one
that is not must be nowhere.  The paper's decays are for 41 x 41 scores; for n of them they are raised to
1681 / n, so that the same share of the patch counts.

Two things differ here.  The paper's decay makes a class that is there fill more than 15 % of a patch, as the
objects of photographs do; an organ fills a hundredth of a patch in 3D, and would be made to grow to many
times itself.  So it is asked to fill a part of the room that image-level labels leave it in the patch, less
than in the paper.  And of a class that is not there -log(1 - p) is pooled by the paper's decay instead of
taken where it is largest: most patches lack most of several classes, and the maxima drown what is learnt.

Constraint pulls the probabilities to what a dense conditional random field makes of them, which has its
borders where the image has edges.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.dense_crf import refine_probabilities
from napari_sparseseg.settings import CrfConfig

Triple = tuple[int, int, int]

PRESENT_DECAY = 0.996
"""Of a class that is in the patch: the largest tenth or so of its probabilities counts half."""

BACKGROUND_DECAY = 0.999
"""Of background, which fills more of a patch than any class."""

FILLED = 0.25
"""Share of the room that image-level labels leave a class where 95 % of the weight lies that pools it.

In 3D an object fills a quarter to a half of its box.
"""

_SCORES = 41 * 41  # that the decays are given for
_MOST_SCORES = 33_000
_MOST_CRF_VOXELS = 8_000
_LEAST_PROBABILITY = 1e-6


def pool_ranks(scores: Tensor, decay: float | Tensor) -> Tensor:
    """Pool ``(…, N)`` scores by global weighted rank pooling.

    Parameters
    ----------
    scores
        At least one.
    decay
        Weight of each score as a share of the next larger one's, for 1681 of them; 0 gives the largest,
        1 the mean.  Or ``(…,)``: that of each row.
    """
    number = scores.shape[-1]
    ranks = torch.arange(number, device=scores.device, dtype=scores.dtype)
    decays = torch.as_tensor(decay, device=scores.device, dtype=scores.dtype)
    weights = decays[..., None] ** (ranks * (_SCORES / number))
    ordered = scores.sort(-1, descending=True).values
    return (ordered * weights).sum(-1) / weights.sum(-1)


def choose_decays(room: Tensor) -> Tensor:
    """Return the decays by which classes fill `FILLED` of their room.

    Parameters
    ----------
    room
        Share of a patch that a class may be in, 0 to 1.

    Returns
    -------
    Of the same shape.
    """
    filled = _SCORES * FILLED * room.double()
    return (math.log(0.05) / filled).exp().to(room.dtype)


def find_present(judged: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Tell which classes are in each patch, from what is known of its place and from its own labels.

    Parameters
    ----------
    judged
        ``(B, K - 1)`` int8 of the classes after background, as `image_labels.Presence.judge` gives it.
    labels, weights
        ``(B, Z, Y, X)`` as `losses.sparse_cross_entropy` takes them.

    Returns
    -------
    ``(B, K - 1)`` int8, 1 present, 0 absent, -1 unknown, and ``(B,)`` bool: whether background is there.  A
    label overrules what is said of its place.
    """
    labelled = torch.where(weights > 0, labels, torch.zeros_like(labels)).flatten(1)
    there = torch.stack([(labelled == value).any(1) for value in range(1, judged.shape[1] + 2)], dim=1)
    present = torch.where(there[:, 1:], torch.ones_like(judged), judged)
    return present, there[:, 0]


def expansion_loss(
    logits: Tensor, presence: Tensor, background: Tensor | None = None, room: Tensor | None = None
) -> Tensor:
    """Let classes fill a part of the patches that they are in, and keep them out of the others.

    The loss of a patch is the mean of -log G over the classes that are there, the mean of what G makes of
    -log(1 - p) over those that are not, and -log G of background where that is there; G pools as `pool_ranks`
    does.  To sort all 64 x 64 x 64 values would cost a sixth of a training step for each class: above 33,000
    voxels their means over larger ones are sorted instead, for a tenth of that.

    Parameters
    ----------
    logits
        ``(B, K, Z, Y, X)``.
    presence
        ``(B, K - 1)`` of the classes after background: 1 present, 0 absent, -1 unknown and left out.
    background
        ``(B,)`` bool: whether some of the patch is known to be background; None for nowhere.
    room
        ``(B, K - 1)`` share of the patch that each class may be in; None for the paper's decay.

    Returns
    -------
    Scalar, meaned over the patches; 0 with zero gradients where nothing is known.
    """
    logits = logits.float()
    coarse = _smaller_shape(logits.shape[2:], (1.0, 1.0, 1.0), _MOST_SCORES)
    scores = _shrink(logits.softmax(1), coarse).flatten(2)
    loss = logits.sum() * 0.0
    decays = scores.new_full(presence.shape, PRESENT_DECAY) if room is None else choose_decays(room)
    decays = decays.to(scores.device)
    for patch, known in enumerate(presence.tolist()):
        present = [channel for channel, state in enumerate(known, start=1) if state == 1]
        absent = [channel for channel, state in enumerate(known, start=1) if state == 0]
        if present:
            rows = [channel - 1 for channel in present]
            loss = loss - _log(pool_ranks(scores[patch, present], decays[patch, rows])).mean()
        if absent:
            missing = _shrink(-_log_of_absence(logits[patch], absent)[None], coarse)[0].flatten(1)
            loss = loss + pool_ranks(missing, PRESENT_DECAY).mean()
        if background is not None and bool(background[patch]):
            loss = loss - _log(pool_ranks(scores[patch, 0], BACKGROUND_DECAY))
    return loss / len(presence)


def constraint_loss(
    logits: Tensor, image: Tensor, spacing: tuple[float, float, float], config: CrfConfig | None = None
) -> Tensor:
    """Pull probabilities f to Q, what a dense conditional random field makes of them: the mean KL(Q || f).

    No gradient goes through Q.  What voxels say to each other in the random field varies smoothly but for the
    image's edges: it is found on the CPU on a grid of at most 8,000 voxels, and log Q - log f is interpolated
    to all others.  That takes 18 ms for two classes and 40 ms for four in 48 x 48 x 48 voxels on one core, a
    third and two thirds of a training step there, so that it is affordable in every step.

    Parameters
    ----------
    logits
        ``(B, K, Z, Y, X)`` on any device.
    image
        ``(B, C, Z, Y, X)`` intensities.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    config
        The random field.

    Returns
    -------
    Scalar; not finite where the logits are not.
    """
    logits = logits.float()
    log_probabilities = logits.log_softmax(1)
    with torch.no_grad():
        own = log_probabilities.detach()
        if not bool(torch.isfinite(own).all()):
            return logits.mean() * math.nan
        heard = torch.stack(
            [_hear(*pair, spacing, config or CrfConfig()) for pair in zip(own, image, strict=True)]
        )
        log_refined = (own + heard).log_softmax(1)
    return (log_refined.exp() * (log_refined - log_probabilities)).sum(1).mean()


def _hear(
    log_probabilities: Tensor, image: Tensor, spacing: tuple[float, float, float], config: CrfConfig
) -> Tensor:
    """Return ``(K, Z, Y, X)``: what a random field adds to the log-probabilities of one patch."""
    shape = log_probabilities.shape[1:]
    smaller = _smaller_shape(shape, spacing, _MOST_CRF_VOXELS)
    z, y, x = (size * a / b for size, a, b in zip(spacing, shape, smaller, strict=True))
    probabilities = _shrink(log_probabilities.exp()[None], smaller)[0].cpu().numpy()
    intensities = _shrink(image.float()[None], smaller)[0].cpu().numpy()
    probabilities = np.maximum(probabilities, _LEAST_PROBABILITY)
    refined = refine_probabilities(intensities, probabilities, (z, y, x), config)
    probabilities = probabilities / probabilities.sum(0)
    added = np.log(np.maximum(refined, _LEAST_PROBABILITY)) - np.log(probabilities)
    heard = torch.from_numpy(added).to(log_probabilities.device)
    if smaller == tuple(shape):
        return heard
    size = list(shape)
    return torch.nn.functional.interpolate(heard[None], size, mode="trilinear", align_corners=False)[0]


def _log(shares: Tensor) -> Tensor:
    return shares.clamp_min(_LEAST_PROBABILITY).log()


def _log_of_absence(logits: Tensor, channels: list[int]) -> Tensor:
    """Return log(1 - p) of channels of ``(K, Z, Y, X)`` logits, exact also where p is almost 1."""
    others = [logits[[k for k in range(len(logits)) if k != channel]] for channel in channels]
    return torch.stack([rows.logsumexp(0) for rows in others]) - logits.logsumexp(0)


def _smaller_shape(shape: Iterable[int], spacing: tuple[float, float, float], most: int) -> Triple:
    """Return a shape of at most `most` voxels, their sides in mm as alike as may be."""
    (z, y, x), side = shape, min(spacing)
    smaller = z, y, x
    while math.prod(smaller) > most:
        side *= 1.05
        wanted = (math.ceil(length * size / side) for length, size in zip((z, y, x), spacing, strict=True))
        smaller = min(z, next(wanted)), min(y, next(wanted)), min(x, next(wanted))
    return smaller


def _shrink(values: Tensor, shape: Triple) -> Tensor:
    """Average ``(B, C, Z, Y, X)`` to a smaller shape."""
    if values.shape[2:] == shape:
        return values
    return torch.nn.functional.adaptive_avg_pool3d(values, shape)
