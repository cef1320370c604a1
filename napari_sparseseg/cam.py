"""Class maps: where in a volume a network sees a class.

Any trained network can be asked: a classifier of volumes (`classifier.Classifier`), whose score of a class is
its logit for a window, or a segmentation network (`checkpoint.Model`), whose score is the mean logit of the
voxels that it gave to the class.  How it is asked is one of `CAM_METHODS`.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from napari_sparseseg.cam_methods import CAM_METHODS, occlusion_cells, spread_features
from napari_sparseseg.cam_subjects import (
    LOOKING,
    MappedVolume,
    RegionScores,
    Subject,
    check_answers,
    make_grid,
    make_question,
    open_volume,
)
from napari_sparseseg.cam_windows import WindowBlend, mirrorings
from napari_sparseseg.dense_crf import refine_steps
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.networks import Triple, choose_device, to_triple
from napari_sparseseg.resampling import resample_image, resample_slabs
from napari_sparseseg.settings import CamConfig, CrfConfig

__all__ = ["CAM_METHODS", "ClassMap", "make_raw_map", "map_class", "window_overlap"]

_SCALES = (0.75, 1.0, 1.25)
_OVERLAP = 0.25
_OCCLUSION_OPERATIONS = {"cpu": 1.2e12, "mps": 1e13, "cuda": 5e13}  # half a minute on two cores
_SURE = 1e-3  # the CRF cannot move what is quite certain


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Where a network sees a class.

    Attributes
    ----------
    values
        ``(Z, Y, X)`` float32 on the image's grid: 0 to 1 with the maximum 1, or 0 everywhere.
    score
        How sure the network is that the class is there, 0 to 1: a classifier's largest probability for a box
        that is a third of its window wide (the mean over a large volume is mostly background); for a
        segmentation network the mean probability of the class over the voxels asked about, or, where it gave
        the class to none, the largest one anywhere.
    largest
        The map's maximum before it was made 1, in the method's own unit.
    """

    values: NDArray[np.float32]
    score: float
    largest: float


def map_class(
    subject: Subject,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    label: int,
    config: CamConfig,
    crf: CrfConfig | None = None,
    *,
    voxel: Triple | None = None,
    device: str = "auto",
) -> Generator[Event, None, ClassMap]:
    """Make a map of where a network sees a class.

    The volume is brought to the network's spacing and cut into windows of the size it was trained with; their
    raw maps are blended with Gaussian weights, then cut off below 0, brought to the image's grid and divided
    by their maximum.

    Parameters
    ----------
    subject
        The network.
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    label
        The class as the annotation has it, from 2 on.
    config
        The method, and how it is applied.
    crf
        For the refinement by the image's edges, where `config` has that.
    voxel
        ``(Z, Y, X)``: ask about this place: one window is laid round it, and of a segmentation network the
        logits in a small ball round it are explained.  Outside that window the map is 0.
    device
        Where to compute; when a GPU's memory runs out, the CPU does it.

    Returns
    -------
    The `ClassMap`; events on the way.

    Raises
    ------
    InputError
        If image, label, voxel or layer do not fit the network, or the method cannot be used on it; if a
        classifier has not learnt the class, or the network's answers are not finite.
    """
    place = choose_device(device)
    try:
        volume, raw = yield from _map_on(subject, image, spacing, label, config, voxel, place)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        yield Noted("The GPU's memory is too small for this map; computing on the CPU instead.")
        volume, raw = yield from _map_on(subject, image, spacing, label, config, voxel, torch.device("cpu"))
    check_answers(volume.score, raw)
    seen = (slice(None),) * 3
    if voxel is not None:
        seen = _find_window(volume.covered, to_triple(image.shape[1:]))
    values = np.zeros(image.shape[1:], np.float32)
    values[seen] = _to_image_grid(raw.clamp_min(0), to_triple(image.shape[1:]))[seen]
    largest = float(values.max())
    if largest == 0:
        yield Noted(
            f"Asked in this way, nothing in the volume speaks for {subject.table.names[label - 1]}: "
            "the map is 0 everywhere."
        )
        return ClassMap(values, volume.score, 0.0)
    values /= largest
    if config.refine:
        values[seen] = yield from _follow_edges(image[(slice(None), *seen)], values[seen], spacing, crf)
    return ClassMap(values, volume.score, largest)


def _map_on(
    subject: Subject,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    label: int,
    config: CamConfig,
    voxel: Triple | None,
    device: torch.device,
) -> Generator[Event, None, tuple[MappedVolume, Tensor]]:
    network = subject.build()
    volume = yield from open_volume(
        subject, network, image, spacing, label, overlap=window_overlap(config), voxel=voxel, device=device
    )
    raw = yield from make_raw_map(subject, network, volume, label, config, device)
    return volume, raw


def _find_window(covered: Tensor, shape: Triple) -> tuple[slice, slice, slice]:
    """Return the box of the image's grid that holds the window on the network's grid."""
    slices = []
    for axis, length in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        rows = covered.any(others).nonzero()
        step = length / covered.shape[axis]
        slices.append(slice(math.floor(int(rows[0]) * step), math.ceil((int(rows[-1]) + 1) * step)))
    z, y, x = slices
    return z, y, x


def _to_image_grid(values: Tensor, shape: Triple) -> NDArray[np.float32]:
    if values.shape == shape:
        return values.numpy()
    full = np.empty(shape, np.float32)
    for first, slab in resample_slabs(values[None], shape):
        full[first : first + slab.shape[1]] = slab[0].numpy()
    return full


