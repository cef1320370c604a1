"""One training step: draw patches, cut them out, learn from them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.learner import Learner
from napari_sparseseg.networks import Triple
from napari_sparseseg.sampling import (
    PatchDraw,
    PatchSampler,
    TrainingArrays,
    extract_patch,
    find_room,
    judge_presence,
)
from napari_sparseseg.sec import constraint_loss, expansion_loss, find_present
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
        Batch size and weights of the loss's terms: the labels', and of those in `sec` that have a weight.
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
    further: list[Callable[[Tensor], Tensor]] = []
    if config.expansion > 0:
        classes = len(class_weights) - 1
        judged = _judge(arrays, draws, patch, classes).to(labels.device)
        present, background = find_present(judged, labels, weights)
        room = np.stack([find_room(arrays[d.case], d, patch, classes).mean((1, 2, 3)) for d in draws])
        shares = torch.from_numpy(room.astype(np.float32))
        further.append(_expansion(present, background, shares, config.expansion))
    if config.constraint > 0:
        intensities = image[:, : len(arrays[0].image)]  # without the position channels
        further.append(_constraint(intensities, arrays[0].spacing, config.constraint))
    return learner.step(image, label_sets, config.dice_weight, progress, further)


def _judge(
    arrays: Sequence[TrainingArrays], draws: Sequence[PatchDraw], patch: Triple, classes: int
) -> Tensor:
    """Return ``(B, K - 1)`` int8: what is known of the classes at each patch's place."""
    unknown = np.full(classes - 1, -1, np.int8)
    judged = [judge_presence(arrays[draw.case], draw, patch) for draw in draws]
    return torch.from_numpy(np.stack([unknown if row is None else row for row in judged]))


def _expansion(
    present: Tensor, background: Tensor, room: Tensor, factor: float
) -> Callable[[Tensor], Tensor]:
    return lambda logits: factor * expansion_loss(logits, present, background, room)


def _constraint(
    image: Tensor, spacing: tuple[float, float, float], factor: float
) -> Callable[[Tensor], Tensor]:
    return lambda logits: factor * constraint_loss(logits, image, spacing)
