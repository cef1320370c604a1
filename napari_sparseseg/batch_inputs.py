"""The volumes that files, patterns, folders and manifests name, each with a name of its own."""

import glob
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from napari_sparseseg.batch_ledger import is_result
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.csv_tables import read_table
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import is_dicom, is_readable, series_name, short_name, source_files
from napari_sparseseg.volume_files import find_volumes

MAP_SUFFIXES = ("_uncertainty", "_probabilities")
"""What the names of maps end in that lie beside a mask."""

_MOST_CHANNELS = 16
_CHUNK = 1 << 22  # bytes
_UNUSUAL = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')  # in names: line breaks, and what not all systems take


@dataclass(frozen=True)
class _Found:
    """A volume that has no name yet.

    Attributes
    ----------
    files
        As `BatchInput` has them.
    place
        The parts of its absolute path, the last without its suffix.
    count
        How many of them, from the end, its name has at least.
    whole
        What the last part is where another file has the same one.
    given
        Whether the user chose the name.
    """

    files: tuple[str, ...]
    place: tuple[str, ...]
    count: int
    whole: str
    given: bool = False

    @property
    def name(self) -> str:
        return "/".join(self.place[-self.count :])

    @property
    def key(self) -> str:
        """The name as file systems compare it that do not tell capitals from small letters."""
        return self.name.casefold()


def find_inputs(texts: Sequence[str], out: str | os.PathLike[str] | None = None) -> tuple[BatchInput, ...]:
    """Return the volumes that `texts` name, in that order; each once.

    Each text is a file, channels on one grid as ``a.nii.gz,b.nii.gz``, a pattern with ``*``, ``?``, ``[…]``
    or ``**``, a folder (with all below it; each DICOM series is a volume), or a manifest: a ``.csv`` file
    with a column ``image`` (relative to the manifest; further channels behind ``;`` or in ``image2``,
    ``image3``, …) and, if wanted, ``name``.  What does not exist is returned, too, so that it is told like
    any other failure.

    A volume is called by its file; one that was found in a folder, or by a pattern, by its path from there.
    Where that is the name of two, more of their folders are put before it.

    What a batch wrote into a folder below the one that is named, or searched by a pattern, is left out.

    Parameters
    ----------
    texts
        What the user gave.
    out
        Folder for the results; nothing in it is taken for a volume where it lies in a folder to be searched.

    Raises
    ------
    InputError
        If nothing is named, a manifest cannot be used or gives a name twice, or the results are to lie among
        the volumes of a folder.
    """
    results = None if out is None else Path(os.path.abspath(Path(out).expanduser()))
    found = [volume for text in texts for volume in _find(text, results)]
    if not found:
        raise InputError("no volume was given; name files, folders or a manifest.")
    first = {volume.files: volume for volume in reversed(found)}
    return _name_all(_merge_series([volume for volume in found if first[volume.files] is volume]))


def hash_input(files: Iterable[str]) -> str:
    """Return the SHA-256 of all bytes of a volume's files; for one file it is that of the file.

    Headers' voxel files and all slices of a DICOM series are among them, in the order of their names.  Empty
    where there is nothing to read.
    """
    digest = hashlib.sha256()
    empty = True
    for text in files:
        for file in source_files(Path(text)):
            empty = False
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
        digest.update(_split_dataset(text)[1].encode("utf-8", "surrogateescape"))
    return "" if empty else digest.hexdigest()


def _find(text: str, out: Path | None) -> Iterator[_Found]:
    path = Path(os.path.abspath(Path(text).expanduser()))
    if _is_there(path):
        if path.is_dir():
            yield from _in_folder(path, out)
        elif path.suffix.lower() == ".csv":
            yield from _in_manifest(path)
        else:
            yield _describe((str(path),))
    elif "," in text:
        yield _describe(tuple(os.path.abspath(Path(part.strip()).expanduser()) for part in text.split(",")))
    elif glob.has_magic(text):
        yield from _by_pattern(path, out)
    else:
        yield _describe((str(path),))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # several names in a row can be too long for one
        return False


def _describe(files: tuple[str, ...], root: Path | None = None) -> _Found:
    file, dataset = _split_dataset(files[0])
    path = Path(file)
    try:
        name = series_name(path)
    except OSError:  # it may not be read, or its name is too long; reading it says so
        name = short_name(path)[:100]
    name = name or path.anchor.strip("/\\:") or "volume"  # the root of a disk has no name
    count = 1
    if root is not None and path != root and path.is_relative_to(root):
        count = len(path.relative_to(root).parts)
    whole = path.name if path.name.startswith(name) else f"{name}_{path.name}"
    whole += re.sub(r"[^\w.-]+", "_", dataset)
    place = tuple(_UNUSUAL.sub("_", part) for part in (*path.parts[1:-1], name))
    return _Found(files, place, count, _UNUSUAL.sub("_", whole))


def _split_dataset(text: str) -> tuple[str, str]:
    """Split ``file.h5:/dataset`` into the file and the data set, which may be missing."""
    match = re.fullmatch(r"(.*\.(?:h5|hdf5)):(.*)", text, re.DOTALL)
    return (match[1], match[2]) if match else (text, "")


