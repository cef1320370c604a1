"""Interactive 3D segmentation of CT and MR volumes from a few labelled slices.

The names below are imported on first use, so that ``import napari_sparseseg`` loads neither torch,
napari nor Qt.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ClassTable": "annotation",
    "InputError": "errors",
    "Volume": "volume",
    "evaluate_prediction": "evaluation",
    "load_labels": "volume",
    "load_volume": "volume",
    "predict_volume": "inference",
    "save_labels": "volume",
    "save_map": "volume",
    "segment_volume": "segmentation",
    "sparsify_labels": "sparsification",
    "train_network": "training",
    "volume_from_array": "volume",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
