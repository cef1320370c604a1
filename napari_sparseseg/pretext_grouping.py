"""What the tasks share that learn from which pieces of volumes are alike."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.clustering import Indices, balanced_shares, whiten
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskContext
from napari_sparseseg.views import distort
from napari_sparseseg.volume_pool import Place, VolumePool

MOVE = 0.125
"""How far the view of a piece may lie from it, to either side, as a share of its size."""

FEWEST_MEASURED = 16
"""Pieces that a task is measured by at a time, at least; with few, one of them soon is most of all."""

_COMPONENTS = 16
_STEEPNESS = 5.0
_AT_ONCE = 16
_LOPSIDED = 0.5


def measure(
    pool: VolumePool,
    places: Sequence[Place],
    size: Triple,
    device: torch.device,
    describe: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return ``(N, F)``: what `describe` says of pieces, of which few are cut at a time."""
    described = []
    for first in range(0, len(places), _AT_ONCE):
        pieces = [pool.cut(place, size) for place in places[first : first + _AT_ONCE]]
        described.append(describe(torch.stack(pieces).to(device)))
    return torch.cat(described)


def draw_view(
    pool: VolumePool, place: Place, size: Triple, random: np.random.Generator, zoom: float = 0.0
) -> Tensor:
    """Return ``(C, Z, Y, X)``: a piece moved by up to an eighth of its size, its intensities distorted.

    With a `zoom` it is enlarged, too: it shows up to this share less, alike in all axes.
    """
    shape = pool.image(place.volume).shape[1:]
    share = 1 - random.uniform(0, zoom)
    shown = to_triple(max(1, round(share * length)) for length in size)
    moved = to_triple(
        np.clip(start + round((length - less) / 2 + random.uniform(-MOVE, MOVE) * length), 0, have - less)
        for start, length, less, have in zip(place.start, size, shown, shape, strict=True)
    )
    piece = pool.cut(Place(place.volume, moved), shown)
    if shown != size:
        piece = functional.interpolate(piece[None], size, mode="trilinear")[0]
    return distort(piece, random)


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return ``(N, M)``: how far each of ``(N, F)`` correlates with each of ``(M, F)``."""
    first, second = (functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in (first, second))
    return first @ second.T


def to_rows(places: Sequence[Place]) -> Tensor:
    """Return the places as ``(N, 4)`` integers, so that they can be a buffer."""
    return torch.tensor([(place.volume, *place.start) for place in places], dtype=torch.int64)


def to_place(row: Tensor) -> Place:
    """Return one place of those that `to_rows` wrote."""
    volume, *start = row.tolist()
    return Place(volume, to_triple(start))


def show(batch: Batch, name: str, piece: int) -> Sequence[Picture]:
    """Return the first piece of a batch, distorted and not, and another, undistorted, by a name."""
    images = (("input", batch["input"][0]), ("target", batch["target"][0]), (name, batch["target"][piece]))
    return [Picture(word, image[0].float().cpu().numpy()) for word, image in images]


def fit_standard(norm: nn.BatchNorm1d, features: Tensor) -> None:
    """Let a normalisation begin with the mean and variance of ``(N, F)`` features."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(features.mean(0))
    norm.running_var.copy_(features.var(0))


