"""Tasks that tell two views of one piece from other pieces."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
import torch
from pytorch_metric_learning.losses import SelfSupervisedLoss, SupConLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.encoders import Encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.labelled_views import LabelledVoxels, draw_labelled_views
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskBuilder, TaskContext
from napari_sparseseg.views import draw_views
from napari_sparseseg.volume_pool import VolumePool

_WIDTH = 128
_UNTIL_HALF = 500


class _Contrast(PretextTask):
    """What these tasks share: pieces seen twice, and finding the second view by the first."""

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_encoder())

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw two views of each piece."""
        first, second = draw_views(pool, random, self.context.crop, self.context.batch_size)
        return {"first": first, "second": second}

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return ``(B, F)`` float32 of either view, by whose directions the second is found."""
        raise NotImplementedError

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return the first piece's views, and the view that is taken for its second."""
        found = int(_similarities(*self.compare(batch))[0].argmax())
        second = batch["second"]
        shown = {"input": batch["first"][0], "target": second[0], "prediction": second[found]}
        return [Picture(name, view[0].float().cpu().numpy()) for name, view in shown.items()]


class SimilarViews(_Contrast):
    """`simclr`: two views of a piece are alike, and unlike all other pieces of the batch.

    InfoNCE with a temperature behind a head of two layers, after Chen et al. (2020), A simple framework for
    contrastive learning of visual representations.  The loss is the library's `SupConLoss` with a class for
    each piece: then it equals its `NTXentLoss`, whose memory grows with the third power of the batch.

    Trap: two views that share a histogram, or the grain of their noise, are matched without looking at the
    anatomy; and pieces of one place are told apart in vain.  So contrast, brightness, sharpness and noise
    of each view are its own (`views.distort`), and pieces are drawn apart from each other.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.head = _make_head(self.encoder.summary_length)
        self.criterion = SelfSupervisedLoss(_make_info_nce(context.config.temperature))

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the projections of both views."""
        views = torch.cat([batch["first"], batch["second"]])
        first, second = _project((self.encoder, self.head), views).chunk(2)
        return first, second

    def learn(self, batch: Batch) -> Outcome:
        """Tell the views of a piece from all others."""
        first, second = self.compare(batch)
        with _full_precision(first):
            loss = self.criterion(first, second)
        return _judge(loss, first, second)


class MomentumContrast(_Contrast):
    """`moco`: a view is told from a queue of earlier pieces, seen by a network that follows slowly.

    After He et al. (2020), Momentum contrast for unsupervised visual representation learning.  The other
    pieces of the batch count as negatives too, so that there are some while the queue is filling.

    Traps: keys of different age must be consistent, hence they come from the slow network, which takes no
    gradient; and batch norm lets a network recognise its own batch, hence the heads normalise each piece by
    itself.
    """

    rate = 0.5
    keys: Tensor
    written: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.head = _make_head(self.encoder.summary_length)
        self.slow = _make_follower(self.encoder, self.head)
        self.criterion = _make_info_nce(context.config.temperature)
        self.register_buffer("keys", torch.zeros(context.config.queue, _WIDTH))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        self._fresh: Tensor | None = None

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the projection of the first view, and the slow network's of the second."""
        first = _project((self.encoder, self.head), batch["first"])
        with torch.no_grad():
            second = functional.normalize(_project(self.slow, batch["second"]), dim=1)
        return first, second

    def learn(self, batch: Batch) -> Outcome:
        """Tell the second views from the queue."""
        first, second = self.compare(batch)
        queue = self.keys[: min(int(self.written), len(self.keys))]
        own = torch.arange(len(first), device=first.device)
        others = own.new_full((len(queue),), -1)
        with _full_precision(first):
            loss = self.criterion(
                first, own, ref_emb=torch.cat([second, queue]), ref_labels=torch.cat([own, others])
            )
        if self.training:
            self._fresh = second
        return _judge(loss, first, second)

    def advance(self) -> None:
        """Let the slow network follow, and the newest keys take the places of the oldest."""
        follow(self.slow, (self.encoder, self.head), self.context.config.momentum)
        if self._fresh is not None:
            fresh, self._fresh = self._fresh[-len(self.keys) :], None
            places = (self.written + torch.arange(len(fresh), device=fresh.device)) % len(self.keys)
            self.keys[places] = fresh
            self.written += len(fresh)


