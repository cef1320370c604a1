"""All files that a volume is read from, when it is called by one of them."""

from pathlib import Path

from napari_sparseseg.formats.stored import ignore_warnings, refuse_unreadable

_PARTNERS = {
    ".hdr": (".img", ".img.gz"),
    ".img": (".hdr",),
    ".head": (".brik", ".brik.gz"),
    ".brik": (".head",),
    ".brik.gz": (".head",),
}


def list_sources(path: Path, suffix: str, dicom: bool) -> tuple[Path, ...]:
    """Return the files behind `path`, sorted; `suffix` is that of its format, in lower case.

    Raises
    ------
    InputError
        If a DICOM series is damaged, or there is none.
    """
    if dicom:
        from napari_sparseseg.formats.dicom_series import read_series

        with ignore_warnings(), refuse_unreadable(path, "DICOM", AttributeError, TypeError):
            return tuple(sorted(read_series(path)[0]))
    if suffix in (".mhd", ".nhdr"):
        from napari_sparseseg.formats.completeness import find_voxel_file

        voxels = find_voxel_file(path)
        return tuple(sorted({path, voxels})) if voxels and voxels.is_file() else (path,)
    stem = path.name.lower().removesuffix(suffix)
    partners = [stem + other for other in _PARTNERS.get(suffix, ())]
    beside = [other for other in path.parent.iterdir() if other.name.lower() in partners] if partners else []
    return tuple(sorted([path, *beside]))
