"""Arrays that two processes on one machine see: files mapped into memory, of no use to anybody later.

They lie in ``/dev/shm`` (memory) where the machine has it and it is roomy enough, else in the user's cache
folder.  The owner's process id stands in a file's name, so that those of a process that was killed can be
found and removed; nobody but the user may read them.
"""

import errno
import math
import mmap
import os
import platform
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.requests import SharedHandle

_MEMORY_FOLDER = Path("/dev/shm")
_MEMORY_TO_SPARE = 2  # times the need must be free there: others want memory too
_PLAIN_KINDS = "biuf"
_ZEROS = bytes(2**20)
_NOT_RESERVABLE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


class SharedArray:
    """An array in a file that other processes may attach to.

    Made by `create` (the owner, whose `close` removes the file) or `attach`.  It can be used in a
    ``with`` statement.
    """

    def __init__(self, handle: SharedHandle, mapping: mmap.mmap, *, owned: bool) -> None:
        self._handle = handle
        # Nothing but the array and its views hold the mapping: closing it would leave them without ground.
        self._array: NDArray[Any] | None = np.ndarray(handle.shape, handle.dtype, mapping)
        # Runs when the array is forgotten, and at exit, too.
        self._remove = weakref.finalize(self, _remove_own, handle.path, os.getpid()) if owned else None

    @classmethod
    def create(cls, shape: Sequence[int], dtype: DTypeLike, *, folder: Path | None = None) -> Self:
        """Make an array of zeros.

        Parameters
        ----------
        shape
            Its shape.
        dtype
            A type of plain numbers.
        folder
            Where its file goes; by default in memory or, where that is scarce, into the cache folder.

        Raises
        ------
        InputError
            If there is no room for it.
        """
        lengths = tuple(int(length) for length in shape)
        kind = _plain_type(np.dtype(dtype).str)
        size = _size(lengths, kind)
        sweep_dead(folder)
        chosen = _choose_folder(size) if folder is None else folder
        path: str | None = None
        try:
            chosen.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(".array", f"{_prefix()}{os.getpid()}-", chosen)
            with open(descriptor, "r+b", buffering=0) as file:
                _reserve(file.fileno(), size)
                mapping = mmap.mmap(file.fileno(), size)
        except OSError as error:
            if path is not None:
                _remove_own(path, os.getpid())
            raise InputError(
                f"there is no room for {_in_words(size)} in {chosen} ({error.strerror or error}); "
                "free some memory or disk space, or work on a smaller image."
            ) from error
        return cls(SharedHandle(path, kind.str, lengths), mapping, owned=True)

    @classmethod
    def attach(cls, handle: SharedHandle) -> Self:
        """See the array of another process.

        Raises
        ------
        InputError
            If there is no such array any more, or it is not of that size.
        """
        kind = _plain_type(handle.dtype)
        size = _size(handle.shape, kind)
        try:
            with open(handle.path, "r+b", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    raise InputError(
                        f"{handle.path} is not an array of shape {handle.shape} and type {handle.dtype}; "
                        "open the image again."
                    )
                mapping = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise InputError(
                f"the shared array {handle.path} is gone ({error.strerror or error}); open the image again."
            ) from error
        return cls(handle, mapping, owned=False)

    @property
    def array(self) -> NDArray[Any]:
        """The array, as all processes see it; not after `close`."""
        if self._array is None:
            raise ValueError("this shared array was closed")
        return self._array

    @property
    def handle(self) -> SharedHandle:
        """What another process needs to `attach`."""
        return self._handle

    def close(self) -> None:
        """Let go of the array; the owner's close removes its file.  Closing twice does nothing.

        Views that are still in use stay valid, here and in other processes; the memory is free when
        the last one is gone.
        """
        self._array = None
        if self._remove is not None:
            self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep_dead(folder: Path | None = None) -> int:
    """Remove the arrays whose owner has ended without doing so; return how many.

    Parameters
    ----------
    folder
        Where to look; by default wherever `SharedArray.create` puts them.
    """
    name = re.compile(re.escape(_prefix()) + r"(\d+)-.*\.array")
    removed = 0
    for place in (folder,) if folder is not None else (_MEMORY_FOLDER, _cache_folder()):
        for path in _files_in(place):
            match = name.fullmatch(path.name)
            if match and not _is_alive(int(match[1])):
                with suppress(OSError):  # somebody else's, or just removed
                    path.unlink()
                    removed += 1
    return removed


def _choose_folder(size: int) -> Path:
    usable = _MEMORY_FOLDER.is_dir() and os.access(_MEMORY_FOLDER, os.W_OK)
    if usable and shutil.disk_usage(_MEMORY_FOLDER).free >= _MEMORY_TO_SPARE * size:
        return _MEMORY_FOLDER
    return _cache_folder()


def _cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("napari-sparseseg")) / "shared"


def _files_in(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return ()


def _prefix() -> str:
    """Return how the names of this machine's files begin; a cache folder may be shared by several."""
    machine = re.sub(r"\W+", "_", platform.node()) or "machine"
    return f"sparseseg-{machine}-"


def _is_alive(process: int) -> bool:
    """Tell whether a process of this machine runs; False where only trying to remove its files can tell."""
    if os.name != "posix":  # there a file in use cannot be removed, and a kill with signal 0 is no question
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _plain_type(name: str) -> np.dtype[Any]:
    try:
        kind = np.dtype(name)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name!r:.40} is not a type of numbers that can be shared.") from error
    if kind.kind not in _PLAIN_KINDS:
        raise InputError(f"arrays of type {kind} cannot be shared; convert the image to numbers.")
    return kind


def _size(shape: tuple[int, ...], kind: np.dtype[Any]) -> int:
    """Return the file's size in bytes: at least one, as nothing cannot be mapped."""
    if any(length < 0 for length in shape):
        raise InputError(f"an array cannot have the shape {shape}.")
    return max(1, math.prod(shape) * kind.itemsize)


def _reserve(descriptor: int, size: int) -> None:
    """Make the file that long and really take the room: a hole would end the process when it is filled."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NOT_RESERVABLE:
                raise
        else:
            return
    left = size
    while left > 0:
        left -= os.write(descriptor, _ZEROS[: min(left, len(_ZEROS))])


def _remove_own(path: str, process: int) -> None:
    if os.getpid() == process:  # a forked child forgets a copy only
        with suppress(OSError):
            os.unlink(path)


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
