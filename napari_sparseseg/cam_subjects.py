"""The networks that class maps ask: a classifier, or a segmentation network made to answer like one."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sparseseg.cam_methods import Question
from napari_sparseseg.cam_windows import WindowGrid
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.classifier import Classifier, ClassifierNetwork
from napari_sparseseg.encoders import encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.inference import PlacedNetwork, Slab, predict_slabs
from napari_sparseseg.networks import Precision, Triple, to_triple
from napari_sparseseg.resampling import resample_image, shape_at

Subject = Classifier | Model
"""A trained network that can be asked."""

LOOKING = 0.1
"""Share of the work that finding out what the network sees takes, as it is reported."""

_LOOKING_WORDS = "Looking at the volume"
_LARGEST_GROWTH = 64
_BALL_RADIUS = 2.0  # voxels of the network's grid round the voxel asked about
_UNSEEN = 0.02  # a window with less than this share of the best one's evidence is not worth occluding
_LITTLE_LARGER = 1.25
_BOX_SHARE = 1 / 3  # of the window's side that the boxes have which a classifier's score is about


@dataclass(frozen=True, eq=False)
class MappedVolume:
    """A volume on a network's grid, and what the network says of a class in it.

    Attributes
    ----------
    image
        ``(C, z, y, x)`` normalised.
    voxel
        The voxel asked about on that grid, if any.
    region
        For a segmentation network ``(z, y, x)`` the share of each voxel in the mean logit asked about; they
        sum to 1.  None for a classifier.
    score
        How sure the network is that the class is there, 0 to 1.
    least_score
        A window with a lower score need not be looked into.
    windows
        Number of windows to look into.
    covered
        ``(z, y, x)`` bool: where windows to ask about lie; elsewhere the map is 0.
    """

    image: Tensor
    voxel: Triple | None
    region: Tensor | None
    score: float
    least_score: float
    windows: int
    covered: Tensor


class EvidenceScores(nn.Module):
    """Scores a window by what speaks for a class anywhere in it, for occlusion of a classifier.

    The logit of a large window is a mean of mostly background, and covering an object hardly moves it.  This
    is minus the logarithm of the probability that no feature shows the class, each taken for itself
    (noisy-or), over their number: it falls by what is covered.

    Parameters
    ----------
    network
        The classifier.
    """

    def __init__(self, network: ClassifierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores ``(B, K - 1)``, above 0."""
        features = self.network.features(x)
        logits: Tensor = self.network.head(features.movedim(1, -1))
        return nn.functional.softplus(logits).mean((1, 2, 3))


class RegionScores(nn.Module):
    """Makes a segmentation network answer like a classifier: ``(B, K - 1)`` mean logits over a region.

    Vinogradova et al. 2020, SEG-GRAD-CAM, with the mean in place of the sum.

    Parameters
    ----------
    network
        ``(B, C, Z, Y, X)`` to ``(B, K, Z, Y, X)`` logits.

    Attributes
    ----------
    region
        ``(Z, Y, X)``: by how much each voxel counts.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.region = torch.ones(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums over the region of the logits of the classes without background."""
        logits: Tensor = self.network(x)[:, 1:]
        return (logits * self.region).sum((2, 3, 4))


