"""How much an encoder's frozen features say of the classes: a linear classifier on few labelled voxels.

Source: Alain, Bengio: Understanding intermediate layers using linear classifier probes, 2016,
https://arxiv.org/abs/1610.01644; as a measure of learning without labels: Zhang, Isola, Efros: Colorful image
colorization, ECCV 2016.
"""

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional

from napari_sparseseg.annotation import ClassTable, OverlapCounter, choose_held_out
from napari_sparseseg.cam_windows import WindowGrid
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoders import Encoder, encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, WorkDone
from napari_sparseseg.networks import (
    Triple,
    build_network,
    choose_device,
    default_patch_voxels,
    plan_network,
    to_triple,
)
from napari_sparseseg.normalisation import fit_normalisation_to_samples, sample_voxels
from napari_sparseseg.resampling import resample_image, shape_at
from napari_sparseseg.settings import NetworkConfig

Spacing = tuple[float, float, float]
LabelledVolume = tuple[NDArray[np.float32], Spacing, NDArray[np.integer[Any]]]
"""Intensities ``(C, Z, Y, X)`` as read, voxel size in mm ``(Z, Y, X)``, annotation ``(Z, Y, X)``."""

_FITTED = 5000
_TESTED = 100_000
_HELD_OUT_SHARE = 0.3
_OVERLAP = 0.25
_REGULARISATION = 0.1
_ITERATIONS = 100
_SAMPLED = 20_000
_PROBING = "Measuring the features"


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier told the classes apart where it was not fitted.

    Attributes
    ----------
    dice
        Mean Dice over the classes that occur, background not counted; 0 where none does.
    per_class
        The same by class name, of those that occur.
    """

    dice: float
    per_class: dict[str, float]


def probe_encoder(
    encoder: EncoderCheckpoint,
    image: NDArray[np.float32],
    spacing: Spacing,
    annotation: NDArray[np.integer[Any]],
    table: ClassTable,
    *,
    test: NDArray[np.bool_] | NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Generator[Event, None, Probe]:
    """Measure an encoder on one labelled volume.

    Parameters
    ----------
    encoder
        Stays as it is.
    image, spacing, annotation, table
        The volume ``(C, Z, Y, X)`` as read, its voxel size in mm, its labels ``(Z, Y, X)``
        and what they mean.
    test
        What to measure on: where it is a mask ``(Z, Y, X)``, the labels inside it, which are not fitted to;
        where it is an annotation, its labels at voxels that `annotation` leaves unlabelled.  None: some of
        the labelled slices (or strokes, where one slice is labelled) are left out of the fitting.
    seed
        Chooses what is left out, and the voxels where there are very many.
    device
        As in `settings.TrainingConfig`.

    Returns
    -------
    The figures; `WorkDone` on the way.

    Raises
    ------
    InputError
        If volume, labels and encoder do not fit, there are fewer than two classes to fit to, or nothing is
        left to measure on.
    """
    _check(encoder, image, annotation, table)
    fitted, tested = _part(annotation, test, seed)
    volume = (image, spacing)
    return (
        yield from _probe(encoder, [(*volume, fitted)], [(*volume, tested)], table, seed=seed, device=device)
    )


def probe_cases(
    encoder: EncoderCheckpoint,
    fit: Sequence[LabelledVolume],
    test: Sequence[LabelledVolume],
    table: ClassTable,
    *,
    seed: int = 0,
    device: str = "auto",
) -> Generator[Event, None, Probe]:
    """Measure an encoder on volumes other than those that the classifier is fitted to.

    Parameters
    ----------
    encoder, table, seed, device
        As in `probe_encoder`.
    fit, test
        The volumes with the labels to fit to, all together, and those to measure on.

    Returns
    -------
    Dice over all voxels of all volumes of `test`; `WorkDone` on the way.

    Raises
    ------
    InputError
        As in `probe_encoder`.
    """
    for image, _, annotation in (*fit, *test):
        _check(encoder, image, annotation, table)
    return (yield from _probe(encoder, fit, test, table, seed=seed, device=device))


def random_encoder(
    network: NetworkConfig,
    like: EncoderCheckpoint | NDArray[np.float32],
    spacing: Spacing | None = None,
    seed: int = 0,
) -> EncoderCheckpoint:
    """Return an encoder that has learnt nothing, to compare with.

    Parameters
    ----------
    network
        What it is like, where `like` is an image.
    like
        The encoder that it is compared with, whose network, plan, levels, voxel size and normalisation it
        gets; or a ``(C, Z, Y, X)`` image that it must fit.
    spacing
        Voxel size of that image in mm ``(Z, Y, X)``; 1 mm where not given.
    seed
        Chooses the weights.
    """
    if isinstance(like, EncoderCheckpoint):
        config, plan, channels, size = like.config, like.plan, like.channels, like.spacing
        normalisation, levels = like.normalisation, like.levels
    else:
        config, channels, size = network, len(like), spacing or (1.0, 1.0, 1.0)
        voxels = default_patch_voxels(torch.device("cpu"))
        plan = plan_network(to_triple(like.shape[1:]), size, network, voxels)
        normalisation = fit_normalisation_to_samples([sample_voxels(like, _SAMPLED)])
        levels = len(plan.strides)
    with torch.random.fork_rng(devices=()):  # what else draws from the generator of all goes on as it was
        torch.default_generator.manual_seed(seed)
        encoder = encoder_of(build_network(config, plan, channels, 2), plan)
    weights = {name: t.clone() for name, t in encoder.first_levels(levels).state_dict().items()}
    return EncoderCheckpoint("random", config, plan, channels, size, normalisation, weights, {"seed": seed})


def _check(
    encoder: EncoderCheckpoint,
    image: NDArray[np.float32],
    annotation: NDArray[np.integer[Any]],
    table: ClassTable,
) -> None:
    if len(image) != encoder.channels:
        raise InputError(
            f"the encoder takes {encoder.channels} channels and the volume has {len(image)}; "
            "choose an encoder that learnt from such volumes."
        )
    if annotation.shape != image.shape[1:]:
        raise InputError(
            f"the labels have shape {annotation.shape} and the volume has {image.shape[1:]}; "
            "give labels on the volume's grid."
        )
    if annotation.max() > len(table):
        raise InputError(
            f"the labels hold the value {annotation.max()}, and the class table has {len(table)} rows; "
            "correct the labels or the table."
        )


def _part(
    annotation: NDArray[np.integer[Any]],
    test: NDArray[np.bool_] | NDArray[np.integer[Any]] | None,
    seed: int,
) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
    """Return the annotations to fit to and to measure on; no voxel is in both."""
    if test is None:
        held_out = choose_held_out([annotation], _HELD_OUT_SHARE, np.random.default_rng(seed))[0]
        test = np.zeros(annotation.shape, np.bool_)
        test.reshape(-1)[held_out] = True
    if test.shape != annotation.shape:
        raise InputError(
            f"the labels to measure on have shape {test.shape} and the volume has {annotation.shape}; "
            "give labels on the volume's grid."
        )
    if test.dtype == np.bool_:
        return np.where(test, 0, annotation), np.where(test, annotation, 0)
    return annotation, np.where(annotation > 0, 0, test)


def _probe(
    encoder: EncoderCheckpoint,
    fit: Sequence[LabelledVolume],
    test: Sequence[LabelledVolume],
    table: ClassTable,
    *,
    seed: int,
    device: str,
) -> Generator[Event, None, Probe]:
    if not any((annotation > 1).any() for _, _, annotation in test):
        raise InputError(
            "no labels of a class are left to measure the encoder by; label two slices at least, "
            "each with the background and the classes in it."
        )
    random = np.random.default_rng(seed)
    chosen = _choose_fitted([annotation for _, _, annotation in fit], random)
    values = [a.reshape(-1)[voxels] for (_, _, a), voxels in zip(fit, chosen, strict=True)]
    if len(np.unique(np.concatenate(values))) < 2:
        raise InputError(
            "the encoder is measured by telling classes apart, and the labels to learn from hold fewer than "
            "two; label the background and one class at least."
        )
    reader = _FeatureReader(encoder, device)
    jobs, features = len(fit) + len(test), []
    for number, ((image, spacing, _), voxels) in enumerate(zip(fit, chosen, strict=True)):
        features.append((yield from reader.read(image, spacing, voxels, number, jobs)))
    classifier = _fit(np.concatenate(features), np.concatenate(values), seed)
    counter = OverlapCounter(len(table))
    for number, (image, spacing, annotation) in enumerate(test, len(fit)):
        voxels = np.flatnonzero(annotation > 0)
        if len(voxels) > _TESTED:
            voxels = np.sort(random.choice(voxels, _TESTED, replace=False))
        if not len(voxels):
            continue
        rows = yield from reader.read(image, spacing, voxels, number, jobs)
        truth = annotation.reshape(-1)[voxels].astype(np.int64) - 1
        counter.add(truth, classifier.predict(rows).astype(np.int64) - 1)
    yield WorkDone(1.0, _PROBING)
    named = zip(table.names[1:], counter.dice().tolist(), strict=True)
    return Probe(counter.mean_dice(), {name: dice for name, dice in named if np.isfinite(dice)})


def _choose_fitted(
    annotations: Sequence[NDArray[np.integer[Any]]], random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Choose labelled voxels, as many of each class in each volume as possible; flat indices per volume."""
    voxels, cases, ranks = [], [], []
    for case, annotation in enumerate(annotations):
        for value in np.unique(annotation[annotation > 0]):
            found = random.permutation(np.flatnonzero(annotation == value))[:_FITTED]
            voxels.append(found)
            cases.append(np.full(len(found), case))
            ranks.append(np.arange(len(found)))
    if not voxels:
        return [np.zeros(0, np.int64) for _ in annotations]
    first = np.argsort(np.concatenate(ranks), kind="stable")[:_FITTED]
    all_voxels, all_cases = np.concatenate(voxels)[first], np.concatenate(cases)[first]
    return [np.sort(all_voxels[all_cases == case]) for case in range(len(annotations))]


