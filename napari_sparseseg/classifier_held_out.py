"""Which volumes or slices a classifier does not learn from, so that it can be measured by them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.classifier_bags import BagDrawer, BagSource
from napari_sparseseg.image_labels import ABSENT, PRESENT

_FEWEST_VOLUMES = 4
_BLOCK = 0.1
_TRIES = 50


@dataclass(frozen=True, eq=False)
class HeldOut:
    """How volumes are divided.

    Attributes
    ----------
    learnt
        What bags to learn from are drawn out of: all volumes, with what may be used of their labels, and
        which of their slices are avoided.
    measured
        What bags to measure by are drawn out of; empty where nothing can be spared.
    indices
        Which volume each of `measured` is.
    within_volume
        Whether they are slices of volumes that are learnt from.  Figures are optimistic then: features see
        the slices beside theirs; and bags that rest on labels across another axis have to hold such slices
        where they need the full extent of a class to show it.
    """

    learnt: tuple[BagSource, ...]
    measured: tuple[BagSource, ...]
    indices: tuple[int, ...]
    within_volume: bool


def hold_out(sources: Sequence[BagSource], share: float, random: np.random.Generator) -> HeldOut:
    """Choose whole volumes where there are four or more, else runs of slices of each volume.

    Every class that can be learnt from all labels can be learnt from what is left.  Nothing is held out
    where no class could be measured by it.

    Parameters
    ----------
    sources
        All volumes, with all their labels.
    share
        Aim for this share of the volumes or slices, more where that is too few to measure by; 0 holds
        out nothing.
    random
        Decides between volumes.
    """
    if share > 0 and len(sources) >= _FEWEST_VOLUMES:
        return _hold_out_volumes(sources, share, random)
    if share > 0:
        return _hold_out_slices(sources, share)
    return HeldOut(tuple(sources), (), (), within_volume=False)


def _complete(sources: Sequence[BagSource]) -> set[int]:
    """Return the classes of which the sources have bags that show them and bags that lack them."""
    drawer = BagDrawer(sources, np.random.default_rng(0), (1, 1, 1))
    labels = range(2, sources[0].presence.classes + 1) if sources else ()
    return {label for label in labels if len(drawer.showing(label)) and len(drawer.lacking(label))}


def _hold_out_volumes(sources: Sequence[BagSource], share: float, random: np.random.Generator) -> HeldOut:
    first = max(1, round(share * len(sources)))
    needed, most = _complete(sources), 0
    best: tuple[int, ...] = ()
    for number in range(first, max(first, len(sources) // 2) + 1):
        for _ in range(_TRIES):
            chosen = tuple(sorted(random.permutation(len(sources))[:number].tolist()))
            kept = [source for index, source in enumerate(sources) if index not in chosen]
            scored = len(_complete([sources[index] for index in chosen]))
            if scored > most and _complete(kept) >= needed:
                best, most = chosen, scored
        if best:
            break
    learnt = tuple(_silence(s) if index in best else s for index, s in enumerate(sources))
    return HeldOut(learnt, tuple(sources[i] for i in best), best, within_volume=False)


def _silence(source: BagSource) -> BagSource:
    z, y, x = (np.zeros(length, bool) for length in source.shape)
    return BagSource(source.presence, (z, y, x), whole=False)


def _hold_out_slices(sources: Sequence[BagSource], share: float) -> HeldOut:
    learnt = list(sources)
    measured, indices = [], []
    needed = _complete(sources)
    for index, source in enumerate(sources):
        axis = _most_telling_axis(source)
        length = source.shape[axis]
        block = max(2, round(_BLOCK * length))
        blocks: list[int] = []
        for start in _rank_blocks(source, axis, block):
            if (len(blocks) + 1) * block > max(share * length, 2 * block):
                break
            trial = _limit(source, axis, block, [*blocks, start], inside=False)
            if _complete([*learnt[:index], trial, *learnt[index + 1 :]]) >= needed:
                blocks.append(start)
                learnt[index] = trial
        if blocks:
            measured.append(_limit(source, axis, block, blocks, inside=True))
            indices.append(index)
    if not _complete(measured):
        return HeldOut(tuple(sources), (), (), within_volume=True)
    return HeldOut(tuple(learnt), tuple(measured), tuple(indices), within_volume=True)


def _most_telling_axis(source: BagSource) -> int:
    """Return the axis across which the labels hold most of both answers."""

    def tells(axis: int) -> float:
        known = [source.presence.slices(label, axis) for label in range(2, source.presence.classes + 1)]
        return sum(float(min((s == PRESENT).mean(), (s == ABSENT).mean())) for s in known)

    return max(range(3), key=tells)


def _rank_blocks(source: BagSource, axis: int, block: int) -> list[int]:
    """Return first slices of runs that do not touch, those first that add most to the answers before them."""
    classes = range(2, source.presence.classes + 1)
    known = np.stack([source.presence.slices(label, axis) for label in classes])
    starts = range(known.shape[1] - block + 1)
    tells = {start: _tell(known, start, block) for start in starts}
    chosen: list[int] = []
    covered = np.zeros((2, len(known)))
    while True:
        gains = {
            start: float((np.maximum(covered, tells[start]) - covered).sum())
            for start in starts
            if all(abs(start - other) >= 2 * block for other in chosen)
        }
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= 0:
            return chosen
        covered = np.maximum(covered, tells[best])
        chosen.append(best)


def _tell(known: NDArray[np.int8], start: int, block: int) -> NDArray[np.float64]:
    """Return ``(2, K - 1)`` how well a run of slices shows each class, and how well it lacks it.

    It does so best amid slices of the same answer: next to others, its features see these too.
    """
    inside, near = known[:, start : start + block], known[:, max(0, start - block) : start + 2 * block]
    shows = (inside == PRESENT).mean(1) * (1 + (near == PRESENT).mean(1))
    lacks = (inside == ABSENT).all(1) * (1 + (near == ABSENT).mean(1))
    return np.stack([shows, lacks])


def _limit(source: BagSource, axis: int, block: int, starts: Sequence[int], *, inside: bool) -> BagSource:
    """Return a volume of which only the slices inside the blocks may be used, or only those outside them."""
    held: NDArray[np.bool_] = np.zeros(source.shape[axis], bool)
    for start in starts:
        held[start : start + block] = True
    if not inside:
        z, y, x = (_keep(source, along, axis, ~held) for along in range(3))
        return replace(source, allowed=(z, y, x), avoided=_across(source, axis, held))
    return BagSource(source.presence, _across(source, axis, held), whole=False)


def _across(
    source: BagSource, axis: int, slices: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    z, y, x = (slices if along == axis else np.zeros(n, bool) for along, n in enumerate(source.shape))
    return z, y, x


def _keep(source: BagSource, along: int, axis: int, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what is allowed along an axis when only `kept` is along `axis`."""
    return source.allowed[along] & kept if along == axis else source.allowed[along]
