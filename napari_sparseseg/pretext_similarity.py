"""Tasks about which pieces of volumes are alike."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.clustering import Floats, Indices, column_potentials, find_clusters, refill_empty
from napari_sparseseg.networks import Triple
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskBuilder, TaskContext
from napari_sparseseg.pretext_grouping import (
    FEWEST_MEASURED,
    MOVE,
    Grouping,
    Space,
    draw_view,
    fit_standard,
    measure,
    show,
    to_place,
    to_rows,
)
from napari_sparseseg.views import standardise
from napari_sparseseg.volume_pool import Place, VolumePool

_TRIES = 8
_STEEPNESS = 10.0
_ZOOM = 0.4
_PROJECTED = 64
_LAYOUT = 4


class Exemplar(PretextTask):
    """Tell of which piece a distortion is: moved, enlarged, of other contrast and brightness, with noise.

    Dosovitskiy, Springenberg, Riedmiller & Brox (2014), Discriminative unsupervised feature learning with
    convolutional neural networks: the distortions of one piece are a surrogate class of their own.  The
    loss is theirs, cross-entropy over all classes, rather than of triplets: it compares each distortion
    with all exemplars, and not only with the few that are in the batch.  New pieces are chosen whenever
    volumes take turns; the prototype of each in the head then begins as the features of the undistorted
    piece, so that little has to be learnt anew.

    The trap: two exemplars that lie on each other show the same, and a network punished for finding them
    alike learns nothing but noise.  So exemplars of one volume lie so far apart that no two distortions of
    theirs can have one middle.  Brightness and contrast are no help, as both are distorted.

    The figure, on pieces that were never learnt from: of how many distortions the features are more like
    those of another distortion of the same piece than of any other piece of the batch.  The trivial answer
    goes by brightness and contrast alone.  (To correlate the intensities voxel by voxel is not counted as
    trivial: where volumes are smooth it finds more than a network does that has learnt for a short time.)
    """

    places: Tensor
    found: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_encoder())
        features, exemplars = self.encoder.summary_length, context.config.exemplars
        self.standardised = nn.BatchNorm1d(features, affine=False)
        self.projection = nn.Linear(features, _PROJECTED)
        self.prototypes = nn.Parameter(torch.zeros(exemplars, _PROJECTED))
        self.register_buffer("places", torch.zeros(exemplars, 4, dtype=torch.int64))
        self.register_buffer("found", torch.zeros(1, dtype=torch.int64))

    def _project(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.standardised(features))
        return functional.normalize(projected.float(), dim=1)

    def regroup(self, pool: VolumePool, random: np.random.Generator) -> Sequence[str]:
        """Choose new exemplars from the volumes in memory."""
        wanted, first = len(self.places), not self.found.item()
        chosen = draw_apart(pool, random, self.context.crop, wanted)
        found = len(chosen)
        features = measure(pool, chosen, self.context.crop, self.places.device, self.embed)
        fit_standard(self.standardised, features)
        self.prototypes[:found] = self._project(features)
        self.places[:found] = to_rows(chosen)
        self.found.fill_(found)
        if found == wanted or not first:
            return ()
        return (
            f"Only {found} pieces of the volumes in memory lie apart enough to be exemplars; "
            f"{wanted} were asked for.",
        )

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw a distortion of each of some exemplars; where measured, two of each of new ones."""
        size, count = self.context.crop, self.context.batch_size
        if self.training:
            labels = random.integers(0, int(self.found), count)
            rows = self.places.cpu()
            places = [to_place(rows[label]) for label in labels]
        else:
            places = draw_apart(pool, random, size, max(count, FEWEST_MEASURED))
            labels = np.arange(len(places))

        def distorted() -> Tensor:
            return torch.stack([draw_view(pool, place, size, random, _ZOOM) for place in places])

        plain = torch.stack([pool.cut(place, size) for place in places])
        batch = {"input": distorted(), "target": plain, "label": torch.from_numpy(labels)}
        return batch if self.training else {**batch, "other": distorted()}

    def learn(self, batch: Batch) -> Outcome:
        """Find the exemplar of each distortion."""
        labels, logits = batch["label"], self._score(batch)
        known = batch.get("other", batch["target"])
        guesses = nearest(_brightness(batch["input"]), _brightness(known))
        figure = (logits.argmax(1) == labels).float().mean()
        trivial = (labels[guesses] == labels).float().mean()
        return Outcome(functional.cross_entropy(logits, labels), figure, trivial)

    def _score(self, batch: Batch) -> Tensor:
        """Return the likeness to each exemplar, or to the other distortion of each piece of the batch."""
        features = self._project(self.embed(batch["input"]))
        if "other" in batch:
            known = self._project(self.embed(batch["other"]))
        else:
            known = self.prototypes[: int(self.found)]
        with torch.autocast(features.device.type, enabled=False):
            return _STEEPNESS * features @ known.T

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Show a distortion, its piece, and the piece that it is taken for."""
        taken_for = int(self._score(batch)[0].argmax()) if "other" in batch else 0
        return show(batch, "prediction", taken_for)


def draw_apart(pool: VolumePool, random: np.random.Generator, size: Triple, count: int) -> list[Place]:
    """Draw at most `count` pieces, and two at least, that lie apart in each volume.

    In at least one axis they are farther from each other than their distortions are moved.
    """
    places: list[Place] = []
    for _ in range(count):
        for _ in range(_TRIES):
            place = pool.draw_place(random, size)
            if not any(_is_close(place, other, size) for other in places):
                places.append(place)
                break
    while len(places) < 2:
        places.append(pool.draw_place(random, size))
    return places


def _is_close(first: Place, second: Place, size: Triple) -> bool:
    return first.volume == second.volume and all(
        abs(a - b) <= 2 * MOVE * length for a, b, length in zip(first.start, second.start, size, strict=True)
    )


def _brightness(pieces: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(pieces.float(), (2, 3, 4))
    return torch.cat([mean, deviation], 1)


def describe_images(pieces: Tensor) -> Tensor:
    """Return ``(B, F)``: mean and deviation of the intensities in each of 4×4×4 parts of pieces."""
    plain = standardise(pieces)
    means = functional.adaptive_avg_pool3d(plain, _LAYOUT)
    squares = functional.adaptive_avg_pool3d(plain.square(), _LAYOUT)
    deviations = (squares - means.square()).clamp_min(0).sqrt()
    return torch.cat([means.flatten(1), deviations.flatten(1)], 1)


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return ``(B,)``: the nearest of the centroids ``(K, F)`` for each of the points ``(B, F)``."""
    with torch.autocast(points.device.type, enabled=False):
        return torch.cdist(points.float(), centroids.float()).argmin(1)


