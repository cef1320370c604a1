"""A task on generated volumes, of which all is known."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.gradient_reversal import reverse_gradient
from napari_sparseseg.phantoms import generate_phantom
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskBuilder, TaskContext
from napari_sparseseg.volume_pool import VolumePool

_REACH = 0.15  # of a piece's middle side
_NEAR = 1.5  # of the coarsest voxel edge
_LEAST_DEVIATION = 0.2
_HIDDEN = 64


class SyntheticTask(PretextTask):
    """Tell distance, direction and outline of the surfaces in generated volumes.

    Half of the pieces are generated (`phantoms.generate_phantom`), with the brightness and contrast of
    the real ones that are the other half.  For each voxel of a generated piece the network predicts the
    signed distance to the surface of the objects (L1), the surface's normal where it is near (1 - cosine),
    and whether the voxel is of the outline (cross-entropy, both answers weighed alike).

    Source: Ren, Lee: Cross-domain self-supervised multi-task feature learning using synthetic imagery,
    CVPR 2018 (depth, surface normal and instance contour of rendered rooms, and an adversarial domain
    term); the term here is gradient reversal (Ganin, Lempitsky, ICML 2015) of constant weight
    `PretextConfig.domain`, on the encoder's pooled coarsest features.

    The trap: features may fit generated volumes alone.  A classifier learns to tell generated from real
    pieces by their features, and the encoder learns to prevent it; with a weight of 0 there is no classifier.
    What remains can be little more than chance for this classifier and yet be found by another.

    The figure is the root mean square error of the distance, in mm, on generated pieces that were never
    learnt from; the trivial answer is the best constant.
    """

    figure: ClassVar[str] = "error"

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_network(1 + 3 + 1))
        width = 2 * self.encoder.channels[-1]
        self.critic = _build_critic(width) if context.config.domain > 0 else None

    @property
    def reach(self) -> float:
        """Distance in mm from which on all surfaces count as equally far."""
        sides = [length * step for length, step in zip(self.context.crop, self.context.spacing, strict=True)]
        return _REACH * float(np.median(sides))

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw real pieces, and generate as many."""
        context = self.context
        real = pool.draw_pieces(random, context.crop, context.batch_size // 2)
        near = _NEAR * max(context.spacing)
        images, distances, normals, contours = [], [], [], []
        for number in range(context.batch_size - len(real)):
            phantom = generate_phantom(random, context.crop, context.spacing, context.channels)
            like = real[number % len(real)].flatten(1)
            scale = like.std(1).clamp_min(_LEAST_DEVIATION)[:, None, None, None]
            images.append(torch.from_numpy(phantom.image) * scale + like.mean(1)[:, None, None, None])
            distances.append((phantom.distance / self.reach).clip(-1, 1)[None])
            normals.append(phantom.normal * (np.abs(phantom.distance) <= near))
            contours.append(phantom.contour[None].astype(np.float32))
        truths = (torch.from_numpy(np.stack(values)) for values in (distances, normals, contours))
        names = ("distance", "normal", "contour")
        return {"real": real, "generated": torch.stack(images), **dict(zip(names, truths, strict=True))}

    def learn(self, batch: Batch) -> Outcome:
        """Predict all three for the generated pieces, and tell these from the real ones."""
        distance, normal, contour = self._predict(batch["generated"])
        loss = (
            (distance - batch["distance"]).abs().mean()
            + normal_loss(normal, batch["normal"])
            + contour_loss(contour, batch["contour"])
        )
        if self.critic is not None:
            loss = loss + self._tell_apart(batch["generated"], batch["real"])
        error = (distance.detach() - batch["distance"]).square().mean().sqrt()
        trivial = batch["distance"].std(correction=0)
        return Outcome(loss, self.reach * error, self.reach * trivial)

    def _predict(self, pieces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        distance, normal, contour = self.network(pieces).float().split((1, 3, 1), dim=1)
        return distance, normal, contour

    def _tell_apart(self, generated: Tensor, real: Tensor) -> Tensor:
        """Return the domain classifier's loss; what flows back to the encoder is reversed."""
        assert self.critic is not None
        features = pool_features(self.encoder(torch.cat([generated, real]))[-1])
        logits = self.critic(reverse_gradient(features, self.context.config.domain)).float()[:, 0]
        is_real = torch.arange(len(features), device=logits.device) >= len(generated)
        return functional.binary_cross_entropy_with_logits(logits, is_real.float())

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a generated piece, and the distance and the outline, as they are and as predicted."""
        distance, _, contour = self._predict(batch["generated"][:1])
        images = {
            "input": batch["generated"][0, 0],
            "target": batch["distance"][0, 0],
            "prediction": distance[0, 0],
            "contour": batch["contour"][0, 0],
            "predicted contour": contour[0, 0].sigmoid(),
        }
        return [Picture(name, image.detach().float().cpu().numpy()) for name, image in images.items()]


def _build_critic(width: int) -> nn.Module:
    # Without the first layer the encoder wins by features that grow and grow.
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, _HIDDEN), nn.LeakyReLU(0.1), nn.Linear(_HIDDEN, 1)
    )


def pool_features(features: Tensor) -> Tensor:
    """Return ``(B, 2 F)``: mean and standard deviation over all places of ``(B, F, Z, Y, X)`` features."""
    places = features.float().flatten(2)
    deviation = (places.var(2, correction=0) + 1e-6).sqrt()  # its gradient is finite where all are alike
    return torch.cat([places.mean(2), deviation], dim=1)


def normal_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean of 1 - cosine between ``(B, 3, Z, Y, X)`` vectors, where the true one is not zero."""
    there = true.square().sum(1) > 0
    cosine = functional.cosine_similarity(predicted, true, dim=1)
    return ((1 - cosine) * there).sum() / there.sum().clamp_min(1)


def contour_loss(logits: Tensor, contour: Tensor) -> Tensor:
    """Return the cross-entropy of ``(B, 1, Z, Y, X)`` logits; contour and all else weigh as much, in sum."""
    losses = functional.binary_cross_entropy_with_logits(logits, contour, reduction="none")
    parts = [(losses * side).sum() / side.sum().clamp_min(1) for side in (contour, 1 - contour)]
    return (parts[0] + parts[1]) / 2


SYNTHETIC_TASKS: Mapping[str, TaskBuilder] = {"synthetic": SyntheticTask}
"""Name of a task → what solves it."""
