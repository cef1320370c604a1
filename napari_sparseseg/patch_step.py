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
    share: tuple[int, int] = (0, 1),
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
    share
        Which process this is and of how many: together they draw that many batches, and each takes every
        so many-th patch of them.
    """
    rank, world = share
    draws = [sampler.draw() for _ in range(config.batch_size * world)][rank::world]
    cases = [arrays[draw.case] for draw in draws]
    patches = [extract_patch(c, d, patch, position=position) for c, d in zip(cases, draws, strict=True)]
    # Cases that do not fit into a GPU's memory are cut on the CPU.
    image, labels, weights, taught = (
        torch.stack([getattr(p, name).to(learner.device) for p in patches])
        for name in ("image", "labels", "weights", "preview")
    )
    label_sets = [(labels, weights, 1.0)]
    if config.preview_weight > 0:
        label_sets.append((taught, class_weights[taught.long()], config.preview_weight))
    further: list[Callable[[Tensor], Tensor]] = []
    if config.expansion > 0:
        classes = len(class_weights) - 1
        judged = _judge(cases, draws, patch, classes).to(labels.device)
        present, background = find_present(judged, labels, weights)
        room = np.stack(
            [find_room(c, d, patch, classes).mean((1, 2, 3)) for c, d in zip(cases, draws, strict=True)]
        )
        shares = torch.from_numpy(room.astype(np.float32))
        further.append(_expansion(present, background, shares, config.expansion))
    if config.constraint > 0:
        intensities = image[:, : len(cases[0].image)]  # without the position channels
        further.append(_constraint(intensities, cases[0].spacing, config.constraint))
    return learner.step(image, label_sets, config.dice_weight, progress, further)


def _judge(
    cases: Sequence[TrainingArrays], draws: Sequence[PatchDraw], patch: Triple, classes: int
) -> Tensor:
    """Return ``(B, K - 1)`` int8: what is known of the classes at each patch's place."""
    unknown = np.full(classes - 1, -1, np.int8)
    judged = [judge_presence(case, draw, patch) for case, draw in zip(cases, draws, strict=True)]
    return torch.from_numpy(np.stack([unknown if row is None else row for row in judged]))


def _expansion(
    present: Tensor, background: Tensor, room: Tensor, factor: float
) -> Callable[[Tensor], Tensor]:
    return lambda logits: factor * expansion_loss(logits, present, background, room)


def _constraint(
    image: Tensor, spacing: tuple[float, float, float], factor: float
) -> Callable[[Tensor], Tensor]:
    return lambda logits: factor * constraint_loss(logits, image, spacing)
