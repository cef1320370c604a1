"""Patches round labelled voxels: the random draw, and its pure application.

`PatchSampler.draw` makes every random decision; `extract_patch` applies it and is deterministic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.image_labels import ABSENT, Presence
from napari_sparseseg.networks import Triple, to_triple

_STRONGEST_GROWTH = 1.2
_LARGEST_TURN = 0.26  # radians


@dataclass(frozen=True, eq=False)
class LabelledVoxels:
    """Which voxels of a case are labelled, class after class.

    Attributes
    ----------
    counts
        How many there are of each class that occurs.
    voxels
        ``(N,)`` their flat indices; or the ``.npy`` file that holds them, of which one at a time is read.
    """

    counts: tuple[int, ...]
    voxels: NDArray[np.int64] | Path

    @classmethod
    def of(cls, labels: NDArray[np.uint8]) -> "LabelledVoxels":
        """Find the labelled voxels of a ``(Z, Y, X)`` annotation."""
        flat = labels.reshape(-1)
        found = [np.flatnonzero(flat == value) for value in range(1, int(flat.max(initial=0)) + 1)]
        counts = tuple(len(voxels) for voxels in found if len(voxels))
        return cls(counts, np.concatenate([np.zeros(0, np.int64), *found]))

    def pick(self, position: int) -> int:
        """Return the flat index of the voxel at `position`."""
        values = np.load(self.voxels, mmap_mode="r") if isinstance(self.voxels, Path) else self.voxels
        return int(values[position])


@dataclass(frozen=True, eq=False)
class TrainingArrays:
    """One case as tensors on the training device, all on one ``(Z, Y, X)`` grid.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities.
    labels
        ``(Z, Y, X)`` uint8 annotation to learn from (held-out labels removed).
    weights
        ``(Z, Y, X)`` float16 weight of each label.
    preview
        ``(Z, Y, X)`` uint8 labels of the preview's confident voxels; 0 where unsure or annotated.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    start, whole
        Where this grid begins in the volume it was cut from, and that volume's shape; None: it is whole.
    presence
        What image-level labels say of that volume, on the grid of its voxels; None for nothing.
    labelled
        Where `labels` are; None: not known yet.
    """

    image: Tensor
    labels: Tensor
    weights: Tensor
    preview: Tensor
    spacing: tuple[float, float, float]
    start: Triple = (0, 0, 0)
    whole: Triple | None = None
    presence: Presence | None = None
    labelled: LabelledVoxels | None = None


@dataclass(frozen=True, eq=False)
class PatchDraw:
    """The random decisions behind one patch.

    Attributes
    ----------
    case
        Index of the case.
    centre
        Voxel ``(Z, Y, X)`` at the patch's centre.
    transform
        ``(3, 3)`` matrix from patch offsets to volume offsets, in voxels; None for the identity.
    gain, shift, gamma
        Intensities become ``sign(v)·|v|^gamma · gain + shift``.
    noise, noise_seed
        Standard deviation of the added Gaussian noise, and its seed.
    """

    case: int
    centre: Triple
    transform: NDArray[np.float64] | None
    gain: float
    shift: float
    gamma: float
    noise: float
    noise_seed: int


@dataclass(frozen=True, eq=False)
class Patch:
    """``image (C, Z, Y, X)`` and ``labels``, ``weights``, ``preview (Z, Y, X)`` of one patch."""

    image: Tensor
    labels: Tensor
    weights: Tensor
    preview: Tensor


class PatchSampler:
    """Draws patches whose centres lie near labelled voxels, the classes in balance.

    Half of the draws take a class at random and then one of its labelled voxels; the others take any
    labelled voxel (nnU-Net's foreground oversampling, adapted to sparse labels).  The centre is then
    moved by up to a quarter of the patch.  Cases are drawn evenly, so that one with many labels does
    not drown one with few.  A share `anywhere` of the centres is drawn from the whole case: worth it
    where the preview has labelled all of it.  A share `first` comes from the first case whatever others there
    are: worth it where the user waits for its answer.
    """

    def __init__(
        self,
        cases: Sequence[TrainingArrays],
        patch: Triple,
        random: np.random.Generator,
        *,
        flips: bool,
        anywhere: float = 0.0,
        first: float = 0.0,
    ) -> None:
        self._patch = patch
        self._random = random
        self._flips = flips
        self._anywhere = anywhere
        self._first = first
        self._spacings: list[tuple[float, float, float]] = []
        self._shapes: list[Triple] = []
        self._labelled: list[LabelledVoxels] = []
        for case in cases:  # once each: they may be opened one by one
            self._spacings.append(case.spacing)
            self._shapes.append(to_triple(case.labels.shape))
            self._labelled.append(case.labelled or LabelledVoxels.of(case.labels.cpu().numpy()))
        self._usable = [index for index, labelled in enumerate(self._labelled) if labelled.counts]
        self._focus, self._focus_draws = (0, np.zeros(0, np.int64)), 0

    def focus(self, case: int, voxels: NDArray[np.int64], draws: int) -> None:
        """Let every second one of the next `draws` patches lie round one of these voxels (flat indices)."""
        self._focus, self._focus_draws = (case, voxels), draws if len(voxels) else 0

    def take_focus(self, other: "PatchSampler") -> None:
        """Draw round what `other` was still to draw round; its cases must be the first of these."""
        self._focus, self._focus_draws = other._focus, other._focus_draws

    def draw(self) -> PatchDraw:
        """Draw one patch."""
        random = self._random
        case = self._usable[random.integers(len(self._usable))]
        if self._first and self._labelled[0].counts and random.random() < self._first:
            case = 0
        counts = self._labelled[case].counts
        first, count = 0, sum(counts)
        if random.random() < 0.5:  # the classes in balance
            chosen = int(random.integers(len(counts)))
            first, count = sum(counts[:chosen]), counts[chosen]
        focused = False
        if self._focus_draws:
            self._focus_draws -= 1
            focused = self._focus_draws % 2 == 1
        if focused:
            case, voxels = self._focus
            position = int(voxels[random.integers(len(voxels))])
        else:
            position = self._labelled[case].pick(first + int(random.integers(count)))
        shape = self._shapes[case]
        if self._anywhere and random.random() < self._anywhere:
            position = int(random.integers(math.prod(shape)))
        voxel = np.array(np.unravel_index(position, shape))
        jitter = [random.integers(-(size // 4), size // 4 + 1) for size in self._patch]
        centre = [
            _keep_inside(int(v + j), size, length)
            for v, j, size, length in zip(voxel, jitter, self._patch, shape, strict=True)
        ]
        noisy = random.random() < 0.15
        return PatchDraw(
            case=case,
            centre=(centre[0], centre[1], centre[2]),
            transform=self._draw_transform(self._spacings[case]),
            gain=float(random.uniform(0.85, 1.15)),
            shift=float(random.uniform(-0.15, 0.15)),
            gamma=float(random.uniform(0.8, 1.25)) if random.random() < 0.15 else 1.0,
            noise=float(random.uniform(0, 0.15)) if noisy else 0.0,
            noise_seed=int(random.integers(2**31)),
        )

    def _draw_transform(self, spacing: tuple[float, float, float]) -> NDArray[np.float64] | None:
        random = self._random
        matrix = np.eye(3)
        changed = False
        if random.random() < 0.25:
            angle = random.uniform(-_LARGEST_TURN, _LARGEST_TURN)
            scale = random.uniform(0.85, _STRONGEST_GROWTH)
            # In the plane of thick slices, about any axis otherwise: never mixing unlike voxels.
            pairs = [pair for pair in ((0, 1), (0, 2), (1, 2)) if _may_turn(spacing, *pair)]
            rotation = np.eye(3)
            if pairs:
                first, second = pairs[random.integers(len(pairs))]
                ratio = spacing[second] / spacing[first]
                rotation[first, first] = rotation[second, second] = math.cos(angle)
                rotation[first, second] = -math.sin(angle) * ratio
                rotation[second, first] = math.sin(angle) / ratio
            matrix = rotation * scale
            changed = True
        if self._flips and random.random() < 0.5:
            matrix = matrix @ np.diag([1.0, 1.0, -1.0])
            changed = True
        return matrix if changed else None


def reach_of_patch(size: Triple, spacing: tuple[float, float, float]) -> Triple:
    """Return how far a patch may reach from the labelled voxel it is drawn round, in voxels ``(Z, Y, X)``.

    A case that is cut no closer than this round its labels gives the same patches as the whole one.
    """
    reach = []
    for axis, own in enumerate(size):
        turned = max(
            math.sin(_LARGEST_TURN) * size[other] / 2 * spacing[other] / spacing[axis]
            for other in range(3)
            if other == axis or _may_turn(spacing, axis, other)
        )
        reach.append(own // 4 + math.ceil(_STRONGEST_GROWTH * (own / 2 + turned)) + 2)
    return to_triple(reach)


def _may_turn(spacing: tuple[float, float, float], a: int, b: int) -> bool:
    return max(spacing[a], spacing[b]) <= 2 * min(spacing[a], spacing[b])


def _keep_inside(centre: int, size: int, length: int) -> int:
    """Move a patch inside the volume where it fits; centre it where it does not."""
    if size >= length:
        return length // 2
    return min(max(centre, size // 2), length - (size - size // 2))


def extract_patch(case: TrainingArrays, draw: PatchDraw, size: Triple, *, position: bool = False) -> Patch:
    """Cut the drawn patch out of its case.

    Beyond the volume's border the image is continued by its edge and labels are 0 (unlabelled).

    Parameters
    ----------
    case
        The case `draw` refers to.
    draw
        The random decisions.
    size
        Patch size in voxels ``(Z, Y, X)``.
    position
        Append `position_channels` to the image.
    """
    if draw.transform is None:
        patch, where = _cut(case, draw.centre, size)
    else:
        patch, where = _cut_transformed(case, draw.centre, size, draw.transform)
    image = patch.image * draw.gain + draw.shift
    if draw.gamma != 1.0:
        image = image.sign() * image.abs().pow(draw.gamma)
    if draw.noise > 0:
        generator = torch.Generator(image.device).manual_seed(draw.noise_seed)
        image = image + draw.noise * torch.randn(image.shape, generator=generator, device=image.device)
    if position:
        image = torch.cat([image, where.to(image.device)])
    return Patch(image, patch.labels, patch.weights, patch.preview)


def judge_presence(case: TrainingArrays, draw: PatchDraw, size: Triple) -> NDArray[np.int8] | None:
    """Tell what image-level labels say of the drawn patch; None where they say nothing of its case.

    A class is absent where it is absent from the box round the patch, and present where it is present in a
    box inside the patch: the two differ where the patch is turned or scaled.

    Returns
    -------
    ``(K - 1,)`` of the classes after background: 1 present, 0 absent, -1 unknown.
    """
    if case.presence is None:
        return None
    before, after = np.array([s // 2 for s in size]), np.array([(s - 1) // 2 for s in size])
    if draw.transform is None:
        return _judge_box(case, np.subtract(draw.centre, before), np.add(draw.centre, after))
    reach = np.abs(draw.transform) @ before
    around = _judge_box(case, np.floor(draw.centre - reach), np.ceil(draw.centre + reach))
    needed = np.abs(np.linalg.inv(draw.transform)) @ after
    share = float(np.min(after[needed > 0] / needed[needed > 0], initial=1.0))
    inside = _judge_box(case, np.ceil(draw.centre - share * after), np.floor(draw.centre + share * after))
    return np.where(around == 0, around, np.where(inside == 1, inside, np.int8(-1)))


def find_room(case: TrainingArrays, draw: PatchDraw, size: Triple, classes: int) -> NDArray[np.bool_]:
    """Return ``(classes - 1, Z, Y, X)``: where in the drawn patch image-level labels leave a class room."""
    offsets = np.meshgrid(*(np.arange(s) - s // 2 for s in size), indexing="ij", sparse=True)
    matrix = np.eye(3) if draw.transform is None else draw.transform
    room = np.ones((classes - 1, *size), bool)
    for axis in range(3):
        moved = sum(factor * offset for factor, offset in zip(matrix[axis], offsets, strict=True) if factor)
        position = np.rint(draw.centre[axis] + np.asarray(moved)).astype(np.int64)
        length = case.labels.shape[axis]
        room &= (position >= 0) & (position < length)
        if case.presence is not None:
            index = np.clip(position, 0, length - 1) + case.start[axis]
            for row, inside in enumerate(room):
                inside &= case.presence.slices(row + 2, axis)[index] != ABSENT
    return room


def _judge_box(case: TrainingArrays, first: NDArray[np.number], last: NDArray[np.number]) -> NDArray[np.int8]:
    """Judge the part inside the volume of a box of voxels from `first` to `last`."""
    assert case.presence is not None
    low = np.maximum(first, 0).astype(int)
    high = np.minimum(last + 1, case.labels.shape).astype(int)
    return case.presence.judge(to_triple(low + case.start), to_triple(high + case.start))


def _cut(case: TrainingArrays, centre: Triple, size: Triple) -> tuple[Patch, Tensor]:
    starts = [c - s // 2 for c, s in zip(centre, size, strict=True)]
    shape = case.labels.shape
    low = [max(0, -start) for start in starts]
    high = [max(0, start + s - length) for start, s, length in zip(starts, size, shape, strict=True)]
    window = tuple(
        slice(max(0, start), start + s - over) for start, s, over in zip(starts, size, high, strict=True)
    )
    image = case.image[(slice(None), *window)]
    labels, weights, preview = case.labels[window], case.weights[window], case.preview[window]
    if any(low) or any(high):
        pads = [low[2], high[2], low[1], high[1], low[0], high[0]]
        image = torch.nn.functional.pad(image[None], pads, mode="replicate")[0]
        labels, weights, preview = (
            torch.nn.functional.pad(array, pads) for array in (labels, weights, preview)
        )
    origin = to_triple(a + b for a, b in zip(starts, case.start, strict=True))
    where = position_channels(size, origin, case.whole or to_triple(shape), image.device)
    return Patch(image, labels, weights, preview), where


def _cut_transformed(
    case: TrainingArrays, centre: Triple, size: Triple, matrix: NDArray[np.float64]
) -> tuple[Patch, Tensor]:
    """Cut the patch at affinely moved positions: trilinear for the image, nearest voxel for labels."""
    shape = case.labels.shape
    device = case.image.device
    offsets = [torch.arange(s, device=device, dtype=torch.float32) - s // 2 for s in size]
    columns = torch.as_tensor(matrix, dtype=torch.float32, device=device)
    positions = [
        (
            centre[axis]
            + columns[axis, 0] * offsets[0][:, None, None]
            + columns[axis, 1] * offsets[1][None, :, None]
            + columns[axis, 2] * offsets[2][None, None, :]
        )
        for axis in range(3)
    ]
    grid = torch.stack([2 * positions[axis] / max(shape[axis] - 1, 1) - 1 for axis in (2, 1, 0)], dim=-1)
    image = torch.nn.functional.grid_sample(
        case.image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )[0]
    nearest = [position.round().to(torch.int64) for position in positions]
    inside = torch.ones(size, dtype=torch.bool, device=device)
    flat = torch.zeros(size, dtype=torch.int64, device=device)
    for axis in range(3):
        inside &= (nearest[axis] >= 0) & (nearest[axis] < shape[axis])
        flat = flat * shape[axis] + nearest[axis].clamp_(0, shape[axis] - 1)
    labels, weights, preview = (
        array.reshape(-1)[flat] * inside for array in (case.labels, case.weights, case.preview)
    )
    whole = case.whole or to_triple(shape)
    where = torch.stack([2 * (positions[a] + case.start[a]) / max(whole[a] - 1, 1) - 1 for a in range(3)])
    return Patch(image, labels, weights, preview), where


def position_channels(size: Triple, start: Triple, shape: Triple, device: torch.device) -> Tensor:
    """Return ``(3, Z, Y, X)`` channels: where each voxel of a window lies in its volume, from -1 to 1."""
    channels = []
    for axis in range(3):
        index = torch.arange(size[axis], device=device, dtype=torch.float32) + start[axis]
        line = 2 * index / max(shape[axis] - 1, 1) - 1
        view = [1, 1, 1]
        view[axis] = size[axis]
        channels.append(line.reshape(view).expand(size))
    return torch.stack(channels)
