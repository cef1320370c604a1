"""Images that a project keeps itself, because no file is behind them: ``.npy`` files in its folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.atomic import atomic_path
from napari_sparseseg.errors import InputError
from napari_sparseseg.project_records import CaseRecord


def check_image(image: NDArray[Any], case: CaseRecord) -> None:
    """Raise `InputError` unless an image can be kept: ``(C, Z, Y, X)`` or ``(Z, Y, X)`` numbers that fit."""
    if image.ndim not in (3, 4) or image.shape[-3:] != case.shape:
        raise InputError(
            f"the image {case.name} has the shape {image.shape} and not {case.shape}; choose another image."
        )
    if image.dtype.kind not in "biufc":
        raise InputError(f"the image {case.name} holds {image.dtype} and not numbers; choose another image.")


def save_image(path: Path, image: NDArray[Any]) -> None:
    """Write an image atomically; raise `InputError` where there is no room."""
    with atomic_path(path) as temporary:
        np.save(temporary, image, allow_pickle=False)


def load_image(path: Path, case: CaseRecord) -> NDArray[Any]:
    """Read what `save_image` wrote; raise `InputError` where it is missing, damaged or of another shape."""
    try:
        image: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there; open the image {case.name} from its own file.") from error
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it from a backup.") from error
    if not isinstance(image, np.ndarray) or image.shape[-3:] != case.shape:
        raise InputError(f"{path} is not the image {case.name}; restore it from a backup.")
    return image
