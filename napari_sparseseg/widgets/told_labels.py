"""How the worker is told what the project has of an image."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import SOURCES, ClassTable
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.project_records import ImageLabelRecord
from napari_sparseseg.requests import Paint


def to_image_labels(records: tuple[ImageLabelRecord, ...], table: ClassTable) -> tuple[ImageLabel, ...]:
    """Return what a project says of an image, with the classes counted as in annotations."""
    values = table.mask_values
    return tuple(
        ImageLabel(values.index(record.value) + 1, record.present, record.axis, record.first, record.last)
        for record in records
        if record.value in values[1:]
    )


def requests_for(labels: NDArray[np.uint8], sources: NDArray[np.uint8]) -> list[Paint]:
    """Return what tells a worker all labels ``(Z, Y, X)``, one request per source code."""
    voxels = np.flatnonzero(labels)
    values, codes = labels.reshape(-1)[voxels], sources.reshape(-1)[voxels]
    return [
        Paint(0, voxels[codes == code], values[codes == code], SOURCES[code - 1]) for code in np.unique(codes)
    ]