def _fit(features: NDArray[np.float32], values: NDArray[np.integer[Any]], seed: int) -> Pipeline:
    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=_REGULARISATION,
            class_weight="balanced",
            max_iter=_ITERATIONS,
            tol=1e-3,
            random_state=seed,
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a little short of the optimum is as good
        classifier.fit(features, values)
    return classifier


class _FeatureReader:
    """Reads the features of all levels at single voxels."""

    def __init__(self, checkpoint: EncoderCheckpoint, device: str) -> None:
        self._checkpoint = checkpoint
        self._device = choose_device(device)
        with torch.random.fork_rng(devices=()):  # building draws weights, before those learnt replace them
            self._encoder: Encoder = checkpoint.build().to(self._device).eval()

    def read(
        self, image: NDArray[np.float32], spacing: Spacing, voxels: NDArray[np.int64], job: int, jobs: int
    ) -> Generator[Event, None, NDArray[np.float32]]:
        """Return ``(N, F)`` features at flat indices of voxels of a ``(C, Z, Y, X)`` volume.

        Each is read in the window in which it lies deepest.  What is done is counted as job `job` of `jobs`.
        """
        checkpoint = self._checkpoint
        shape = to_triple(image.shape[1:])
        known = shape_at(shape, spacing, checkpoint.spacing)
        brought = checkpoint.normalisation.apply(np.asarray(image, np.float32))
        if known != shape:
            brought = resample_image(brought, known)
        scale = np.array(known) / shape
        places = (np.stack(np.unravel_index(voxels, shape), 1) + 0.5) * scale - 0.5
        window = checkpoint.plan.patch
        places += [max(0, size // 2 - length // 2) for length, size in zip(known, window, strict=True)]
        grid = WindowGrid(torch.from_numpy(brought), window, position=False, overlap=_OVERLAP)
        owners = _deepest(places, grid.starts, window)
        rows = np.empty((len(voxels), sum(self._encoder.channels)), np.float32)
        needed = np.unique(owners)
        for number, owner in enumerate(needed):
            yield WorkDone((job + number / len(needed)) / jobs, _PROBING)
            mine, start = owners == owner, grid.starts[owner]
            with torch.no_grad():
                levels = self._encoder(grid.read(start, self._device))
                inside = torch.from_numpy((places[mine] - start).astype(np.float32)).to(self._device)
                parts = [
                    sample_level(level, stride, inside)
                    for level, stride in zip(levels, self._encoder.strides, strict=True)
                ]
            rows[mine] = torch.cat(parts, dim=1).cpu().numpy()
        return rows


def _deepest(places: NDArray[np.float64], starts: Sequence[Triple], window: Triple) -> NDArray[np.int64]:
    """Return for each place ``(N, 3)`` the index of the window whose middle is nearest."""
    middles = np.array(starts) + (np.array(window) - 1) / 2
    best, nearest = np.zeros(len(places), np.int64), np.full(len(places), np.inf)
    for index, middle in enumerate(middles):  # not all at once: there may be many of both
        away = (np.abs(places - middle) / window).max(1)
        closer = away < nearest
        best[closer], nearest[closer] = index, away[closer]
    return best


def sample_level(features: Tensor, stride: Triple, places: Tensor) -> Tensor:
    """Return ``(N, F)`` features of a level at places of the input's grid, linearly interpolated.

    Parameters
    ----------
    features
        ``(1, F, z, y, x)``: the feature with index i belongs to the input's voxel ``i * stride``, as a
        strided convolution with padding makes it.
    stride
        Of the level, ``(Z, Y, X)``.
    places
        ``(N, 3)`` in voxels ``(Z, Y, X)``; beyond the features the nearest one counts.
    """
    sizes = torch.tensor(features.shape[2:], device=places.device)
    scaled = places / torch.tensor(stride, device=places.device)
    relative = torch.where(sizes > 1, 2 * scaled / (sizes - 1).clamp_min(1) - 1, 0.0)
    grid = relative.flip(1)[None, :, None, None]
    sampled: Tensor = functional.grid_sample(
        features.float(), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return sampled[0, :, :, 0, 0].T
