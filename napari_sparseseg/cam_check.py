"""Whether a class map shows what a network learnt, or only the image's edges (Adebayo et al. 2018)."""

import math
from collections.abc import Generator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from napari_sparseseg.cam import make_raw_map, window_overlap
from napari_sparseseg.cam_subjects import MappedVolume, Subject, open_volume
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.events import ClassMapChecked, Event, Noted, WorkDone
from napari_sparseseg.networks import Triple, choose_device
from napari_sparseseg.settings import CamConfig

Result = TypeVar("Result")

COPIES = 3
"""Networks with random weights that a map is compared with."""

LARGEST_SIMILARITY = 0.5
"""A map that is more alike than this to those of random networks shows the image, not the weights.

It lies above what was measured: 0.00 to 0.28 for classifiers trained on CT (liver, spleen, kidney) and on
phantoms, to 0.40 for untrained ones, to 0.42 for segmentation networks.  So it catches maps that do not
depend on the weights at all, such as those that follow edges; not an untrained network.
"""

LEAST_AUC = 0.6
"""With less on parts held out, a classifier is taken to guess.

Guessing has 0.5, with a standard deviation of 0.08 where 24 parts show the class and 24 lack it.
"""

LEAST_DICE = 0.2
"""With less on labels held out, a segmentation network is taken to have learnt nothing.

Giving all voxels to a class that is a ninth of them already has so much.
"""

_SAMPLE_VOXELS = 100_000


def check_map(
    subject: Subject,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    label: int,
    config: CamConfig,
    *,
    voxel: Triple | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Generator[Event, None, ClassMapChecked]:
    """Compare a class map with those of networks whose weights are random.

    Adebayo et al. 2018, "Sanity Checks for Saliency Maps", model parameter randomisation: all layers at once,
    and the rank correlation (Spearman) of the maps cut off below 0, on the network's grid.  A segmentation
    network with random weights is asked about the same voxels as the trained one.  Random networks whose map
    is the same everywhere are left out.

    This shows whether the map depends on the weights, not whether these know anything: the maps of two random
    networks differ as well.  So what the training measured on held-out labels decides, too, where it did
    measure that.

    Parameters
    ----------
    subject, image, spacing, label, config, voxel, device
        As in `cam.map_class`.
    seed
        Of the random weights.

    Returns
    -------
    The comparison; events on the way.
    """
    place = choose_device(device)
    try:
        return (yield from _compare(subject, image, spacing, label, config, voxel, place, seed))
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        yield Noted("The GPU's memory is too small for this check; computing on the CPU instead.")
        cpu = torch.device("cpu")
        return (yield from _compare(subject, image, spacing, label, config, voxel, cpu, seed))


def _compare(
    subject: Subject,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    label: int,
    config: CamConfig,
    voxel: Triple | None,
    device: torch.device,
    seed: int,
) -> Generator[Event, None, ClassMapChecked]:
    volume: MappedVolume | None = None
    maps: list[Tensor] = []
    for copy in range(COPIES + 1):
        network = subject.build()
        if copy:
            randomise_weights(network, seed + copy)
        if volume is None or not isinstance(subject, Model):
            looking = open_volume(
                subject,
                network,
                image,
                spacing,
                label,
                overlap=window_overlap(config),
                voxel=voxel,
                device=device,
            )
            volume = yield from _part_of_work(looking, copy)
        asking = make_raw_map(subject, network, volume, label, config, device)
        values = (yield from _part_of_work(asking, copy))[volume.covered]
        if copy == 0 and (why := _find_fault(values, volume.score)):
            return ClassMapChecked(1.0, False, why)
        maps.append(values)
    found = [rank_correlation(maps[0], other) for other in maps[1:]]
    similarities = [value for value in found if value is not None]
    if not similarities:
        return ClassMapChecked(
            1.0,
            False,
            "This check tells nothing: with random weights the network gives no map to compare with; "
            "use another method or layer.",
        )
    similarity = max(0.0, float(np.mean(similarities)))
    return _judge(similarity, subject, subject.table.names[label - 1])


def _find_fault(values: Tensor, score: float) -> str:
    """Return why a trained network's map cannot be compared with others, if it cannot."""
    if not (math.isfinite(score) and values.isfinite().all()):
        return "The network's answers are not finite numbers, so there is no map; let it learn again."
    if values.max() <= 0:
        return "The map is 0 everywhere, so there is nothing that could have been learnt in it."
    if values.clamp_min(0).min() == values.max():
        return "The map is the same everywhere, so there is nothing that could have been learnt in it."
    return ""


def _judge(similarity: float, subject: Subject, name: str) -> ClassMapChecked:
    """Return what the similarity and the training's own measurements say of the map of class `name`."""
    if isinstance(subject, Model):
        quality = subject.summary.get("held_out_dice", {}).get("network")
        measure, least, failed = "Dice", LEAST_DICE, "hardly finds the classes"
    else:
        quality = subject.summary.get("held_out", {}).get("auc", {}).get(name)
        measure, least, failed = "AUC", LEAST_AUC, f"answers hardly better than guessing for {name}"
    if quality is not None and not quality >= least:
        return ClassMapChecked(
            similarity,
            False,
            f"The network {failed} ({measure} {quality:.2f} on parts kept aside), so its map tells nothing; "
            "give more labels or let it learn longer.",
        )
    if similarity >= LARGEST_SIMILARITY:
        text = (
            "Do not trust this map: it looks much the same with random weights "
            f"(similarity {similarity:.2f}), so it shows the image's edges and not what was learnt."
        )
    elif quality is None:
        text = (
            "The map depends on the network's weights: with random ones it looks different (similarity "
            f"{similarity:.2f}). How well the network learnt was not measured, as no parts were kept aside."
        )
    else:
        text = (
            "The map depends on what was learnt: with random weights it looks different "
            f"(similarity {similarity:.2f}; {measure} {quality:.2f} on parts kept aside)."
        )
    return ClassMapChecked(similarity, similarity < LARGEST_SIMILARITY, text)


def _part_of_work(work: Generator[Event, None, Result], copy: int) -> Generator[Event, None, Result]:
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        if isinstance(event, WorkDone):
            yield WorkDone((copy + event.share) / (COPIES + 1), "Comparing with random weights")


def randomise_weights(network: nn.Module, seed: int) -> None:
    """Give all layers of `network` new weights, as at the beginning of a training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def rank_correlation(first: Tensor, second: Tensor) -> float | None:
    """Return Spearman's rank correlation of two maps cut off below 0.

    None where one is the same everywhere or not finite.  Of more than 100,000 voxels so many are drawn.
    """
    values = [array.clamp_min(0).reshape(-1).numpy() for array in (first, second)]
    if values[0].size > _SAMPLE_VOXELS:
        drawn = np.random.default_rng(0).integers(values[0].size, size=_SAMPLE_VOXELS)
        values = [array[drawn] for array in values]
    if not all(np.ptp(array) > 0 and np.isfinite(array).all() for array in values):
        return None
    return float(stats.spearmanr(*values).statistic)
