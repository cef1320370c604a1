"""Prepared cases in memory, as many as a budget allows; the others in files that are read piece by piece.

The files are plain ``.npy`` arrays in a folder of their own, which is removed at the end.  That of a process
that was killed is removed when the next one begins.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.cases import PreparedCase, find_presence
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.sampling import LabelledVoxels, TrainingArrays

_PREFIX = ".sparseseg-cases-"
_LOCK = "lock.sqlite"
_YOUNG_SECONDS = 60.0
_PARTS = ("image", "annotation", "weights", "sources")
_LAID_OUT = ("labels", "label_weights", "taught", "voxels")


@dataclass(frozen=True)
class StoredCase:
    """What is known of a stored case beside its arrays; the fields are those of `PreparedCase`."""

    name: str
    spacing: tuple[float, float, float]
    start: Triple
    whole: Triple
    before: Triple
    image_labels: tuple[ImageLabel, ...]
    outside_absent: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StoredCase":
        """Make it of what `to_json` returned."""
        z, y, x = (float(length) for length in values["spacing"])
        return cls(
            str(values["name"]), (z, y, x), to_triple(values["start"]), to_triple(values["whole"]),
            to_triple(values["before"]), tuple(ImageLabel(**label) for label in values["image_labels"]),
            bool(values["outside_absent"]),
        )  # fmt: skip


class CaseStore(Sequence[PreparedCase]):
    """The cases that a network learns from, each with further arrays by name.

    An array of a case that is on disk is memory-mapped whenever it is asked for, and is out of memory again
    when the caller lets go of it.  What is changed in such an array is not written back.

    Parameters
    ----------
    classes
        Number of classes, background included, which image-level labels may be of.
    memory_mb
        Megabytes of cases that may stay in memory; None for all.
    parent
        Where to make the folder for the others; the system's folder for temporary files by default.
    """

    def __init__(self, classes: int, memory_mb: int | None = None, parent: Path | None = None) -> None:
        self._classes = classes
        self._budget = None if memory_mb is None else memory_mb * 1_000_000
        self._parent = parent or Path(tempfile.gettempdir())
        if memory_mb is not None:
            _remove_deserted(self._parent)
        self._folder: Path | None = None
        self._lock: sqlite3.Connection | None = None
        self._cases: list[StoredCase] = []
        self._presences: list[Presence | None] = []
        self._arrays: list[dict[str, NDArray[Any]] | None] = []  # None: on disk
        self._reserved = 0
        self._counts: dict[int, tuple[int, ...]] = {}

    @classmethod
    def opened(cls, folder: Path, classes: int, cases: Sequence[StoredCase]) -> "CaseStore":
        """Return a store that reads what that of another process keeps in `folder`."""
        store = cls(classes)
        store._budget, store._folder = 0, folder
        for case in cases:
            store._append(case, None)
        return store

    @property
    def folder(self) -> Path | None:
        """Where the files are; None as long as there are none."""
        return self._folder

    @property
    def cases(self) -> tuple[StoredCase, ...]:
        """What is known of the cases beside their arrays."""
        return tuple(self._cases)

    @property
    def held_bytes(self) -> int:
        """How much memory the arrays take that are in memory."""
        arrays = [array for held in self._arrays for array in (held or {}).values()]
        return sum({id(array): array.nbytes for array in arrays}.values())

    def in_memory(self, index: int) -> bool:
        """Return whether a case is in memory."""
        return self._arrays[index] is not None

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[PreparedCase]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> PreparedCase: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PreparedCase]: ...
    def __getitem__(self, index: int | slice) -> PreparedCase | Sequence[PreparedCase]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        case = self._cases[index]
        image, annotation = self._need(index, "image"), self._need(index, "annotation")
        return PreparedCase(
            image, case.spacing, annotation, self.get(index, "weights"), case.name,
            sources=self.get(index, "sources"), image_labels=case.image_labels,
            outside_absent=case.outside_absent, start=case.start, whole=case.whole, before=case.before,
            presence=self._presences[index],
        )  # fmt: skip

    def add(self, case: PreparedCase) -> None:
        """Take a case in: into memory where there is room for it and for all that will be laid out of it."""
        labelled = int(np.count_nonzero(case.annotation))
        parts = {name: getattr(case, name) for name in _PARTS if getattr(case, name) is not None}
        # Labels, their weights and two previews' labels; voxels labelled and held out, and answers for these.
        needed = sum(part.nbytes for part in parts.values()) + 5 * case.annotation.size + 16 * labelled
        fits = self._budget is None or self._reserved + needed <= self._budget
        self._reserved += needed if fits else 0
        stored = StoredCase(
            case.name, case.spacing, case.start, case.whole, case.before, case.image_labels,
            case.outside_absent,
        )  # fmt: skip
        self._append(stored, {} if fits else None)
        for name, part in parts.items():
            self.put(len(self) - 1, name, part)

    def _append(self, case: StoredCase, arrays: dict[str, NDArray[Any]] | None) -> None:
        self._cases.append(case)
        self._presences.append(
            find_presence(
                case.image_labels, case.before, case.whole, self._classes, outside_absent=case.outside_absent
            )
        )
        self._arrays.append(arrays)

    def put(self, index: int, name: str, array: NDArray[Any]) -> None:
        """Keep an array of a case, in place of the one of that name."""
        held = self._arrays[index]
        if held is not None:
            held[name] = array
            return
        path = self._path(index, name)
        try:
            path.parent.mkdir(exist_ok=True)
            with (path.parent / "new").open("wb") as file:
                np.save(file, array, allow_pickle=False)
            (path.parent / "new").replace(path)
        except OSError as error:
            raise InputError(
                f"the volumes do not fit into memory and cannot be kept in {path.parent.parent} "
                f"({error.strerror}); free some space, choose another folder or allow more memory."
            ) from error

    def get(self, index: int, name: str) -> NDArray[Any] | None:
        """Return an array of a case; None where there is none of that name."""
        held = self._arrays[index]
        if held is not None:
            return held.get(name)
        path = self._path(index, name)
        if not path.exists() and path.parent.is_dir():
            return None
        return _open(path)

    def _need(self, index: int, name: str) -> NDArray[Any]:
        array = self.get(index, name)
        if array is None:
            raise _damaged(self._path(index, name))
        return array

    def put_laid_out(self, index: int, arrays: TrainingArrays) -> None:
        """Keep how a case is learnt, in place of how it was before."""
        labelled = arrays.labelled or LabelledVoxels.of(arrays.labels.numpy())
        assert not isinstance(labelled.voxels, Path)
        self._counts[index] = labelled.counts
        laid_out = (arrays.labels.numpy(), arrays.weights.numpy(), arrays.preview.numpy(), labelled.voxels)
        for name, array in zip(_LAID_OUT, laid_out, strict=True):
            self.put(index, name, array)

    def laid_out(self, index: int) -> TrainingArrays:
        """Return how a case is learnt, on the CPU."""
        case = self._cases[index]
        image, labels, weights, taught = (
            torch.from_numpy(self._need(index, name)) for name in ("image", *_LAID_OUT[:3])
        )
        held = self._arrays[index]
        voxels = self._path(index, "voxels") if held is None else held["voxels"]
        return TrainingArrays(
            image, labels, weights, taught, case.spacing, case.start, case.whole, self._presences[index],
            LabelledVoxels(self._counts[index], voxels),
        )  # fmt: skip

    @property
    def counts(self) -> dict[int, tuple[int, ...]]:
        """By case the labels of each class that occurs, as they are laid out."""
        return dict(self._counts)

    @counts.setter
    def counts(self, counts: Mapping[int, tuple[int, ...]]) -> None:
        self._counts = dict(counts)

    def _path(self, index: int, name: str) -> Path:
        if self._folder is None:
            self._folder, self._lock = _make_folder(self._parent)
        return self._folder / f"{index:05d}" / f"{name}.npy"

    def close(self) -> None:
        """Let go of everything, and remove the files if this store has made them."""
        self._arrays = [None] * len(self)
        if self._lock is not None and self._folder is not None:
            self._lock.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock = None


def _open(path: Path) -> NDArray[Any]:
    try:
        # A private copy: torch wants arrays that can be written.
        array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    return array


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}, which keeps a part of a volume during the training, was damaged or removed; leave the "
        "folder alone and begin again, or go on with --resume."
    )


def _make_folder(parent: Path) -> tuple[Path, sqlite3.Connection]:
    """Make a folder with a lock that the system lets go of when the process ends."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = sqlite3.connect(folder / _LOCK, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"the volumes do not fit into memory and cannot be kept in {parent} ({error}); choose another "
            "folder or allow more memory."
        ) from error
    return folder, lock


def _remove_deserted(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, sqlite3.Error):
            if not (folder / _LOCK).exists() and time.time() - folder.stat().st_mtime < _YOUNG_SECONDS:
                continue  # it is just being made
            with closing(sqlite3.connect(folder / _LOCK, isolation_level=None, timeout=0)) as lock:
                lock.execute("BEGIN EXCLUSIVE")  # fails while its process lives
            shutil.rmtree(folder, ignore_errors=True)
