"""The loss on sparse labels: voxels without a label have weight 0 and no influence at all.

Method: Çiçek et al. 2016, "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation":
a cross-entropy whose weight w(y) is zero where nothing is labelled.  It is divided by the sum of the
weights, so that its scale does not depend on how little is labelled.
"""

import torch
from torch import Tensor

_SMALLEST_SUM = 1e-12


def sparse_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy over the labelled voxels.

    Parameters
    ----------
    logits
        ``(B, K, Z, Y, X)`` class scores.
    labels
        ``(B, Z, Y, X)`` annotation: 0 unlabelled, 1 background, 2… classes (channel + 1).
    weights
        ``(B, Z, Y, X)`` weight map ≥ 0; taken as 0 wherever `labels` is 0.

    Returns
    -------
    Scalar Σ w·(−log p) / Σ w, and 0 with zero gradients where no voxel is labelled.
    """
    return combined_loss(logits, [(labels, weights, 1.0)], dice_weight=0.0)


def sparse_dice_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """One minus the soft Dice over the labelled voxels, meaned over the classes labelled in the batch.

    Shapes as in `sparse_cross_entropy`; voxels enter where they are labelled and their weight is
    positive.  The sums run over the whole batch (Drozdzal et al. 2016's batch Dice), so that a class
    absent from one patch is no noise.  Background counts as a class: it is labelled explicitly.
    """
    case, voxel = ((labels > 0) & (weights > 0)).flatten(1).nonzero(as_tuple=True)
    rows = logits.flatten(2)[case, :, voxel]
    return _soft_dice_loss(rows.float().log_softmax(1), labels.flatten(1)[case, voxel].long() - 1)


def combined_loss(
    logits: Tensor, label_sets: list[tuple[Tensor, Tensor, float]], dice_weight: float
) -> Tensor:
    """Sum the cross-entropies of several label sets, plus soft Dice on the first one.

    Parameters
    ----------
    logits
        ``(B, K, Z, Y, X)``.
    label_sets
        ``(labels, weights, factor)`` each, shapes as in `sparse_cross_entropy`; each cross-entropy
        is normalised by its own weights and multiplied by its factor, so that many weak labels
        (a preview's) do not drown few strong ones (a user's).  The sets must not overlap.
    dice_weight
        Factor of the soft Dice term on the first set; 0 leaves it out.
    """
    targets = torch.zeros(label_sets[0][0].shape, dtype=torch.int64, device=logits.device)
    factors = torch.zeros(targets.shape, device=logits.device)
    for labels, weights, factor in label_sets:
        labelled_weights = weights.float() * (labels > 0)
        targets += labels.clamp_min(1) - 1
        factors += labelled_weights * (factor / labelled_weights.sum().clamp_min(_SMALLEST_SUM))
    negative_log = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    loss = (negative_log * factors).sum()
    if dice_weight > 0:
        loss = loss + dice_weight * sparse_dice_loss(logits, *label_sets[0][:2])
    return loss


def _soft_dice_loss(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice of ``(N, K)`` log-probabilities against ``(N,)`` targets."""
    probabilities = log_probabilities.exp()
    one_hot = torch.nn.functional.one_hot(targets, probabilities.shape[1]).to(probabilities.dtype)
    overlap = (probabilities * one_hot).sum(0)
    total = probabilities.sum(0) + one_hot.sum(0)
    present = one_hot.sum(0) > 0
    dice = (2 * overlap[present] + 1.0) / (total[present] + 1.0)
    return (1 - dice).sum() / max(int(present.sum()), 1)