class Clustering(Grouping):
    """Predict the group that k-means has put a piece into, from a distortion of it.

    The groups are found once, by k-means on simple features of the first pieces (`describe_images`: how
    bright and how uneven each part of the piece is, whitened), in the manner of Noroozi et al. (2018),
    Boosting self-supervised learning via knowledge transfer, with image features in place of a network's;
    pieces of later volumes go to the nearest of those groups.

    The trap: groups of bright and of dark pieces, which a network tells apart without looking.  So pieces
    are standardised before they are grouped, and the network sees them with other brightness and contrast.
    A second one: many pieces in one group, which is then always a good guess.  So pieces are drawn for all
    groups alike often, and the trivial answer is the share of the most frequent group.
    """

    centroids: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.space = Space(2 * _LAYOUT**3 * context.channels)
        self.register_buffer("centroids", torch.zeros(context.config.clusters, self.space.size))

    def group(
        self, pool: VolumePool, places: Sequence[Place], random: np.random.Generator
    ) -> tuple[Indices, int]:
        """Find the groups, the first time; afterwards, give each piece the nearest."""
        features = self.measure(pool, places, describe_images)
        refilled = 0
        if not self.begun:
            self.head.space.fit(self.measure(pool, places, self.embed))
            self.space.fit(features)
            refilled = _find_centroids(self.space(features), self.centroids, random)[1]
        return nearest(self.space(features), self.centroids).cpu().numpy(), refilled

    def label(self, pieces: Tensor) -> Tensor:
        """Return ``(B,)``: the groups that are nearest."""
        return nearest(self.space(describe_images(pieces)), self.centroids)


