"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sparseseg.errors import InputError


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is flushed to disk and renamed to `target`.

    The temporary file keeps the whole name of the target as its ending, so that writers which choose
    a format by suffix (``.nii.gz``) see the right one.  When the block raises, the temporary file is
    removed and `target` is untouched.

    Raises
    ------
    InputError
        If the folder cannot be created or written to, or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=target.parent) as folder:
            temporary = Path(folder) / target.name
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{target} cannot be written ({reason}); choose another place or free some space."
        ) from error


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Raise `InputError` where results cannot be written to `folder`, before long work is done for it."""
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(f"{folder} cannot be written: {existing} does not take files; choose another place.")


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `target` atomically, as UTF-8."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # only POSIX lets a directory be opened and flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
