"""Cases of a project as the worker process reads them."""

import numpy as np

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import Case
from napari_sparseseg.cohort_records import files_of
from napari_sparseseg.cohort_requests import LabelledCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.fingerprint import fingerprint_volume
from napari_sparseseg.job_labels import make_annotation
from napari_sparseseg.volume import Volume, load_volume


def read_labelled(case: LabelledCase, table: ClassTable) -> Case:
    """Read the image of a case, and lay its labels on it; none are left where the table lacks their classes.

    Raises
    ------
    InputError
        If the image cannot be read, or is not the one that was labelled.
    """
    volume = load_volume(case.source)
    if case.fingerprint and fingerprint_volume(volume) != case.fingerprint:
        raise InputError(f"{case.source} holds another image now; its labels were made for the one before.")
    annotation = make_annotation(volume.shape, table, case.voxels, case.values)
    if annotation is None:
        annotation = np.zeros(volume.shape, np.uint8)
    sources = np.zeros(volume.shape, np.uint8)
    sources.reshape(-1)[case.voxels] = case.sources
    return Case(volume.data, known_spacing(volume, case.spacing), annotation, name=case.name, sources=sources)


def read_source(source: str) -> Volume:
    """Read a volume by its file, or by several parted by ``;``.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    files = files_of(source)
    return load_volume(files[0] if len(files) == 1 else files)


def known_spacing(volume: Volume, otherwise: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the voxel size of a volume in mm ``(Z, Y, X)``, or `otherwise` where its file holds none."""
    return volume.spacing if volume.grid.has_geometry else otherwise