class _SelfGrouping(Grouping):
    """What the tasks share whose groups come from the network itself, as it was when it last grouped."""

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.past = copy.deepcopy(self.encoder).requires_grad_(False)
        self.past_head = copy.deepcopy(self.head).requires_grad_(False)

    def describe_past(self, pieces: Tensor) -> Tensor:
        """Return ``(B, F)``: features of undistorted pieces by the encoder of the last grouping."""
        return self.past.summarise(standardise(pieces))

    def _look_back(self, pool: VolumePool, places: Sequence[Place]) -> Tensor:
        self.past.load_state_dict(self.encoder.state_dict())
        return self.measure(pool, places, self.describe_past)


class DeepCluster(_SelfGrouping):
    """Group pieces by the network's own features, learn to predict the groups, and again.

    Caron, Bojanowski, Joulin & Douze (2018), Deep clustering for unsupervised learning of visual features.
    At every regrouping the features of new pieces are whitened along their principal components, brought to
    length 1 and parted by k-means.  The head is then made anew: its prototypes are the centroids, not
    random numbers as in the paper, for 50 steps are too few to learn it each time from nothing.

    The traps: empty groups, in the end all but one; they get half of the largest.  Groups so large that
    always guessing them is good enough; so pieces are drawn for all groups alike often.  Groups by
    brightness; so pieces are standardised before they are grouped.
    """

    centroids: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.register_buffer("centroids", torch.zeros_like(self.head.prototypes))

    def group(
        self, pool: VolumePool, places: Sequence[Place], random: np.random.Generator
    ) -> tuple[Indices, int]:
        """Part pieces by the present encoder's features, and make the head anew."""
        features = self._look_back(pool, places)
        self.head.space.fit(features)
        labels, refilled = _find_centroids(self.head.space(features), self.centroids, random)
        self.head.prototypes.copy_(functional.normalize(self.centroids, dim=1))
        self.past_head.load_state_dict(self.head.state_dict())
        return labels, refilled

    def label(self, pieces: Tensor) -> Tensor:
        """Return ``(B,)``: the groups whose centroids are nearest to the features."""
        return nearest(self.past_head.space(self.describe_past(pieces)), self.centroids)


class SelfLabelling(_SelfGrouping):
    """Predict labels that are the network's own predictions, moved so that all are given alike often.

    Asano, Rupprecht & Vedaldi (2020), Self-labelling via simultaneous clustering and representation
    learning: at every regrouping the log-probabilities of new pieces are made labels by optimal transport
    (`clustering.column_potentials`, entropy weight `PretextConfig.sharpness`), which parts them equally.

    The trap: one label for everything solves the task without error; the equal partition rules it out.
    """

    potentials: Tensor

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.register_buffer("potentials", torch.zeros(context.config.clusters))

    def group(
        self, pool: VolumePool, places: Sequence[Place], random: np.random.Generator
    ) -> tuple[Indices, int]:
        """Part pieces equally by the present predictions."""
        features = self._look_back(pool, places)
        if not self.begun:
            self.head.space.fit(features)
        self.past_head.load_state_dict(self.head.state_dict())
        scores = self._score(features)
        found = column_potentials(_to_floats(scores), self.context.config.sharpness)
        self.potentials.copy_(torch.from_numpy(found).float())
        return (scores + self.potentials).argmax(1).cpu().numpy(), 0

    def _score(self, features: Tensor) -> Tensor:
        logits: Tensor = self.past_head(features)
        return logits.log_softmax(1)

    def label(self, pieces: Tensor) -> Tensor:
        """Return ``(B,)``: the predictions of the last grouping, moved as it moved them."""
        return (self._score(self.describe_past(pieces)) + self.potentials).argmax(1)


def _find_centroids(points: Tensor, centroids: Tensor, random: np.random.Generator) -> tuple[Indices, int]:
    """Part points ``(N, F)``, write the centroids; return each point's cluster and the number refilled."""
    features = _to_floats(points)
    labels, found = find_clusters(features, len(centroids), random)
    labels, found, refilled = refill_empty(labels, found, features, random)
    centroids.copy_(torch.from_numpy(found).float())
    return labels, refilled


def _to_floats(features: Tensor) -> Floats:
    values: Floats = features.cpu().double().numpy()
    return values


SIMILARITY_TASKS: Mapping[str, TaskBuilder] = {
    "exemplar": Exemplar,
    "clustering": Clustering,
    "deep_cluster": DeepCluster,
    "self_labelling": SelfLabelling,
}
"""Name of a task → what solves it."""
