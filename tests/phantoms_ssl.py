"""Small unlabelled volumes that look alike, and short settings to learn from them, shared by the tests."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from napari_sparseseg.events import StepDone
from napari_sparseseg.pretraining import pretrain
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

# centre (Z, Y, X) and radii as shares of the shape, and intensity: a head, two unlike eyes, a nose, a chin
_PARTS = (
    ((0.50, 0.50, 0.50), (0.44, 0.44, 0.40), 1.0),
    ((0.70, 0.35, 0.32), (0.12, 0.12, 0.10), 2.2),
    ((0.66, 0.35, 0.68), (0.15, 0.10, 0.12), 0.2),
    ((0.42, 0.28, 0.50), (0.14, 0.18, 0.08), 1.7),
    ((0.28, 0.62, 0.56), (0.10, 0.16, 0.22), 2.6),
)


@lru_cache(64)
def make_volume(shape=(24, 28, 26), channels=1, seed=0, noise=0.15, labelled=False, spacing=(1.0, 1.0, 1.0)):
    """Return a volume of a few ellipsoids that lie to each other as in every other such volume.

    Their sizes and the place of the whole differ a little; nothing about the volume is symmetric, and its
    brightness has no trend.  The annotation is 1 for background, 2 for the first eye, 3 for the chin.
    """
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    shift = random.uniform(-0.04, 0.04, 3)
    image = np.zeros(shape)
    annotation = np.ones(shape, np.uint8)
    for number, (centre, radii, grey) in enumerate(_PARTS):
        radii = np.array(radii) * random.uniform(0.9, 1.1)
        middle = np.array(centre) + shift + random.uniform(-0.01, 0.01, 3)
        inside = sum(((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radii, strict=True)) < 1
        image[inside] = grey
        annotation[inside] = {1: 2, 4: 3}.get(number, 1)
    image = ndimage.gaussian_filter(image, 0.7)
    gains = (-1.0) ** np.arange(channels) * (1 + 0.5 * np.arange(channels))
    stacked = np.stack([gain * image + random.normal(0, noise, shape) for gain in gains])
    return ReadVolume(stacked.astype(np.float32), spacing, annotation if labelled else None)


def make_sources(
    count=4, shape=(24, 28, 26), channels=1, seed=0, spacing=(1.0, 1.0, 1.0), labelled=False, noise=0.15
):
    """Return sources of `count` such volumes, with an annotation where `labelled`."""
    return [
        VolumeSource(
            f"phantom {number}",
            lambda number=number: make_volume(
                shape, channels, 1000 * seed + number, noise, labelled, spacing
            ),
        )
        for number in range(count)
    ]


def short_pretraining(task, **changes):
    """Return settings of a pre-training of a few seconds on the CPU."""
    values = {
        "task": task,
        "steps": 20,
        "crop_voxels": 16**3,
        "device": "cpu",
        "precision": "float32",
        **changes,
    }
    return PretrainingConfig(**values)


def run_pretraining(sources, config, pretext=None, network=None, **options):
    """Pre-train to the end; return the encoder and the list of events."""
    events = []
    learning = pretrain(sources, config, pretext or PretextConfig(), network, **options)
    while True:
        try:
            events.append(next(learning))
        except StopIteration as stop:
            return stop.value, events


def stop_pretraining(sources, config, pretext=None, network=None, *, folder, after):
    """Pre-train, going on from the state in a folder if one is there, and stop after a step."""
    there = (folder / "state.json").exists()
    learning = pretrain(sources, config, pretext, network, state_folder=folder, resume=there)
    next(event for event in learning if isinstance(event, StepDone) and event.step == after)
    learning.close()