class BootstrapLatent(_Contrast):
    """`byol`: from one view, predict what a network that follows slowly says of the other.

    After Grill et al. (2020), Bootstrap your own latent: L2 between normalised predictions, both ways, no
    negatives; batch norm in the heads as there.  The momentum comes nearer to 1 with the steps, as theirs,
    but by steps done, for the length of a training by the clock is not known.

    Trap: without negatives the same answer for everything solves the task.  The predictor, and a target
    that takes no gradient and moves slowly, keep the network from it; whether they did is seen from the
    figure, which is at chance otherwise, and from the features: whether they have become alike or fallen
    into two opposite points (`representation.has_collapsed`).
    """

    rate = 0.5
    steps: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.head = _make_head(self.encoder.summary_length, batch_norm=True)
        self.predictor: nn.Module = _make_head(_WIDTH, batch_norm=True)
        self.slow = _make_follower(self.encoder, self.head)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the prediction from the first view, and what is said of the second."""
        predictions, targets = self._predict(batch)
        half = len(targets) // 2
        return predictions[:half], targets[half:]

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        views = torch.cat([batch["first"], batch["second"]])
        with torch.no_grad():
            targets = _project(self.slow, views)
        return self.predictor(_project((self.encoder, self.head), views)).float(), targets

    def learn(self, batch: Batch) -> Outcome:
        """Predict either view's target from the other."""
        predictions, targets = self._predict(batch)
        half = len(targets) // 2
        loss = 2 * bootstrap_loss(predictions, targets.roll(half, 0))
        return _judge(loss, predictions[:half], targets[half:])

    def advance(self) -> None:
        """Let the target follow."""
        momentum = 1 - (1 - self.context.config.momentum) / (1 + float(self.steps) / _UNTIL_HALF)
        follow(self.slow, (self.encoder, self.head), momentum)
        self.steps += 1


class SupervisedContrast(_Contrast):
    """`supcon`: labelled voxels of one class are alike, whatever piece they lie in.

    Supervised contrastive learning after Khosla et al. (2020), loss of the library.  Half of the pieces are
    centred, as far as fits, on a labelled voxel, classes in balance, and each gives several labelled voxels;
    the others may lie anywhere, and their middle is a class of its own, so that few labels are enough.

    What is compared is all levels' features at a voxel, seen in two views: a mean over the piece would mix
    the classes in it, and what is segmented later are voxels, out of the features of all levels.

    Traps: a class must not be told by where it lies in the piece (the views are moved, and the spots lie
    anywhere in them); and an unlabelled voxel may be of a class that is labelled elsewhere, so that there
    are only as many of these as pieces.

    The figure is how often the nearest voxel has the same label; where nothing is labelled, as often in
    volumes kept aside, how often it is the same voxel.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        if context.labelled < 1:
            raise InputError(
                "supcon learns from labels, and no volume has any besides background; label some voxels of a "
                "class, or choose simclr, which needs none."
            )
        self.head = _make_head(sum(self.encoder.channels))
        self.criterion = _make_info_nce(context.config.temperature)
        self._labelled = LabelledVoxels()

    def regroup(self, pool: VolumePool, random: np.random.Generator) -> Sequence[str]:
        """Check that there are labels to be told from each other."""
        values = {value for there in self._labelled.find(pool).values() for value in there}
        if len(values) < 2 and not pool.changes:
            raise InputError(
                "supcon tells classes from each other, and the labels are all of one; label some voxels of "
                "background or of another class."
            )
        return ()

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw two views of each piece, and the voxels in both that are compared."""
        size, count = self.context.crop, self.context.batch_size
        return vars(draw_labelled_views(pool, random, size, count, self._labelled))

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the projections of the voxel that each piece was drawn for, in both views."""
        first, second = self._project_spots(batch)
        return first[:, 0], second[:, 0]

    def _project_spots(self, batch: Batch) -> tuple[Tensor, Tensor]:
        views = torch.cat([batch["first"], batch["second"]])
        spots = torch.cat([batch["spots_first"], batch["spots_second"]])
        first, second = self.head(sample_features(self.encoder, views, spots)).float().chunk(2)
        return first, second

    def learn(self, batch: Batch) -> Outcome:
        """Bring voxels of one class together, and those of others apart."""
        counted = batch["labels"] != 0
        labels = batch["labels"][counted]
        first, second = (projected[counted] for projected in self._project_spots(batch))
        with _full_precision(first):
            loss = self.criterion(torch.cat([first, second]), torch.cat([labels, labels]))
        return _judge(loss, first, second, labels)


def sample_features(encoder: Encoder, pieces: Tensor, spots: Tensor) -> Tensor:
    """Return ``(B, N, F)`` float32: the features of all levels nearest to voxels of pieces.

    Parameters
    ----------
    pieces
        ``(B, C, Z, Y, X)`` intensities.
    spots
        ``(B, N, 3)`` voxels ``(Z, Y, X)`` in these.
    """
    piece = torch.arange(len(spots), device=spots.device)[:, None]
    sampled = []
    for features, stride in zip(encoder(pieces), encoder.strides, strict=True):
        z, y, x = (
            (spots[..., axis] / stride[axis]).round().long().clamp(0, features.shape[2 + axis] - 1)
            for axis in range(3)
        )
        sampled.append(features[piece, :, z, y, x].float())
    return torch.cat(sampled, 2)


def bootstrap_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared distance of ``(N, F)`` directions, 0 to 4; the targets take no gradient."""
    first, second = (functional.normalize(part, dim=1) for part in (predictions, targets.detach()))
    return (first - second).square().sum(1).mean()


