"""What earlier runs left in a batch's folder: its records, what of them still holds, the lock.

``records/NAME.json`` is written when a volume's results are all there, so whoever ends the process, at
whatever moment, leaves results with a record that fits them, or work to be done again.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from napari_sparseseg.atomic import check_folder, write_text
from napari_sparseseg.batch_records import BatchRecord, record_from_json, record_to_json
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import short_name

RECORDS = "records"
"""Folder of the records and pictures in a batch's folder."""

_LOCK = ".lock"
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_LARGEST_RECORD = 10_000_000  # bytes


def record_path(out: Path, name: str) -> Path:
    """Return where the record of the volume `name` lies."""
    return out / RECORDS / f"{name}.json"


def thumbnail_path(out: Path, name: str) -> Path:
    """Return where the picture of the volume `name` lies."""
    return out / RECORDS / f"{name}.png"


def write_record(out: Path, record: BatchRecord) -> None:
    """Write a record, atomically; raise `InputError` where that is impossible."""
    write_text(record_path(out, record.name), json.dumps(record_to_json(record), indent=1) + "\n")


def read_record(out: Path, name: str) -> BatchRecord | None:
    """Return the record of a volume; None where there is none, or none that this version can read."""
    path = record_path(out, name)
    try:
        if path.stat().st_size > _LARGEST_RECORD:
            return None
        return record_from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, TypeError):
        return None


def is_done(out: Path, record: BatchRecord, model_hash: str, settings_hash: str) -> bool:
    """Tell whether a volume whose input is unchanged needs no more work: its results are there as written."""
    return (
        not record.error
        and (record.model_hash, record.settings_hash) == (model_hash, settings_hash)
        and bool(record.results)
        and len(record.results) == len(record.result_hashes)
        and all(
            hash_file(out / file) == known
            for file, known in zip(record.results.values(), record.result_hashes, strict=True)
        )
    )


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes; empty where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def is_result(file: Path, root: Path) -> bool:
    """Tell whether a batch wrote a file, into whichever folder between `root`, left out, and the file."""
    if not file.is_relative_to(root):
        return False
    for out in list(file.parents)[: len(file.relative_to(root).parts) - 1]:
        if not os.path.isdir(out / RECORDS):  # unlike Path.is_dir, no complaint of a closed folder
            continue
        result = file.relative_to(out)
        stem = result.with_name(short_name(file)).as_posix()
        for name in (stem, stem.rpartition("_")[0]):  # a mask, or a map that lies beside it
            record = read_record(out, name) if name else None
            if record and result.as_posix() in record.written:
                return True
    return False


@contextmanager
def hold_folder(out: Path) -> Iterator[None]:
    """Keep other batches out of a folder while this one works in it; the folder is made.

    The system lets go of it when the process ends, in whatever way.  Where a file system has no locks,
    nobody is kept out.

    Raises
    ------
    InputError
        If another batch is at work there, or it cannot be written.
    """
    check_folder(out)
    try:
        (out / RECORDS).mkdir(parents=True, exist_ok=True)
        lock = (out / RECORDS / _LOCK).open("ab")
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another place.") from error
    with lock:
        try:
            _lock_file(lock)
        except OSError as error:
            if error.errno in _TAKEN:
                raise InputError(
                    f"another batch is writing to {out}; wait for its end, or choose another folder."
                ) from None
        yield


def _lock_file(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(out: Path, names: Iterable[str]) -> None:
    """Delete the temporary folders that a process that was killed left where these volumes' results lie."""
    folders = {out, out / RECORDS}
    for name in names:
        folders |= {(out / name).parent, record_path(out, name).parent}
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                leftovers = [entry.path for entry in entries if entry.name.startswith(".writing-")]
            for leftover in leftovers:
                shutil.rmtree(leftover, ignore_errors=True)
