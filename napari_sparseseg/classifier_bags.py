"""Parts of volumes, called bags, with what image-level labels say of them: what a classifier learns from.

A class must not be told by the size of a bag or by its shape: bags that show it and bags that do not
are drawn in the same sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.image_labels import ABSENT, PRESENT, Presence
from napari_sparseseg.networks import Triple, to_triple

_TRIES = 12
_WHOLE = 3  # after the three axes: the labels of the whole volume
_LARGEST_MARGIN = 0.2  # by which a bag is longer than the hull along the axis whose labels it rests on


@dataclass(frozen=True, eq=False)
class BagSource:
    """A volume that bags are cut out of.

    Attributes
    ----------
    presence
        What is known of it.
    allowed
        Per axis ``(n,)``: the slices whose labels may be used.  A bag's answer may rest on labels across an
        axis only if all its slices across that axis are allowed.
    whole
        Whether labels of the whole volume may be used.
    avoided
        Per axis ``(n,)``: the slices that no bag touches, whatever its answer rests on, where it has another
        place to be; None: there is no such slice.
    """

    presence: Presence
    allowed: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]
    whole: bool = True
    avoided: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]] | None = None

    @property
    def shape(self) -> Triple:
        """Voxels ``(Z, Y, X)``."""
        return self.presence.shape

    def free(self, axis: int) -> NDArray[np.bool_]:
        """Return ``(n,)`` which slices across an axis are not to be avoided."""
        return np.ones(self.shape[axis], bool) if self.avoided is None else ~self.avoided[axis]

    @classmethod
    def without_limits(cls, presence: Presence) -> "BagSource":
        """Return a volume all of whose labels may be used."""
        z, y, x = (np.ones(length, bool) for length in presence.shape)
        return cls(presence, (z, y, x))


@dataclass(frozen=True)
class Bag:
    """A box of voxels ``[start, stop)`` of the volume `source`, and whether it shows the class `label`."""

    source: int
    start: Triple
    stop: Triple
    label: int
    shown: bool

    @property
    def size(self) -> Triple:
        """Voxels ``(Z, Y, X)``."""
        return to_triple(b - a for a, b in zip(self.start, self.stop, strict=True))


def whole_bag(source: BagSource, number: int, label: int) -> Bag | None:
    """Return the bag that the whole of volume `number` is for a class; None where it cannot be used."""
    present = source.presence.is_present(label)
    whole = source.whole and all(source.free(axis).all() for axis in range(3))
    if present is None or not whole:
        return None
    return Bag(number, (0, 0, 0), source.shape, label, present)


class BagDrawer:
    """Draws bags that show a class and bags that do not, alike in size.

    Parameters
    ----------
    sources
        The volumes.
    random
        Decides.
    thickness
        Least size of a bag in voxels ``(Z, Y, X)``, where the volume has that many.
    """

    def __init__(self, sources: Sequence[BagSource], random: np.random.Generator, thickness: Triple) -> None:
        self._sources = sources
        self._random = random
        self._thickness = thickness
        self._shapes = np.array([source.shape for source in sources]).reshape(-1, 3)
        self._reaches: dict[int, _Reach] = {}

    def showing(self, label: int) -> NDArray[np.int64]:
        """Return the volumes out of which bags can be cut that show a class."""
        return np.flatnonzero(self._reach(label).showing.any(1))

    def lacking(self, label: int) -> NDArray[np.int64]:
        """Return the volumes out of which bags can be cut that lack a class."""
        return np.flatnonzero(self._reach(label).lacking.any(1))

    def draw(self, label: int, pairs: int, among: Sequence[int] | None = None) -> list[Bag]:
        """Return `pairs` bags of one size that show a class, and as many that lack it.

        Where no volume has room for both in one size, those that lack it are smaller; and where a volume
        is smaller, so is its bag.  Of a kind that the volumes `among`, by default all, cannot give,
        there is none.

        Raises
        ------
        ValueError
            If no volume at all can show the class.
        """
        size = self._draw_size(label)
        chosen = np.isin(
            np.arange(len(self._sources)), np.arange(len(self._sources)) if among is None else among
        )
        showing = self._ways_to_show(label, size) & chosen[:, None]
        if not showing.any() and self._reach(label).showing[chosen].any():
            size = self._draw_size(label, chosen)
            showing = self._ways_to_show(label, size) & chosen[:, None]
        bags = []
        if showing.any():
            bags += [self._place_showing(label, size, *self._pick(showing)) for _ in range(pairs)]
        fitting = self._ways_to_lack(label, size) & chosen[:, None]
        lacking = fitting if fitting.any() else self._ways_to_lack(label, (1, 1, 1)) & chosen[:, None]
        if lacking.any():
            bags += [self._place_lacking(label, size, *self._pick(lacking)) for _ in range(pairs)]
        return bags

    def _reach(self, label: int) -> "_Reach":
        if label not in self._reaches:
            self._reaches[label] = _Reach.of(label, self._sources)
        return self._reaches[label]

    def _pick(self, ways: NDArray[np.bool_]) -> tuple[int, int]:
        """Choose a volume, then a way to use its labels; so that none counts by how many it has."""
        source = int(self._random.choice(np.flatnonzero(ways.any(1))))
        return source, int(self._random.choice(np.flatnonzero(ways[source])))

    def _draw_size(self, label: int, chosen: NDArray[np.bool_] | None = None) -> Triple:
        showing = self._reach(label).showing > 0
        if chosen is not None:
            showing &= chosen[:, None]
        if not showing.any():
            raise ValueError(f"no volume shows the class {label}")
        for _ in range(_TRIES):
            source, way = self._pick(showing)
            size = self._propose(label, source, way)
            if self._ways_to_show(label, size)[source].any() and self._ways_to_lack(label, size).any():
                return size
        source, way = self._pick(showing)
        thinnest = list(self._thinnest(label, source, way))
        if way != _WHOLE:
            thinnest[way] = min(thinnest[way], int(self._reach(label).showing[source, way]))
        return to_triple(thinnest)

    def _propose(self, label: int, source: int, way: int) -> Triple:
        """Draw a size: any along the axis whose labels are used, that of the hull or more along others."""
        size = np.array(self._thinnest(label, source, way), np.float64)
        shape, hull = self._shapes[source], self._reach(label).hull[source]
        room = 1 + _LARGEST_MARGIN * self._random.random()
        for along in range(3):
            low = size[along]
            high = min(max(low, room * hull[along]), shape[along]) if along == way else shape[along]
            size[along] = low * (high / low) ** self._random.random()
        return to_triple(size.round())

    def _thinnest(self, label: int, source: int, way: int) -> Triple:
        hull = self._reach(label).hull[source]
        return to_triple(
            min(max(1 if along == way else hull[along], self._thickness[along]), length)
            for along, length in enumerate(self._shapes[source])
        )

    def _ways_to_show(self, label: int, size: Triple) -> NDArray[np.bool_]:
        """Return ``(N, 4)`` by which labels of which volume a bag of `size` can show a class.

        The ways are the axes, and the labels of the whole volume.
        """
        reach = self._reach(label)
        covers = np.array(size) >= reach.hull
        ways = np.zeros((len(self._sources), 4), bool)
        for axis in range(3):
            others = np.delete(covers, axis, 1).all(1)
            ways[:, axis] = others & (reach.showing[:, axis] >= np.minimum(size[axis], self._shapes[:, axis]))
            ways[:, axis] &= reach.showing[:, axis] > 0
        ways[:, _WHOLE] = covers.all(1) & (reach.showing[:, _WHOLE] > 0)
        return ways

    def _ways_to_lack(self, label: int, size: Triple) -> NDArray[np.bool_]:
        """Return ``(N, 4)`` by which labels of which volume a bag of `size` can lack a class."""
        reach = self._reach(label)
        taken = np.concatenate([np.minimum(size, self._shapes), np.ones((len(self._shapes), 1), int)], 1)
        ways: NDArray[np.bool_] = reach.lacking >= taken
        return ways

    def _place_showing(self, label: int, size: Triple, source: int, way: int) -> Bag:
        presence = self._sources[source].presence
        hull = presence.hull(label) or (slice(0, 0),) * 3
        start = []
        for along, length in enumerate(presence.shape):
            taken = min(size[along], length)
            if along == way:
                shows = _count(presence.slices(label, along) == PRESENT, taken) > 0
                allowed = _count(self._sources[source].allowed[along], taken) == taken
                start.append(int(self._random.choice(np.flatnonzero(shows & allowed))))
                continue
            first, last = max(0, hull[along].stop - taken), min(hull[along].start, length - taken)
            starts = np.arange(min(first, last), last + 1)
            start.append(self._draw_start(source, along, taken, starts))
        return self._cut(source, to_triple(start), size, label, shown=True)

    def _place_lacking(self, label: int, size: Triple, source: int, way: int) -> Bag:
        presence = self._sources[source].presence
        taken = [min(have, wanted) for have, wanted in zip(presence.shape, size, strict=True)]
        if way != _WHOLE:
            taken[way] = min(taken[way], int(self._reach(label).lacking[source, way]))
        start = [
            self._draw_start(source, along, part, np.arange(length - part + 1))
            for along, (length, part) in enumerate(zip(presence.shape, taken, strict=True))
        ]
        if way != _WHOLE:
            lacks = (presence.slices(label, way) == ABSENT) & self._sources[source].allowed[way]
            starts = np.flatnonzero(_count(lacks, taken[way]) == taken[way])
            start[way] = int(self._random.choice(starts))
        return self._cut(source, to_triple(start), to_triple(taken), label, shown=False)

    def _draw_start(self, source: int, along: int, length: int, starts: NDArray[np.int64]) -> int:
        """Return one of `starts`, where a bag of a length touches nothing to be avoided if it can."""
        free = _count(self._sources[source].free(along), length)[starts] == length
        return int(self._random.choice(starts[free] if free.any() else starts))

    def _cut(self, source: int, start: Triple, size: Triple, label: int, *, shown: bool) -> Bag:
        shape = self._sources[source].shape
        stop = to_triple(min(a + n, length) for a, n, length in zip(start, size, shape, strict=True))
        return Bag(source, start, stop, label, shown)


@dataclass(frozen=True, eq=False)
class _Reach:
    """How large a bag can be that the labels of a class settle.

    Attributes
    ----------
    showing, lacking
        ``(N, 4)`` per volume: the longest bag along each axis whose slices' labels can be used for it, and
        whether the labels of the whole volume can be (1 or 0).
    hull
        ``(N, 3)`` size of the box that holds all of the class.
    """

    showing: NDArray[np.int64]
    lacking: NDArray[np.int64]
    hull: NDArray[np.int64]

    @classmethod
    def of(cls, label: int, sources: Sequence[BagSource]) -> "_Reach":
        showing, lacking = np.zeros((2, len(sources), 4), np.int64)
        hulls = np.zeros((len(sources), 3), np.int64)
        for number, source in enumerate(sources):
            presence = source.presence
            hull = presence.hull(label)
            if hull is None:
                lacking[number, _WHOLE] = source.whole
                continue
            hulls[number] = [edge.stop - edge.start for edge in hull]
            showing[number, _WHOLE] = source.whole and presence.is_present(label) is True
            for axis in range(3):
                slices, allowed = presence.slices(label, axis), source.allowed[axis]
                lacking[number, axis] = max((len(r) for r in _runs(allowed & (slices == ABSENT))), default=0)
                showing[number, axis] = max(
                    (len(run) for run in _runs(allowed) if (slices[run] == PRESENT).any()), default=0
                )
        return cls(showing, lacking, hulls)


def _runs(flags: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the indices of each run of neighbours that are set."""
    indices = np.flatnonzero(flags)
    return [run for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if len(run)]


def _count(flags: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Return how many of `flags` each run of `length` neighbours holds, by its first one."""
    sums = np.concatenate([[0], np.cumsum(flags)])
    counts: NDArray[np.int64] = sums[length:] - sums[: len(flags) - length + 1]
    return counts