def open_volume(
    subject: Subject,
    network: nn.Module,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    label: int,
    *,
    overlap: float,
    voxel: Triple | None = None,
    device: torch.device,
) -> Generator[Event, None, MappedVolume]:
    """Bring a volume to a network's grid, and find out what the network says of a class in it.

    Parameters
    ----------
    subject, network
        The network's description, and what it built; `network` is moved to `device`.
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    label
        The class as the annotation has it, from 2 on.
    overlap
        Of the windows, as in `cam_windows.WindowGrid`.
    voxel
        The place asked about ``(Z, Y, X)``.
    device
        Where to compute.

    Raises
    ------
    InputError
        If image, label or voxel do not fit the network, or a classifier has not learnt the class.
    """
    _check(subject, image, label, voxel)
    shape = to_triple(image.shape[1:])
    work_shape = shape_at(shape, spacing, subject.spacing)
    if math.prod(work_shape) > _LARGEST_GROWTH * math.prod(shape):
        raise InputError(
            "the volume's voxels are far larger than those that the network was trained at; check the voxel "
            "size, or use another network."
        )
    normalised = subject.normalisation.apply(np.ascontiguousarray(image, np.float32))
    if work_shape != shape:
        normalised = resample_image(normalised, work_shape)
    place = voxel and to_triple(
        min(int((v + 0.5) * have / length), have - 1)
        for v, have, length in zip(voxel, work_shape, shape, strict=True)
    )
    tensor = torch.from_numpy(normalised)
    network.to(device).eval()
    if isinstance(subject, Classifier):
        assert isinstance(network, ClassifierNetwork)
        grid = make_grid(subject, tensor, place, overlap)
        box = [_BOX_SHARE * size for size in subject.window]
        score, evidence = yield from _score_windows(network, grid, box, label, device)
        least = _UNSEEN * max(evidence)
        covered, _ = _cover(grid, None)
        return MappedVolume(tensor, place, None, score, least, sum(e >= least for e in evidence), covered)
    region, score = yield from _find_region(subject, network, tensor, label, place, device)
    grid = make_grid(subject, tensor, place, overlap)
    covered, windows = _cover(grid, region)
    return MappedVolume(tensor, place, region, score, -math.inf, windows, covered)


def _check(subject: Subject, image: NDArray[np.float32], label: int, voxel: Triple | None) -> None:
    if image.ndim != 4 or image.shape[0] != subject.channels or not image.size:
        raise InputError(
            f"the volume has the shape {image.shape} and the network was trained on {subject.channels} "
            "channels; give the same channels in the same order."
        )
    if not 2 <= label <= len(subject.table):
        raise InputError(
            f"the network knows no class {label}, its classes are 2 to {len(subject.table)}; "
            "choose one of them."
        )
    name = subject.table.names[label - 1]
    if isinstance(subject, Classifier) and name not in subject.summary.get("learnt", (name,)):
        raise InputError(
            f"the classifier has not learnt {name}: say in which slices it is and in which it is not, "
            "and let it learn again."
        )
    if voxel is not None and not all(0 <= v < n for v, n in zip(voxel, image.shape[1:], strict=True)):
        raise InputError(f"the voxel {tuple(voxel)} lies outside the volume; choose one inside it.")


def make_grid(subject: Subject, image: Tensor, voxel: Triple | None, overlap: float) -> WindowGrid:
    """Return the windows of a volume ``(C, z, y, x)`` on the network's grid.

    They have the size of the training patch, or of what the classifier was trained on.  A volume that is
    smaller or little larger than that is one window to a classifier.
    """
    if isinstance(subject, Model):
        return WindowGrid(image, subject.plan.patch, position=subject.position, overlap=overlap, centre=voxel)
    divisors = [2 * math.prod(level[axis] for level in subject.plan.strides) for axis in range(3)]
    window = to_triple(
        max(length if length <= _LITTLE_LARGER * size else size, least)
        for size, length, least in zip(subject.window, image.shape[1:], divisors, strict=True)
    )
    return WindowGrid(image, window, position=False, overlap=overlap, centre=voxel)


def _cover(grid: WindowGrid, region: Tensor | None) -> tuple[Tensor, int]:
    """Return where the windows lie that touch a region, or all of them, and how many they are."""
    covered, windows = torch.zeros(grid.padded, dtype=torch.bool), 0
    padded = None if region is None else grid.pad(region)
    for start in grid.starts:
        part = grid.place(start)
        if padded is None or padded[part].any():
            covered[part] = True
            windows += 1
    return grid.crop(covered), windows


def _score_windows(
    network: ClassifierNetwork, grid: WindowGrid, box: Sequence[float], label: int, device: torch.device
) -> Generator[Event, None, tuple[float, list[float]]]:
    """Return the class's largest probability in a box of voxels anywhere, and the evidence by window."""
    strides = network.encoder.strides[-1]
    best, evidence = [], []
    scores = EvidenceScores(network)
    for number, start in enumerate(grid.starts):
        yield WorkDone(LOOKING * number / len(grid.starts), _LOOKING_WORDS)
        with torch.no_grad():
            window = grid.read(start, device)
            features = network.features(window)
            sides = [
                min(max(1, round(size / step)), length)
                for size, step, length in zip(box, strides, features.shape[2:], strict=True)
            ]
            means = nn.functional.avg_pool3d(features, sides, stride=1)
            logits = network.head(means.movedim(1, -1))[..., label - 2]
            best.append(float(logits.max().sigmoid()))
            evidence.append(float(scores(window)[0, label - 2]))
    return float(np.max(best)), evidence