def _in_folder(folder: Path, out: Path | None) -> Iterator[_Found]:
    _refuse_among(folder, out)
    found = False
    for path in _look_into(folder):
        if not _is_known_result(path, folder, out):
            found = True
            yield _describe((str(path),), folder)
    if not found:
        yield _describe((str(folder),))  # which cannot be read, and reading says why


def _look_into(folder: Path) -> tuple[Path, ...]:
    try:
        return find_volumes(folder)
    except InputError:  # reading it says why
        return (folder,)


def _is_known_result(path: Path, root: Path, out: Path | None) -> bool:
    return (out is not None and path.is_relative_to(out)) or is_result(path, root)


def _by_pattern(pattern: Path, out: Path | None) -> Iterator[_Found]:
    parts = pattern.parts
    root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]
    if matches:
        _refuse_among(root, out)
    found: list[Path] = []
    for match in matches:
        found += _look_into(match) if os.path.isdir(match) else [match]
    found = [path for path in dict.fromkeys(found) if not _is_known_result(path, root, out)]
    if readable := [path for path in found if _may_be_volume(path)]:
        found = readable
    for path in found:
        yield _describe((str(path),), root)
    if not found:
        yield _describe((str(pattern),))


def _may_be_volume(path: Path) -> bool:
    try:
        return path.is_dir() or is_readable(path)
    except OSError:  # it may not be opened, and reading says so
        return True


def _refuse_among(folder: Path, out: Path | None) -> None:
    """Results among the volumes would be taken for volumes in the next run."""
    if out is not None and out == folder:
        raise InputError(
            f"{out} holds the volumes themselves; choose another folder for the results, as {out / 'masks'}."
        )


def _in_manifest(manifest: Path) -> Iterator[_Found]:
    columns = ["image", *(f"image{number}" for number in range(2, _MOST_CHANNELS + 1))]
    for place, cells in read_table(manifest, [*columns, "name"], "volumes", required=[("image",)]):
        texts = [part.strip() for column in columns for part in cells[column].split(";") if part.strip()]
        if not texts:
            raise InputError(f"{place} names no image; give a file relative to the manifest.")
        volume = _describe(tuple(os.path.abspath(manifest.parent / Path(t).expanduser()) for t in texts))
        if name := cells["name"]:
            parts = tuple(re.split(r"[/\\]", name))
            if any(part.strip(" .") == "" or _UNUSUAL.search(part) for part in parts):
                raise InputError(
                    f"{place} has the name {name!r:.60}, which no file can have; choose another."
                )
            volume = replace(volume, place=parts, count=len(parts), whole=parts[-1], given=True)
        yield volume


def _files_of_series(volume: _Found) -> set[str]:
    try:
        return {str(file) for file in source_files(Path(volume.files[0]))}
    except InputError:  # reading it says why
        return set()


def _is_slice(path: Path) -> bool:
    try:
        return path.is_file() and is_dicom(path)
    except OSError:
        return False


def _merge_series(found: list[_Found]) -> list[_Found]:
    """Keep one of several slices of a DICOM series, since each stands for all."""
    folders: dict[Path, list[_Found]] = {}
    for volume in found:
        path = Path(volume.files[0])
        if len(volume.files) == 1 and _is_slice(path):
            folders.setdefault(path.parent, []).append(volume)
    merged: set[_Found] = set()
    for slices in folders.values():
        for volume in slices if len(slices) > 1 else ():
            if volume not in merged:
                series = _files_of_series(volume)
                merged |= {other for other in slices if other is not volume and other.files[0] in series}
    return [volume for volume in found if volume not in merged]


def _name_all(found: list[_Found]) -> tuple[BatchInput, ...]:
    """Give each volume a name such that no result of one is a result of another."""
    places = Counter(tuple(part.casefold() for part in volume.place) for volume in found)
    found = [
        _with_suffix(volume) if places[tuple(part.casefold() for part in volume.place)] > 1 else volume
        for volume in found
    ]
    while longer := _indices_to_lengthen(found):
        for index in longer:
            found[index] = replace(found[index], count=found[index].count + 1)
    named: list[BatchInput] = []
    taken: set[str] = set()
    for volume in sorted(found, key=lambda volume: not volume.given):
        name = _choose_free(volume, taken)
        taken |= {f"{name}{end}".casefold() for end in ("", *MAP_SUFFIXES)}
        named.append(BatchInput(name, volume.files))
    order = {volume.files: index for index, volume in enumerate(found)}
    return tuple(sorted(named, key=lambda volume: order[volume.files]))


def _choose_free(volume: _Found, taken: Set[str]) -> str:
    """Return a volume's name, changed where a file system may take a result of its for one of another."""
    numbered = (f"{_with_suffix(volume).name}_{number}" for number in itertools.count(2))
    for name in itertools.chain([volume.name, _with_suffix(volume).name], numbered):
        if not {f"{name}{end}".casefold() for end in ("", *MAP_SUFFIXES)} & taken:
            return name
        if volume.given:
            raise InputError(f"two volumes are to be called {name}, or their results; choose another name.")
    raise AssertionError


def _with_suffix(volume: _Found) -> _Found:
    return volume if volume.given else replace(volume, place=(*volume.place[:-1], volume.whole))


def _indices_to_lengthen(found: list[_Found]) -> list[int]:
    keys = Counter(volume.key for volume in found)
    return [i for i, v in enumerate(found) if keys[v.key] > 1 and not v.given and v.count < len(v.place)]
