"""Tasks about where the parts of a volume belong."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.permutations import choose_permutations, mean_hamming
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskBuilder, TaskContext
from napari_sparseseg.tiling import count_tiles, draw_inside, lay_out, neighbours, plan_tiling, usable_extent
from napari_sparseseg.turns import Turn, cube_turns, plane_turns
from napari_sparseseg.volume_pool import VolumePool

_FEATURES = 128
_HIDDEN = 256
_NEIGHBOURS = 8
_LAYOUTS = 4
_EQUAL = 1.1  # lengths that differ by no more than this factor count as one
_FLAT = 2.0
_BORDER_SHARE = 12
_FEWEST_TILES = 4

ChoosePermutations = Callable[[int, int, int], NDArray[np.int64]]
"""Chooses orders by the number of tiles, the number of orders and a seed."""


def _condense(task: PretextTask) -> nn.Module:
    """Return what makes ``(B, _FEATURES)`` of what the encoder says of a piece, part by part."""
    return nn.Sequential(nn.Linear(task.encoder.summary_length, _FEATURES), nn.ReLU())


def _choose_among(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, classes))


def _measure(scores: Tensor, answers: Tensor) -> Outcome:
    """Compare ``(N, classes)`` scores with the ``(N,)`` right classes, all of which are equally frequent."""
    scores = scores.float()
    right = (scores.detach().argmax(1) == answers).float().mean()
    chance = torch.full_like(right, 1 / scores.shape[1])
    return Outcome(functional.cross_entropy(scores, answers), right, chance)


def _to_array(image: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = image.detach().float().cpu().numpy()
    return array


class RelativePosition(PretextTask):
    """Say which neighbour of one tile another tile is: one of 26, or 8 or 2 where an axis is too short.

    After Doersch, Gupta & Efros (2015), Unsupervised visual representation learning by context prediction,
    in 3D.  Both tiles go through one encoder, a small head compares what comes out.

    Its traps: borders that continue from tile to tile (a gap lies between them, and each is moved at
    random); trends of brightness over the volume (each tile has mean 0 and deviation 1; a trend that bends
    remains); the voxels by which a small volume is continued, which point to its border (tiles take up no
    more than the typical volume has, and keep clear of them wherever a volume has the room).  The first
    tile's place says nothing of the second's: there is room for all neighbours around it.

    Raises
    ------
    InputError
        If three tiles fit along no axis.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_encoder())
        least = _least_side(self)
        config = context.config
        plan = plan_tiling((3, 3, 3), context, least, config.gap, config.jitter)
        counts = to_triple(3 if count == 3 else 1 for count in plan.counts)
        self.tiling = plan_tiling(counts, context, least, config.gap, config.jitter)
        if counts == (1, 1, 1):
            raise InputError(
                f"three tiles of {_words(least)} voxels with gaps between them fit along no axis of the "
                f"volumes, which have {_words(context.shape)}; choose a smaller gap or another task."
            )
        self._around = neighbours(counts)
        self.describe = _condense(self)
        self.head = _choose_among(2 * _FEATURES, len(self._around))

    @property
    def smallest(self) -> Triple:
        """Size in voxels of a tile."""
        return self.tiling.side

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw tiles ``(B, 1 + K, C, Z, Y, X)``, a middle one and K neighbours, and which ``(B, K)``."""
        count = min(_NEIGHBOURS, len(self._around))
        tiles, answers = [], []
        for _ in range(self.context.batch_size):
            which = random.permutation(len(self._around))[:count]
            cells = [self._middle, *(self._around[index] for index in which)]
            place = draw_inside(pool, random, self.tiling.span, self.context.extent)
            tiles.append(self.tiling.cut(pool, place, cells, random))
            answers.append(torch.from_numpy(which))
        return {"tiles": torch.stack(tiles), "neighbours": torch.stack(answers)}

    def learn(self, batch: Batch) -> Outcome:
        """Compare the middle tile with each of its neighbours."""
        return _measure(self._score(batch).flatten(0, 1), batch["neighbours"].flatten())

    def _score(self, batch: Batch) -> Tensor:
        features = _describe_tiles(self, self.describe, batch["tiles"])
        first, others = features[:, :1], features[:, 1:]
        scores: Tensor = self.head(torch.cat([first.expand_as(others), others], 2))
        return scores

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return two tiles beside each other, and where the second belongs and is believed to belong."""
        tiles = _to_array(batch["tiles"][0, :2, 0])
        believed = self._around[int(self._score(batch)[0, 0].argmax())]
        true = self._around[int(batch["neighbours"][0, 0])]
        axis = max(axis for axis, count in enumerate(self.tiling.counts) if count > 1)
        beside = list(self._middle), list(self._middle)
        beside[0][axis], beside[1][axis] = 0, 2
        cells = {
            "input": tuple(to_triple(cell) for cell in beside),
            "target": (self._middle, true),
            "prediction": (self._middle, believed),
        }
        return [Picture(name, lay_out(tiles, where, self.tiling.counts)) for name, where in cells.items()]

    @property
    def _middle(self) -> Triple:
        return to_triple(count // 2 for count in self.tiling.counts)


class Jigsaw(PretextTask):
    """Say in which of a set of orders the tiles of a piece are laid out.

    After Noroozi & Favaro (2016), Unsupervised learning of visual representations by solving jigsaw
    puzzles, with 2×2×2 or 3×3×3 tiles; an axis too short for these has fewer.  Each tile goes through one
    encoder, a head sees what comes out in the order of the layout.

    Its traps: those of `RelativePosition`, avoided in the same way; and orders so alike that nothing but a
    tile or two tells them apart: the set is chosen for maximal Hamming distance.

    Parameters
    ----------
    context
        What the task is built from.
    choose
        Chooses the orders.

    Raises
    ------
    InputError
        If there are fewer than 4 tiles.
    """

    orders: Tensor
    said: Tensor

    def __init__(self, context: TaskContext, choose: ChoosePermutations = choose_permutations) -> None:
        super().__init__(context, context.build_encoder())
        config, least = context.config, _least_side(self)
        wanted = (config.tiles, config.tiles, config.tiles)
        self.tiling = plan_tiling(wanted, context, least, config.gap, config.jitter)
        tiles = count_tiles(self.tiling)
        if tiles < _FEWEST_TILES:
            raise InputError(
                f"a jigsaw needs {_FEWEST_TILES} tiles of {_words(least)} voxels or more, with gaps, "
                f"and the volumes have {_words(context.shape)}; choose a smaller gap or another task."
            )
        orders = choose(tiles, min(config.permutations, math.factorial(tiles)), 0)
        self.mean_hamming = mean_hamming(orders)
        self.register_buffer("orders", torch.from_numpy(orders))
        self.register_buffer("said", torch.tensor(data=False))
        self.describe = _condense(self)
        self.head = _choose_among(tiles * _FEATURES, len(orders))

    @property
    def smallest(self) -> Triple:
        """Size in voxels of a tile."""
        return self.tiling.side

    def regroup(self, pool: VolumePool, random: np.random.Generator) -> Sequence[str]:
        """Say once how far the orders are apart."""
        if self.said:
            return ()
        self.said.fill_(value=True)
        count, tiles = self.orders.shape
        return (
            f"The tiles are laid out in {count} orders that differ in {self.mean_hamming:.2f} of {tiles} "
            "places on average.",
        )

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw tiles ``(B, T, C, Z, Y, X)`` as they lie in the volume, and layouts ``(B, K)`` for them."""
        count = min(_LAYOUTS, len(self.orders))
        tiles, layouts = [], []
        for _ in range(self.context.batch_size):
            place = draw_inside(pool, random, self.tiling.span, self.context.extent)
            tiles.append(self.tiling.cut(pool, place, self.tiling.cells, random))
            layouts.append(torch.from_numpy(random.permutation(len(self.orders))[:count]))
        return {"tiles": torch.stack(tiles), "layouts": torch.stack(layouts)}

    def learn(self, batch: Batch) -> Outcome:
        """Look at the tiles in each of the layouts; they need to be described only once."""
        return _measure(self._score(batch).flatten(0, 1), batch["layouts"].flatten())

    def _score(self, batch: Batch) -> Tensor:
        features = _describe_tiles(self, self.describe, batch["tiles"])
        orders = self.orders[batch["layouts"]]
        pieces = torch.arange(len(features), device=features.device)[:, None, None]
        scores: Tensor = self.head(features[pieces, orders].flatten(2))
        return scores

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return the tiles as they are laid out, as they belong, and put back as is believed."""
        tiles = _to_array(batch["tiles"][0, :, 0])
        orders = self.orders.cpu().numpy()
        shuffled = tiles[orders[int(batch["layouts"][0, 0])]]
        put_back = np.empty_like(tiles)
        put_back[orders[int(self._score(batch)[0, 0].argmax())]] = shuffled
        named = {"input": shuffled, "target": tiles, "prediction": put_back}
        return [
            Picture(name, lay_out(shown, self.tiling.cells, self.tiling.counts))
            for name, shown in named.items()
        ]


class Rotation(PretextTask):
    """Say by which right angles a piece is turned: one of the cube's 24 rotations, or of 4 in a plane.

    After Gidaris, Singh & Komodakis (2018), Unsupervised representation learning by predicting image
    rotations.  The cube is turned where voxels are nearly cubes and the piece is not flat, otherwise squares
    in the plane of the slices, whose voxels are squares.

    Its traps: the shape of piece or voxels tells the turn (a cube or square of equal spacing is cut); so does
    what lies along the border of a volume, such as dark first slices or the values by which a small volume
    is continued (what is cut keeps away from it).  What remains is what a scanner does to one direction
    everywhere, such as a smoother slice direction: turning in the plane of the slices is blind to it.

    Raises
    ------
    InputError
        If no such cube or square can be cut.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.build_encoder())
        usable = usable_extent(context)
        self._margin = to_triple(have // _BORDER_SHARE for have in usable)
        inner = to_triple(
            min(usual, have - 2 * margin)
            for usual, have, margin in zip(context.crop, usable, self._margin, strict=True)
        )
        self._turns, self.size = self._choose(inner)
        self.describe = _condense(self)
        self.head = _choose_among(_FEATURES, len(self._turns))

    def _choose(self, inner: Triple) -> tuple[tuple[Turn, ...], Triple]:
        """Return the turns and the size in voxels of what is turned, at most `inner`."""
        spacing, wanted = self.context.spacing, self.context.config.turns
        least = max(_least_side(self))
        side = min(inner)
        equal = max(spacing) <= _EQUAL * min(spacing)
        if wanted == "cube" and not (equal and side >= least):
            why = f"voxels are {_words(spacing)} mm" if not equal else f"volumes are {_words(inner)} voxels"
            raise InputError(
                f"the {why}, so that no cube of {least} voxels a side can be turned; turn in the plane, or "
                "let auto choose."
            )
        flat = max(inner) > _FLAT * side
        if wanted == "cube" or (wanted == "auto" and equal and side >= least and not flat):
            return cube_turns(), (side, side, side)
        for axis in sorted(range(3), key=lambda axis: -spacing[axis]):
            first, second = (other for other in range(3) if other != axis)
            lengths, side = (spacing[first], spacing[second]), min(inner[first], inner[second])
            if max(lengths) <= _EQUAL * min(lengths) and side >= least:
                return plane_turns(axis), to_triple(inner[a] if a == axis else side for a in range(3))
        raise InputError(
            f"the voxels are {_words(spacing)} mm and the volumes {_words(inner)} voxels, so that no square "
            f"of {least} voxels a side can be turned; choose another task."
        )

    @property
    def smallest(self) -> Triple:
        """Size in voxels of what is turned."""
        return self.size

    @property
    def _whole(self) -> Triple:
        """Size in voxels of what is cut: a margin lies around what is turned."""
        return to_triple(n + 2 * margin for n, margin in zip(self.size, self._margin, strict=True))

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns to tell apart; the first leaves a piece as it is."""
        return self._turns

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw turned pieces ``(B, C, Z, Y, X)`` and the numbers of their turns ``(B,)``."""
        z, y, x = (slice(m, m + n) for n, m in zip(self.size, self._margin, strict=True))
        extent = self.context.extent
        places = [draw_inside(pool, random, self._whole, extent) for _ in range(self.context.batch_size)]
        pieces = [pool.cut(place, self._whole)[:, z, y, x] for place in places]
        which = random.integers(0, len(self._turns), len(pieces))
        turned = [self._turns[turn].apply(piece) for piece, turn in zip(pieces, which, strict=True)]
        return {"pieces": torch.stack(turned), "turns": torch.from_numpy(which)}

    def learn(self, batch: Batch) -> Outcome:
        """Look at each turned piece."""
        return _measure(self._score(batch["pieces"]), batch["turns"])

    def _score(self, pieces: Tensor) -> Tensor:
        scores: Tensor = self.head(self.describe(self.embed(pieces)))
        return scores

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a piece as it is turned, upright, and turned back as is believed."""
        piece = batch["pieces"][0, 0].float().cpu()
        believed = int(self._score(batch["pieces"][:1])[0].argmax())
        backwards = {"target": int(batch["turns"][0]), "prediction": believed}
        upright = [
            Picture(name, _to_array(self._turns[number].inverse().apply(piece)))
            for name, number in backwards.items()
        ]
        return [Picture("input", _to_array(piece)), *upright]


def _least_side(task: PretextTask) -> Triple:
    """Return the voxels that leave more than one along each axis of the coarsest features."""
    return to_triple(stride + 1 for stride in task.encoder.strides[-1])


def _describe_tiles(task: PretextTask, describe: nn.Module, tiles: Tensor) -> Tensor:
    """Return ``(B, T, _FEATURES)`` for ``(B, T, C, Z, Y, X)`` tiles."""
    features: Tensor = describe(task.embed(tiles.flatten(0, 1)))
    return features.reshape(*tiles.shape[:2], _FEATURES)


def _words(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


SPATIAL_TASKS: Mapping[str, TaskBuilder] = {
    "relative_position": RelativePosition,
    "jigsaw": Jigsaw,
    "rotation": Rotation,
}
"""Name of a task → what solves it."""