def follow(slow: Iterable[nn.Module], fast: Iterable[nn.Module], momentum: float) -> None:
    """Let the parameters of each slow module keep `momentum` of themselves, and take the rest of the fast."""
    with torch.no_grad():
        for behind, ahead in zip(slow, fast, strict=True):
            for old, new in zip(behind.parameters(), ahead.parameters(), strict=True):
                old.lerp_(new, 1 - momentum)


def _make_follower(*modules: nn.Module) -> nn.ModuleList:
    return copy.deepcopy(nn.ModuleList(modules)).requires_grad_(False)


def _make_head(features: int, batch_norm: bool = False) -> nn.Sequential:
    norm = nn.BatchNorm1d(_WIDTH) if batch_norm else nn.LayerNorm(_WIDTH)
    return nn.Sequential(nn.Linear(features, _WIDTH), norm, nn.ReLU(), nn.Linear(_WIDTH, _WIDTH))


def _make_info_nce(temperature: float) -> SupConLoss:
    return SupConLoss(temperature, reducer=MeanReducer())


def _project(modules: Iterable[nn.Module], pieces: Tensor) -> Tensor:
    """Return ``(B, F)`` float32: what a head makes of an encoder's coarsest features, averaged in parts."""
    encoder, head = modules
    projected: Tensor = head(cast(Encoder, encoder).summarise(pieces))
    return projected.float()


def _full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Compute in float32; bfloat16 tells similarities apart to 0.004 only, which the temperature enlarges."""
    return torch.autocast(tensor.device.type, enabled=False)


def _similarities(first: Tensor, second: Tensor) -> Tensor:
    with _full_precision(first):
        return functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T


def _judge(loss: Tensor, first: Tensor, second: Tensor, labels: Tensor | None = None) -> Outcome:
    """Say how often the nearest of the second features has the first one's label, and how often by chance."""
    labels = torch.arange(len(first), device=first.device) if labels is None else labels
    right = (labels[:, None] == labels).float()
    nearest = _similarities(first.detach(), second.detach()).argmax(1)
    return Outcome(loss, right.gather(1, nearest[:, None]).mean(), right.mean())


CONTRASTIVE_TASKS: Mapping[str, TaskBuilder] = {
    "simclr": SimilarViews,
    "moco": MomentumContrast,
    "supcon": SupervisedContrast,
    "byol": BootstrapLatent,
}
"""Name of a task → what solves it."""
