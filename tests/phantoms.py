"""Small volumes with known truth, and short settings, shared by the tests."""

import numpy as np

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import Case
from napari_sparseseg.networks import Precision
from napari_sparseseg.settings import TrainingConfig

TABLE = ClassTable.from_values([1003, 2035], {1003: "ball", 2035: "cube"})


def make_truth(size=18, shift=0):
    """Return ``(Z, Y, X)`` channels: a ball (1) and a cube (2) on background (0)."""
    z, y, x = np.indices((size, size, size))
    truth = np.zeros((size, size, size), np.uint8)
    middle = size / 2 - 0.5
    truth[
        (z - middle) ** 2 + (y - size * 0.33) ** 2 + (x - size * 0.35 - shift) ** 2 < (size * 0.24) ** 2
    ] = 1
    low, high = round(size * 0.6), round(size * 0.9)
    truth[round(size * 0.2) : round(size * 0.8), low:high, low - shift : high - shift] = 2
    return truth


def make_image(truth, seed=0, noise=0.25):
    """Return ``(1, Z, Y, X)`` grey values that follow the truth, with noise."""
    random = np.random.default_rng(seed)
    grey = np.array([0.0, 1.0, 2.0])[truth] + random.normal(0, noise, truth.shape)
    return grey.astype(np.float32)[None]


def label_slices(truth, axial=(), coronal=()):
    """Return an annotation that holds the truth on some slices and is unlabelled elsewhere."""
    annotation = np.zeros(truth.shape, np.uint8)
    for index in axial:
        annotation[index] = truth[index] + 1
    for index in coronal:
        annotation[:, index] = truth[:, index] + 1
    return annotation


def make_case(size=18, seed=0, axial=(5, 9, 12), spacing=(1.0, 1.0, 1.0), shift=0, name="phantom"):
    """Return a case with labelled axial slices, and its truth."""
    truth = make_truth(size, shift)
    return Case(make_image(truth, seed), spacing, label_slices(truth, axial), name=name), truth


def short_training(**changes):
    """Return settings of a training of some seconds on the CPU."""
    values = {
        "steps": 30,
        "patch_voxels": 12**3,
        "device": "cpu",
        "precision": "float32",
        "preview_weight": 0.0,
        **changes,
    }
    return TrainingConfig(**values)


def mean_dice(truth, channels, where=None):
    """Return the mean Dice of the foreground classes over the voxels in `where`."""
    where = np.ones(truth.shape, bool) if where is None else where
    values = []
    for channel in range(1, int(truth.max()) + 1):
        a, b = truth[where] == channel, channels[where] == channel
        values.append(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
    return float(np.mean(values))


def fix_precision(monkeypatch):
    """Let training and inference take float32 without measuring, which would differ from run to run."""
    for module in ("training", "inference"):
        monkeypatch.setattr(
            f"napari_sparseseg.{module}.choose_precision",
            lambda *_: Precision("float32", channels_last=False),
        )
