"""Means of a network's features over boxes, and the losses by which a classifier learns from them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sparseseg.classifier_bags import Bag, BagSource
from napari_sparseseg.image_labels import ABSENT
from napari_sparseseg.networks import Triple


def pool_boxes(features: Tensor, bags: Sequence[Bag], strides: Triple, start: Triple = (0, 0, 0)) -> Tensor:
    """Return the mean features ``(B, F)`` of each bag: global average pooling, of a part.

    Parameters
    ----------
    features
        ``(F, z, y, x)`` of a volume.
    bags
        Boxes of its voxels.
    strides
        Voxels between features ``(Z, Y, X)``; each stands for the voxels that are nearest to it.
    start
        The voxel that the first feature lies at; below 0 where the volume was padded.
    """
    shares = []
    for axis, stride in enumerate(strides):
        edges = _edges(features.shape[1 + axis], stride, start[axis])
        first = np.array([[bag.start[axis] - 0.5] for bag in bags])
        after = np.array([[bag.stop[axis] - 0.5] for bag in bags])
        inside = np.clip(np.minimum(edges[1:], after) - np.maximum(edges[:-1], first), 0, None)
        share = torch.from_numpy(inside / inside.sum(1, keepdims=True))
        shares.append(share.to(features.device, features.dtype))
    rows = torch.einsum("fzyx,bx->bfzy", features, shares[2])
    return torch.einsum("bfz,bz->bf", torch.einsum("bfzy,by->bfz", rows, shares[1]), shares[0])


def absent_features(source: BagSource, shape: Triple, strides: Triple, start: Triple) -> NDArray[np.bool_]:
    """Return ``(K - 1, z, y, x)`` where the voxels that a feature stands for are known to lack a class.

    None of those whose voxels are to be avoided is among them.

    Parameters
    ----------
    source
        The volume, and which of its labels may be used.
    shape
        Number of features ``(z, y, x)``.
    strides, start
        As for `pool_boxes`.
    """
    classes = range(2, source.presence.classes + 1)
    lacking: list[NDArray[np.bool_]] = []
    free: list[NDArray[np.bool_]] = []
    for axis, stride in enumerate(strides):
        length = source.shape[axis]
        edges = np.clip(np.ceil(_edges(shape[axis], stride, start[axis])), 0, length).astype(np.int64)
        known = np.stack([source.presence.slices(label, axis) == ABSENT for label in classes])
        counts = np.pad(np.cumsum(known & source.allowed[axis], 1), ((0, 0), (1, 0)))
        voxels = np.diff(edges)
        avoided = np.pad(np.cumsum(~source.free(axis)), (1, 0))
        free.append(avoided[edges[1:]] == avoided[edges[:-1]])
        lacking.append((counts[:, edges[1:]] - counts[:, edges[:-1]] == voxels) & (voxels > 0))
    z, y, x = lacking
    absent: NDArray[np.bool_] = z[:, :, None, None] | y[:, None, :, None] | x[:, None, None]
    absent &= free[0][:, None, None] & free[1][:, None] & free[2]
    return absent


def _edges(count: int, stride: int, start: int) -> NDArray[np.float64]:
    """Return where the share of each feature along an axis begins, and where the last one's ends.

    The first and the last also stand for all that lies beyond them.
    """
    inner = start + stride * (np.arange(1, count) - 0.5)
    return np.concatenate([[-np.inf], inner, [np.inf]])


def bag_loss(logits: Tensor, bags: Sequence[Bag]) -> Tensor:
    """Return the mean over the classes of the cross-entropy of bags ``(B, K - 1)``.

    Those that show a class weigh as much together as those that lack it.
    """
    labels = np.array([bag.label for bag in bags])
    shown = np.array([bag.shown for bag in bags])
    weights = np.zeros(len(bags))
    for kind in {(bag.label, bag.shown) for bag in bags}:
        members = (labels == kind[0]) & (shown == kind[1])
        weights[members] = 0.5 / members.sum() / len(set(labels.tolist()))
    rows = torch.arange(len(bags), device=logits.device)
    answers = logits[rows, torch.from_numpy(labels - 2).to(logits.device)]
    truth, weight = (torch.from_numpy(v).to(logits.device, logits.dtype) for v in (shown, weights))
    losses = nn.functional.binary_cross_entropy_with_logits(answers, truth, reduction="none")
    return (weight * losses).sum()


def absence_loss(maps: Tensor, absent: NDArray[np.bool_], classes: Sequence[int]) -> Tensor:
    """Return the mean over `classes` of the cross-entropy of features that are known to lack a class.

    Each is a bag of the smallest size: where a class is not, its map is to be low everywhere, and not
    only in the mean.

    Parameters
    ----------
    maps
        ``(K - 1, z, y, x)`` logit of each feature.
    absent
        As `absent_features` returns it.
    classes
        Rows of `maps`; those without a feature that lacks the class do not count.
    """
    where = torch.from_numpy(absent).to(maps.device)
    losses = [nn.functional.softplus(maps[row][where[row]]).mean() for row in classes if absent[row].any()]
    return torch.stack(losses).mean() if losses else maps.sum() * 0
