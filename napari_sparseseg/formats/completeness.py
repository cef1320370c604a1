"""Whether a NRRD, MetaImage or GIPL file holds all the voxels that its header announces.

ITK fills what is missing with zeros and says nothing, so it has to be found out before ITK reads.
"""

import bz2
import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import CHUNK, refuse_truncated


class _Voxels(NamedTuple):
    """Where the voxels of an image are: from `offset` in `file`, `size` bytes once decompressed."""

    file: Path
    offset: int
    size: int
    compression: str


_GIPL_HEADER_BYTES = 256
_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}
_METAIMAGE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_NRRD_COMPRESSION = {"raw": "", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}


def check_complete(path: Path) -> None:
    """Refuse a truncated, damaged or zero-spaced file; raise also for headers that cannot be understood."""
    voxels = _find_voxels(path)
    if not voxels.file.exists():
        raise InputError(
            f"{path} keeps its voxels in {voxels.file.name}, which is missing; put it beside it."
        )
    refuse_truncated(path, _count_bytes(voxels), voxels.size)


def find_voxel_file(path: Path) -> Path | None:
    """Return the file that a header keeps its voxels in, or None where the header cannot be understood."""
    try:
        return _find_voxels(path).file
    except (InputError, OSError, ValueError, KeyError):
        return None


def _find_voxels(path: Path) -> _Voxels:
    suffix = path.suffix.lower()
    if suffix in (".nrrd", ".nhdr"):
        return _find_nrrd_voxels(path)
    return _find_metaimage_voxels(path) if suffix in (".mha", ".mhd") else _find_gipl_voxels(path)


def _count_bytes(voxels: _Voxels) -> int:
    if not voxels.compression:
        return voxels.file.stat().st_size - voxels.offset
    with voxels.file.open("rb") as file:
        file.seek(voxels.offset)
        if voxels.compression == "zlib":
            return _count_zlib(file)
        opener: Callable[..., gzip.GzipFile | bz2.BZ2File] = gzip.GzipFile
        if voxels.compression == "bzip2":
            opener = bz2.BZ2File
        count = 0
        try:
            with opener(file) if opener is bz2.BZ2File else gzip.GzipFile(fileobj=file) as stream:
                while chunk := stream.read(CHUNK):
                    count += len(chunk)
        except EOFError:
            return min(count, voxels.size - 1)
        return count


def _count_zlib(file: BinaryIO) -> int:
    decompressor = zlib.decompressobj()
    count = 0
    while chunk := file.read(CHUNK):
        count += len(decompressor.decompress(chunk))
    return count


def _read_lines(path: Path, ends: Callable[[str], bool]) -> tuple[list[str], int]:
    """Return the lines of a text header up to the one where `ends` is true, and where the rest begins."""
    lines: list[str] = []
    with path.open("rb") as file:
        for raw in file:
            line = raw.decode("utf-8", "replace").strip()
            lines.append(line)
            if ends(line):
                break
            if file.tell() > CHUNK:
                raise ValueError("its header has no end")
        return lines, file.tell()


def _find_nrrd_voxels(path: Path) -> _Voxels:
    lines, offset = _read_lines(path, lambda line: not line)
    if not lines[0].startswith("NRRD"):
        raise InputError(f"{path} is not a NRRD file, in spite of its name; export it again.")
    pairs = (line.split(":", 1) for line in lines if ":" in line and ":=" not in line and line[0] != "#")
    fields = {key.strip().lower().replace(" ", ""): value.strip() for key, value in pairs}
    encoding = fields["encoding"].lower()
    if encoding not in _NRRD_COMPRESSION:
        raise InputError(f"{path} is NRRD with the encoding {encoding}; save it with gzip or raw.")
    _refuse_zero(path, [float(size) for size in fields.get("spacings", "").split() if size != "nan"])
    _refuse_zero(path, _vector_lengths(fields.get("spacedirections", "")))
    file, start = path, offset
    if name := fields.get("datafile"):
        _refuse_several(path, name)
        file, start = path.parent / name, max(0, int(fields.get("byteskip", "0")))
    size = math.prod(map(int, fields["sizes"].split())) * _count_nrrd_bytes(fields["type"])
    return _Voxels(file, start, size, _NRRD_COMPRESSION[encoding])


def _count_nrrd_bytes(name: str) -> int:
    name = name.lower()
    if explicit := re.search(r"int(8|16|32|64)", name):
        return int(explicit[1]) // 8
    words = {"char": 1, "short": 2, "long long": 8, "longlong": 8, "double": 8, "float": 4, "int": 4}
    for word, size in words.items():  # in this order: "short int" is short
        if word in name:
            return size
    return {"uchar": 1, "ushort": 2, "uint": 4}[name]


def _vector_lengths(directions: str) -> list[float]:
    vectors = re.findall(r"\(([^)]*)\)", directions)
    return [math.hypot(*(float(part) for part in vector.split(","))) for vector in vectors]


def _find_metaimage_voxels(path: Path) -> _Voxels:
    lines, offset = _read_lines(path, lambda line: line.startswith("ElementDataFile"))
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    if "ElementDataFile" not in fields or "DimSize" not in fields:
        raise InputError(f"{path} is not a MetaImage file, in spite of its name; export it again.")
    if fields.get("BinaryData", "True").lower() == "false":
        raise InputError(f"{path} is MetaImage with the voxels as text; save it as binary.")
    _refuse_zero(path, [float(size) for size in fields.get("ElementSpacing", "").split()])
    name = fields["ElementDataFile"]
    file = path if name.upper() == "LOCAL" else path.parent / name
    if file != path:
        _refuse_several(path, name)
        offset = max(0, int(fields.get("HeaderSize", "0")))
    element = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
    size = math.prod(map(int, fields["DimSize"].split())) * int(fields.get("ElementNumberOfChannels", "1"))
    size *= _METAIMAGE_BYTES[element if element in _METAIMAGE_BYTES else element.removeprefix("U")]
    compressed = fields.get("CompressedData", "False").lower() == "true"
    return _Voxels(file, offset, size, "zlib" if compressed else "")


def _find_gipl_voxels(path: Path) -> _Voxels:
    compression = "gzip" if path.suffix.lower() == ".gz" else ""
    with gzip.open(path) if compression else path.open("rb") as file:
        header = file.read(_GIPL_HEADER_BYTES)
    *sizes, kind = struct.unpack(">5H", header[:10])
    _refuse_zero(path, list(struct.unpack(">3f", header[10:22])))
    size = math.prod(max(1, length) for length in sizes) * _GIPL_BYTES[kind]
    if compression:
        return _Voxels(path, 0, size + _GIPL_HEADER_BYTES, compression)
    return _Voxels(path, _GIPL_HEADER_BYTES, size, compression)


def _refuse_zero(path: Path, spacing: list[float]) -> None:
    if any(size == 0 or not math.isfinite(size) for size in spacing):
        listed = " × ".join(f"{size:g}" for size in spacing)
        raise InputError(f"{path} has a voxel size of {listed} mm; correct the header or export it again.")


def _refuse_several(path: Path, name: str) -> None:
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path} keeps its voxels in several files; save it as one file.")
