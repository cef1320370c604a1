"""Unlabelled volumes, of which only as many are in memory at once as a budget allows."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.resampling import resample_image, resample_labels, shape_at

_TRIES = 4
_LEAST_CONTRAST = 0.2
_KEPT_SHARE = 0.75  # where volumes take turns; the rest is for those that are read ahead
_RENEWED_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class ReadVolume:
    """A volume as it was read.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` intensities, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes; None where nothing is labelled.
    """

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    annotation: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class VolumeSource:
    """Where a volume comes from; it is read whenever its turn comes.

    Attributes
    ----------
    name
        For messages.
    read
        Reads it; raises `InputError` where it cannot be read.
    """

    name: str
    read: Callable[[], ReadVolume]


@dataclass(frozen=True)
class Place:
    """Where a piece begins: index of the volume among all, and voxel ``(Z, Y, X)``."""

    volume: int
    start: Triple


@dataclass(frozen=True, eq=False)
class _Prepared:
    image: Tensor
    annotation: Tensor | None


class VolumePool:
    """Volumes normalised, on one voxel size and at least of one size; some of them in memory.

    Which ones are there depends on the seed and the number of the turn alone, so that a training that
    goes on finds what an uninterrupted one has.

    Parameters
    ----------
    sources
        All volumes.
    sizes
        Voxels of each, channels included, as they will be in memory.
    normalisation, spacing
        How intensities become a network's input, and the voxel size in mm ``(Z, Y, X)``.
    extent
        Least size in voxels ``(Z, Y, X)``; smaller volumes are continued by their border's values.
    memory_mb
        Megabytes of volumes that may be in memory, those read ahead among them; at least one volume is.
    seed
        Start of the random numbers that choose their order.
    """

    def __init__(
        self,
        sources: Sequence[VolumeSource],
        sizes: Sequence[int],
        normalisation: Normalisation,
        spacing: tuple[float, float, float],
        extent: Triple,
        memory_mb: int,
        seed: int,
    ) -> None:
        self._sources, self._sizes = sources, sizes
        self._normalisation, self._spacing, self._extent = normalisation, spacing, extent
        self._budget = memory_mb * 1_000_000 // 4
        self._seed = seed
        self._there: dict[int, _Prepared] = {}
        self._coming: dict[int, Future[_Prepared]] = {}
        self._reader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def resident(self) -> tuple[int, ...]:
        """Indices of the volumes in memory, in ascending order."""
        return tuple(sorted(self._there))

    @property
    def changes(self) -> bool:
        """Whether volumes take turns because not all fit into memory."""
        return sum(self._sizes) > self._budget and len(self._sources) > 1

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Read the volumes of the next turn in a thread, meanwhile."""
        with ThreadPoolExecutor(1) as self._reader:
            try:
                yield
            finally:
                for future in self._coming.values():
                    future.cancel()
                self._coming.clear()
                self._reader = None

    def turn(self, number: int) -> None:
        """Have the volumes of turn `number`, from 0, in memory; each turn changes a quarter of them."""
        wanted = self._chosen(number)
        for index in set(self._there) - wanted:
            del self._there[index]
        for index in sorted(wanted - set(self._there)):
            coming = self._coming.pop(index, None)
            self._there[index] = coming.result() if coming else self._prepare(index)
        ahead = self._ahead(number)
        for index in set(self._coming) - ahead:
            self._coming.pop(index).cancel()
        if self._reader is not None:
            for index in sorted(ahead - set(self._coming)):
                self._coming[index] = self._reader.submit(self._prepare, index)

    def _ahead(self, number: int) -> set[int]:
        """Return which further volumes of the next turn there is room for in turn `number`."""
        there, ahead = self._chosen(number), set[int]()
        room = self._budget - sum(self._sizes[index] for index in there)
        for index in sorted(self._chosen(number + 1) - there):
            if self._sizes[index] <= room:
                ahead.add(index)
                room -= self._sizes[index]
        return ahead

    def _chosen(self, number: int) -> set[int]:
        if not self.changes:
            return set(range(len(self._sources)))
        typical = sorted(self._sizes)[len(self._sizes) // 2]
        kept = _KEPT_SHARE * self._budget
        shift = max(1, int(_RENEWED_SHARE * kept / typical))
        first, chosen, used = number * shift, set[int](), 0
        while True:
            index = self._ordered(first)
            if chosen and (index in chosen or used + self._sizes[index] > kept):
                return chosen
            chosen.add(index)
            used += self._sizes[index]
            first += 1

    def _ordered(self, position: int) -> int:
        """Return the volume at a position of the endless order: one permutation after the other."""
        lap, within = divmod(position, len(self._sources))
        order = np.random.default_rng([self._seed, lap]).permutation(len(self._sources))
        return int(order[within])

    def _prepare(self, index: int) -> _Prepared:
        source, channels = self._sources[index], len(self._normalisation.windows)
        read = source.read()
        if len(read.image) != channels:
            raise InputError(
                f"{source.name} had {channels} channels and has {len(read.image)} now; leave the volumes as "
                "they are while they are learnt from."
            )
        image = self._normalisation.apply(read.image)
        annotation = read.annotation
        before = to_triple(image.shape[1:])
        shape = shape_at(before, read.spacing, self._spacing)
        if shape != before:
            image = resample_image(image, shape)
            annotation = None if annotation is None else resample_labels(annotation, shape)
        missing = [max(0, want - have) for want, have in zip(self._extent, shape, strict=True)]
        pads = [(n // 2, n - n // 2) for n in missing]
        image = np.pad(image, [(0, 0), *pads], mode="edge")
        if annotation is not None:
            annotation = np.pad(annotation, pads)
        return _Prepared(
            torch.from_numpy(image), None if annotation is None else torch.from_numpy(annotation)
        )

    def image(self, volume: int) -> Tensor:
        """Return ``(C, Z, Y, X)`` float32 intensities of a volume in memory."""
        return self._there[volume].image

    def annotation(self, volume: int) -> Tensor | None:
        """Return its ``(Z, Y, X)`` uint8 annotation; None where nothing is labelled."""
        return self._there[volume].annotation

    def draw_volume(self, random: np.random.Generator) -> int:
        """Draw a volume of those in memory."""
        return int(random.choice(self.resident))

    def draw_place(self, random: np.random.Generator, size: Triple) -> Place:
        """Draw a box of `size` voxels that lies in a volume, and where possible shows more than air."""
        volume = self.draw_volume(random)
        image = self.image(volume)
        for _ in range(_TRIES):
            place = Place(volume, self._draw_start(random, image, size))
            if float(self.cut(place, size).std()) > _LEAST_CONTRAST:  # a volume's own deviation is 1
                break
        return place

    @staticmethod
    def _draw_start(random: np.random.Generator, image: Tensor, size: Triple) -> Triple:
        room = [have - want for have, want in zip(image.shape[1:], size, strict=True)]
        return to_triple(random.integers(0, free + 1) for free in room)

    def cut(self, place: Place, size: Triple) -> Tensor:
        """Return the ``(C, Z, Y, X)`` voxels of a box that lies in a volume."""
        z, y, x = (slice(first, first + length) for first, length in zip(place.start, size, strict=True))
        return self.image(place.volume)[:, z, y, x]

    def draw_pieces(self, random: np.random.Generator, size: Triple, count: int) -> Tensor:
        """Draw ``(count, C, Z, Y, X)`` pieces of `size` voxels."""
        return torch.stack([self.cut(self.draw_place(random, size), size) for _ in range(count)])
