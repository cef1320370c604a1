"""One training step: draw patches, cut them out, learn from them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_sparseseg.learner import Learner
from napari_sparseseg.networks import Triple
from napari_sparseseg.sampling import PatchSampler, TrainingArrays, extract_patch
from napari_sparseseg.settings import TrainingConfig


def take_step(
    learner: Learner,
    sampler: PatchSampler,
    arrays: Sequence[TrainingArrays],
    patch: Triple,
    class_weights: Tensor,
    config: TrainingConfig,
    *,
    position: bool,
    progress: float,
) -> float:
    """Train on one batch and return its loss.

    Parameters
    ----------
    learner, sampler, arrays
        What learns, what draws, and from what.
    patch
        Size in voxels ``(Z, Y, X)``.
    class_weights
        ``(K + 1,)`` weight of each annotation value, for the preview's labels.
    config
        Batch size and weights of the loss's terms.
    position
        Whether the network takes the position channels.
    progress
        As `Learner.step` takes it.
    """
    draws = [sampler.draw() for _ in range(config.batch_size)]
    patches = [extract_patch(arrays[d.case], d, patch, position=position) for d in draws]
    image = torch.stack([p.image for p in patches])
    labels = torch.stack([p.labels for p in patches])
    weights = torch.stack([p.weights for p in patches])
    label_sets = [(labels, weights, 1.0)]
    if config.preview_weight > 0:
        taught = torch.stack([p.preview for p in patches])
        label_sets.append((taught, class_weights[taught.long()], config.preview_weight))
    return learner.step(image, label_sets, config.dice_weight, progress)
