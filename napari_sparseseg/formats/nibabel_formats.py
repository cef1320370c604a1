"""FreeSurfer (MGH, MGZ), MINC and AFNI, as nibabel reads them."""

from contextlib import ExitStack
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import (
    RAS_TO_LPS,
    StoredImage,
    choose_frame,
    open_by_content,
    read_to_end,
    refuse_unreadable,
)


def read(path: Path, frame: int | None) -> StoredImage:
    """Read a 3D image or one frame of a 4D one."""
    kind = path.name.split(".", 1)[-1].upper()
    errors = (ImageFileError, HeaderDataError, TypeError, AttributeError)  # nibabel's on damaged headers
    with ExitStack() as stack:
        stack.enter_context(refuse_unreadable(path, kind, *errors))
        stack.enter_context(LoggingOutputSuppressor())
        notes: list[str] = []
        if path.suffix.lower() in (".mgh", ".mgz"):
            file, notes = open_by_content(path, stack)
            image = nibabel.MGHImage.from_file_map({"image": nibabel.FileHolder(fileobj=file)})
            voxels = np.asanyarray(image.dataobj)
            read_to_end(file)
        else:
            image = nibabel.load(path)
            voxels = np.asanyarray(image.dataobj)
        if not 3 <= voxels.ndim <= 4:
            raise InputError(f"{path} has {voxels.ndim} dimensions; give a file of three or four.")
        if voxels.ndim == 4:
            voxels = voxels[..., choose_frame(path, voxels.shape[3], frame)]
        else:
            choose_frame(path, 1, frame)
        affine = RAS_TO_LPS @ np.asarray(image.affine, np.float64)
        return StoredImage(data=voxels[np.newaxis], affine=affine, format=kind, notes=tuple(notes))