def _follow_edges(
    image: NDArray[np.float32],
    values: NDArray[np.float32],
    spacing: tuple[float, float, float],
    crf: CrfConfig | None,
) -> Generator[Event, None, NDArray[np.float32]]:
    sure = np.clip(values, _SURE, 1 - _SURE)
    steps = refine_steps(image, np.stack([1 - sure, sure]), spacing, crf)
    while True:
        try:
            share = next(steps)
        except StopIteration as stop:
            refined: NDArray[np.float32] = stop.value[1]
            refined /= refined.max()
            return refined
        yield WorkDone(share, "Following the image's edges")


def make_raw_map(
    subject: Subject,
    network: nn.Module,
    volume: MappedVolume,
    label: int,
    config: CamConfig,
    device: torch.device,
) -> Generator[Event, None, Tensor]:
    """Return the map ``(z, y, x)`` on the network's grid as the method gives it, not cut off, not normalised.

    Parameters
    ----------
    subject, network
        As for `open_volume`; hooks and frozen weights make `network` useless for anything else afterwards.
    volume
        From `open_volume`.
    label, config
        As in `map_class`.
    device
        Where to compute.

    Raises
    ------
    InputError
        If there is no such layer, or the method cannot be used on it.
    """
    shape = to_triple(volume.image.shape[1:])
    scales = _SCALES if config.several_scales and volume.voxel is None else (1.0,)
    mirrors = list(mirrorings(all_axes=config.flips))
    overlap = window_overlap(config)
    network.to(device)
    most_passes = 1
    if config.method == "occlusion":
        grid = make_grid(subject, volume.image, volume.voxel, overlap)
        looks = max(1, volume.windows) * len(scales) * len(mirrors)
        operations = _count_operations(network, grid.read(grid.starts[0], device))
        most_passes = int(_OCCLUSION_OPERATIONS[device.type] / (looks * operations))
        yield from _note_coarse_occlusion(grid.window, config.occlusion_share, most_passes)
    question = make_question(
        subject,
        network,
        volume,
        label,
        config.level,
        evidence=config.method == "occlusion",
        most_passes=most_passes,
    )
    look = CAM_METHODS[config.method](question, config)
    total = torch.zeros(shape)
    for number, scale in enumerate(scales):
        image, region = _scaled(volume, scale)
        grid = make_grid(subject, image, volume.voxel, overlap)
        padded = None if region is None else grid.pad(region)
        blend = WindowBlend(grid)
        for row, start in enumerate(grid.starts):
            where = None if padded is None else padded[grid.place(start)].to(device)
            if where is not None and not where.any():
                continue
            part = grid.read(start, device)
            values = torch.zeros(grid.window, device=device)
            for turn, axes in enumerate(mirrors):
                if where is not None and isinstance(question.network, RegionScores):
                    question.network.region = where.flip(axes)
                before = (number + (row + turn / len(mirrors)) / len(grid.starts)) / len(scales)
                size = 1 / len(mirrors) / len(grid.starts) / len(scales)
                answer = yield from _report(look(part.flip(axes)), before, size)
                values += spread_features(answer, question.stride, grid.window).flip(axes)
            blend.add(start, values / len(mirrors))
        blended = blend.result()
        total += blended if blended.shape == shape else torch.from_numpy(_resampled(blended, shape))
    return total / len(scales)


def window_overlap(config: CamConfig) -> float:
    """Return the overlap of the windows for a method: occlusion, slow as it is, does without."""
    return 0.0 if config.method == "occlusion" else _OVERLAP


@torch.no_grad()
def _count_operations(network: nn.Module, window: Tensor) -> int:
    """Return how many operations the network needs for a window, which unlike seconds is always the same."""
    with FlopCounterMode(display=False) as counter:
        network(window)
    return max(1, int(counter.get_total_flops()))


def _report(
    work: Generator[float, None, Tensor], before: float, size: float
) -> Generator[Event, None, Tensor]:
    """Report the share of the whole work done, after `before` of it and with `size` of it to do here."""
    while True:
        try:
            share = next(work)
        except StopIteration as stop:
            values: Tensor = stop.value
            return values
        yield WorkDone(
            LOOKING + (1 - LOOKING) * (before + share * size), "Asking the network where it looked"
        )


def _note_coarse_occlusion(window: Triple, share: float, most_passes: int) -> Generator[Event, None, None]:
    wanted, cells = occlusion_cells(window, share), occlusion_cells(window, share, most_passes)
    if cells != wanted:
        yield Noted(
            f"To cover {share:.0%} of a window's side at a time would take too long here; "
            f"{1 / min(cells):.0%} are covered."
        )


def _scaled(volume: MappedVolume, scale: float) -> tuple[Tensor, Tensor | None]:
    """Return image and region on a finer or coarser grid."""
    if scale == 1:
        return volume.image, volume.region
    shape = to_triple(max(1, round(scale * length)) for length in volume.image.shape[1:])
    image = torch.from_numpy(resample_image(volume.image.numpy(), shape))
    if volume.region is None:
        return image, None
    region = torch.from_numpy(_resampled(volume.region, shape))
    return image, region / region.sum()


def _resampled(values: Tensor, shape: Triple) -> NDArray[np.float32]:
    resampled: NDArray[np.float32] = resample_image(values.numpy()[None], shape)[0]
    return resampled