class Space(nn.Module):
    """Features whitened and of length 1; see `clustering.whiten`.

    While the network learns, all its features drift together by more than they differ from piece to piece,
    and would soon lie on one side of the old centre; so they are first standardised over the batch.

    Parameters
    ----------
    features
        How many come in; at most 16 go out.
    """

    centre: Tensor
    directions: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.size = min(_COMPONENTS, features)
        self.standardised = nn.BatchNorm1d(features, affine=False)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("directions", torch.eye(features)[:, : self.size].contiguous())

    def fit(self, features: Tensor) -> None:
        """Whiten as these ``(N, F)`` demand from now on; call it in eval mode."""
        fit_standard(self.standardised, features)
        found = whiten(self.standardised(features).cpu().double().numpy(), self.size)
        self.centre.copy_(torch.from_numpy(found.centre).float())
        self.directions.copy_(torch.from_numpy(found.directions).float())

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, size)`` for ``(B, F)``."""
        with torch.autocast(features.device.type, enabled=False):
            whitened: Tensor = (self.standardised(features.float()) - self.centre) @ self.directions
            return functional.normalize(whitened, dim=1)


class Clusters(nn.Module):
    """Scores of clusters by the likeness of features to a prototype of each.

    Parameters
    ----------
    features, clusters
        How many.
    """

    def __init__(self, features: int, clusters: int) -> None:
        super().__init__()
        self.space = Space(features)
        size = self.space.size
        self.prototypes = nn.Parameter(torch.randn(clusters, size) / size**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, clusters)`` logits for ``(B, F)`` features."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = _STEEPNESS * self.space(features) @ self.prototypes.T
            return logits


class Grouping(PretextTask):
    """What the tasks share that predict the group of a piece from a distortion of it.

    While it learns, a piece is one of those grouped last, so that its label is known.  While it is
    measured, pieces are new, of volumes that were not learnt from, and labelled by the rule that the
    last grouping has left: always from the undistorted piece, standardised.
    """

    places: Tensor
    labels: Tensor
    begun: Tensor
    lopsided: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_encoder())
        count, clusters = context.config.clustered, context.config.clusters
        if count < 2 * clusters:
            raise InputError(
                f"{count} pieces are too few to be parted into {clusters} clusters; give twice as many "
                "clustered pieces as clusters at least."
            )
        self.head = Clusters(self.encoder.summary_length, clusters)
        self.register_buffer("places", torch.zeros(count, 4, dtype=torch.int64))
        self.register_buffer("labels", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("begun", torch.zeros(1, dtype=torch.bool))
        self.register_buffer("lopsided", torch.zeros(1, dtype=torch.bool))

    def group(
        self, pool: VolumePool, places: Sequence[Place], random: np.random.Generator
    ) -> tuple[Indices, int]:
        """Return the cluster ``(N,)`` of each piece, and how many clusters were empty and refilled."""
        raise NotImplementedError

    def label(self, pieces: Tensor) -> Tensor:
        """Return ``(B,)``: the clusters of pieces ``(B, C, Z, Y, X)`` by the last grouping's rule."""
        raise NotImplementedError

    def regroup(self, pool: VolumePool, random: np.random.Generator) -> Sequence[str]:
        """Draw pieces from the volumes in memory and part them."""
        size = self.context.crop
        places = [pool.draw_place(random, size) for _ in range(len(self.places))]
        labels, refilled = self.group(pool, places, random)
        self.places.copy_(to_rows(places))
        self.labels.copy_(torch.from_numpy(labels))
        self.begun.fill_(True)
        return self._comment(labels, refilled)

    def measure(
        self, pool: VolumePool, places: Sequence[Place], describe: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return ``(N, F)``: what `describe` says of pieces."""
        return measure(pool, places, self.context.crop, self.labels.device, describe)

    def _comment(self, labels: Indices, refilled: int) -> Sequence[str]:
        notes = []
        if refilled:
            notes.append(
                f"{refilled} of {self.context.config.clusters} clusters were empty and got half of the "
                "largest: the features tell too few pieces apart."
            )
        largest = np.bincount(labels).max() / len(labels)
        if largest > _LOPSIDED and not self.lopsided:
            notes.append(
                f"One cluster holds {largest:.0%} of the pieces: the grouping says little; ask for more "
                "clusters, or choose another task."
            )
        self.lopsided.fill_(bool(largest > _LOPSIDED))
        return notes

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw pieces, all clusters alike often, and a distortion of each; where measured, new pieces."""
        size, count = self.context.crop, self.context.batch_size
        batch = {}
        if self.training:
            labels, rows = self.labels.cpu(), self.places.cpu()
            picked = random.choice(len(labels), count, p=balanced_shares(labels.numpy()))
            batch["label"] = labels[torch.from_numpy(picked)]
            places = [to_place(rows[index]) for index in picked]
        else:
            places = [pool.draw_place(random, size) for _ in range(max(count, FEWEST_MEASURED))]
        batch["target"] = torch.stack([pool.cut(place, size) for place in places])
        batch["input"] = torch.stack([draw_view(pool, place, size, random) for place in places])
        return batch

    def learn(self, batch: Batch) -> Outcome:
        """Predict the clusters from distortions; the trivial answer is the one that is most often right."""
        labels = batch["label"] if "label" in batch else self.label(batch["target"])
        logits = self.head(self.embed(batch["input"]))
        figure = (logits.argmax(1) == labels).float().mean()
        trivial = functional.one_hot(labels, logits.shape[1]).float().mean(0).max()
        return Outcome(functional.cross_entropy(logits, labels), figure, trivial)

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Show a distortion, its piece, and the piece that gets the most alike prediction."""
        scores = self.head(self.embed(batch["target"]))
        others = likeness(scores, scores)[0]
        others[0] = -torch.inf
        return show(batch, "alike", int(others.argmax()))