def _find_region(
    model: Model, network: nn.Module, image: Tensor, label: int, voxel: Triple | None, device: torch.device
) -> Generator[Event, None, tuple[Tensor, float]]:
    """Return the share of each voxel in the mean logit asked about, and how probable the class is there."""
    shape = to_triple(image.shape[1:])
    probability, region = torch.zeros(shape), torch.zeros(shape)
    precision = Precision("float32", channels_last=False)
    placed = PlacedNetwork(network, model.plan, device, precision, model.position, len(model.table))
    for item in predict_slabs(placed, image, overlap=0.25):
        if isinstance(item, Slab):
            rows = slice(item.first, item.first + item.probabilities.shape[1])
            probability[rows] = item.probabilities[label - 1]
            region[rows] = item.probabilities.argmax(0).eq(label - 1).float()
        else:
            yield WorkDone(LOOKING * item.done / item.total, _LOOKING_WORDS)
    if voxel is not None:
        z, y, x = ((torch.arange(n) - v).square() for n, v in zip(shape, voxel, strict=True))
        region = (z[:, None, None] + y[:, None] + x).le(_BALL_RADIUS**2).float()
    if region.any():
        return region / region.sum(), float(probability[region > 0].mean())
    yield Noted(
        f"The network gives no voxel to {model.table.names[label - 1]}: "
        "the map shows what speaks for it anywhere in the volume."
    )
    return torch.full(shape, 1 / math.prod(shape)), float(probability.max())


def check_answers(score: float, values: Tensor) -> None:
    """Raise an `InputError` where a network's score or raw map is not finite, as after a failed training."""
    if not (math.isfinite(score) and values.isfinite().all()):
        raise InputError(
            "the network's answers are not finite numbers, so there is no map; let it learn again."
        )


def make_question(
    subject: Subject,
    network: nn.Module,
    volume: MappedVolume,
    label: int,
    level: int,
    *,
    evidence: bool,
    most_passes: int,
) -> Question:
    """Return what a network is asked about each window.

    Parameters
    ----------
    subject, network
        As for `open_volume`.  The network of a `Model` gets wrapped in `RegionScores`, whose region is set
        for each window.
    volume
        From `open_volume`.
    label
        The class as the annotation has it.
    level
        Of the encoder, from 1; 0 is a classifier's pooled level, or a segmentation network's deepest.
    evidence
        Ask a classifier for its `EvidenceScores` in place of its logits.
    most_passes
        As in `Question`.

    Raises
    ------
    InputError
        If the encoder has no such level.
    """
    if isinstance(network, ClassifierNetwork):
        encoder = network.encoder
        asked: nn.Module = EvidenceScores(network) if evidence else network
    else:
        encoder, asked = encoder_of(network, subject.plan), RegionScores(network)
    levels = len(encoder.stages)
    if not 0 <= level <= levels:
        raise InputError(f"the network has {levels} levels and no level {level}; choose 0 to {levels}.")
    row = (level or levels) - 1
    head = None
    if isinstance(network, ClassifierNetwork) and row == levels - 1:
        head = network.head.weight[label - 2].detach()
    span = volume.image.amax((1, 2, 3)) - volume.image.amin((1, 2, 3))
    return Question(
        network=asked,
        layer=_called_module(asked, encoder.stages[row]),
        stride=encoder.strides[row],
        index=label - 2,
        head=head,
        channels=subject.channels,
        span=span,
        most_passes=most_passes,
        least_score=volume.least_score,
    )


def _called_module(network: nn.Module, stage: nn.Module) -> nn.Module:
    """Return the module of `network` that gives a stage's features; some stages hold several."""
    known = set(network.modules())
    while stage not in known:
        stage = list(stage.children())[-1]
    return stage
