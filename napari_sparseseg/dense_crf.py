"""The dense conditional random field: class probabilities that follow the image's edges.

Model and mean field: Krähenbühl & Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials", Potts labels and two kernels between all pairs of voxels, here in 3D and in mm:

    appearance  exp(−|p_i − p_j|² / 2 appearance_mm² − (I_i − I_j)² / 2 (appearance_intensity · std I)²)
    smoothness  exp(−|p_i − p_j|² / 2 smoothness_mm²)

Each is normalised as in the authors' code: K becomes D^-½ K D^-½, D its row sums with the voxel itself.  A
voxel sends no message to itself.

The appearance kernel is a bilateral grid (Chen, Paris & Durand 2007): splat, blur, slice.  Its intensity axis
has cells with linear interpolation.  Since voxels lie on a lattice, the position axes hold in place of cells
the leading eigenvectors of the Gaussian between the lattice's planes: fewer numbers than cells, an error of
about 0.0001, and no alignment of cells that would tell one axis or one direction from another.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.box_geometry import Box
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import CrfConfig
from napari_sparseseg.work_grid import Scene, WorkGrid, run_to_end

Floats = NDArray[np.float32]
Triple = tuple[int, int, int]

INTENSITY_CELL = 0.5
"""Width of the grid's intensity cells, as a share of the kernel's standard deviation."""

MOST_CELLS = 256
"""Intensity cells at most; an image that needs more gets wider ones, and a kernel less selective than set."""

_LARGEST = 1_500_000  # voxels whose messages are exchanged on their own grid
_SMALLEST_EIGENVALUE = 1e-4
_FAR = 6.0  # standard deviations at which two intensities no longer know of each other
_BLOCK_CELLS = 500_000
# denormal numbers make a matrix product many times slower, so what is next to nothing becomes 0
_NOTHING = -40.0
_NEGLIGIBLE = 1e-10


def refine_probabilities(
    image: NDArray[Any],
    probabilities: NDArray[np.floating[Any]],
    spacing: tuple[float, float, float],
    config: CrfConfig | None = None,
) -> Floats:
    """Move the borders between classes to the image's edges.

    What voxels say to each other varies smoothly but for the image's edges: beyond 1,500,000 voxels it is
    found on a coarser grid, and brought back by linear interpolation to probabilities in full detail.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities.  Several channels are standardised and reduced to their first principal
        component.  Shift and scale do not matter; a constant image leaves a kernel of position alone.
    probabilities
        ``(K, Z, Y, X)``, at least 0, normalised here; a voxel without any has all classes alike.  A class
        whose probability is exactly 0 stays excluded at its voxel.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    config
        Weights and reaches of the kernels, and the number of mean-field updates.

    Returns
    -------
    ``(K, Z, Y, X)`` marginals of the mean field; they sum to 1.

    Raises
    ------
    InputError
        Shapes differ, values are not finite or negative, or the spacing is not positive.
    """
    return run_to_end(refine_steps(image, probabilities, spacing, config))


def refine_steps(
    image: NDArray[Any],
    probabilities: NDArray[np.floating[Any]],
    spacing: tuple[float, float, float],
    config: CrfConfig | None = None,
) -> Generator[float, None, Floats]:
    """Do what `refine_probabilities` does, and yield the share of the work done after each update."""
    config = config or CrfConfig()
    _check(image, probabilities, spacing)
    prior = _normalised(np.asarray(probabilities))
    present = [channel for channel in range(len(prior)) if prior[channel].any()]
    if len(present) <= 1:
        return prior
    if np.prod(prior.shape[1:], dtype=float) <= _LARGEST:
        messages = yield from _exchange_messages(image, prior, present, spacing, config)
        return _marginals(_logarithm(prior), messages) if messages else prior
    whole = Box((0, 0, 0), (prior.shape[1], prior.shape[2], prior.shape[3]), 0)
    both = np.concatenate([image, prior[present]])
    grid = WorkGrid(Scene(both, spacing, whole, np.zeros(prior.shape[1:], bool)), _LARGEST)
    del both
    small = np.zeros((len(prior), *grid.scene.image.shape[1:]), np.float32)
    small[present] = grid.scene.image[len(image) :]
    messages = yield from _exchange_messages(
        grid.scene.image[: len(image)], _normalised(small), present, grid.scene.spacing, config
    )
    if not messages:
        return prior
    logits = _logarithm(prior)
    del prior
    return _marginals(logits, {channel: grid.bring_back(heard) for channel, heard in messages.items()})


def _exchange_messages(
    image: NDArray[Any],
    prior: Floats,
    present: Sequence[int],
    spacing: tuple[float, float, float],
    config: CrfConfig,
) -> Generator[float, None, dict[int, Floats]]:
    """Return by channel what each voxel hears in the last update; nothing where nothing is said."""
    kernels = _make_kernels(image, spacing, config)
    log_prior = _logarithm(prior)
    # Potts labels: a class is favoured by its own neighbours, and all classes together by a constant
    everything = _message(np.ones(prior.shape[1:], np.float32), kernels)
    messages: dict[int, Floats] = {}
    marginals = prior
    steps = config.crf_iterations if kernels else 0
    for step in range(1, steps + 1):
        messages = {c: _message(marginals[c], kernels) for c in present if c < len(prior) - 1}
        if len(messages) < len(present):
            messages[present[-1]] = everything.copy()
            for channel in present[:-1]:
                messages[present[-1]] -= messages[channel]
        marginals = _marginals(log_prior.copy(), messages)
        yield step / steps
    return messages


def _logarithm(prior: Floats) -> Floats:
    logarithm = np.full(prior.shape, -np.inf, np.float32)
    np.log(prior, out=logarithm, where=prior > 0)
    return logarithm


def _marginals(logits: Floats, messages: dict[int, Floats]) -> Floats:
    """Add what is heard to log-probabilities ``(K, Z, Y, X)``, and make probabilities of them, in place."""
    for channel, message in messages.items():
        logits[channel] += message
    logits -= logits.max(0)
    logits[logits < _NOTHING] = -np.inf
    marginals = np.exp(logits, out=logits)
    marginals /= marginals.sum(0)
    return marginals


def _check(image: NDArray[Any], probabilities: NDArray[Any], spacing: tuple[float, float, float]) -> None:
    shapes = np.shape(image), np.shape(probabilities)
    if any(len(shape) != 4 or not shape[0] for shape in shapes) or shapes[0][1:] != shapes[1][1:]:
        raise InputError(
            "the dense CRF needs an image (C, Z, Y, X) and probabilities (K, Z, Y, X) of one size, "
            f"not {shapes[0]} and {shapes[1]}."
        )
    if len(spacing) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing):
        raise InputError(f"the dense CRF needs a positive voxel size in mm along Z, Y and X, not {spacing}.")
    for name, values in (("image", image), ("probabilities", probabilities)):
        if not np.isfinite(values).all():
            raise InputError(
                f"the dense CRF's {name} must be finite, but some voxels are NaN or infinite; replace them."
            )
    if np.min(probabilities, initial=0) < 0:
        raise InputError("the dense CRF's probabilities must be at least 0, but some voxels are negative.")


def _normalised(probabilities: NDArray[Any]) -> Floats:
    """Make ``(K, Z, Y, X)`` sum to 1; uniform where there is nothing."""
    largest = probabilities.max(0)
    divisor = np.where(largest > 0, largest, 1).astype(np.result_type(largest, np.float32), copy=False)
    scaled = np.where(largest > 0, probabilities / divisor, 1).astype(np.float32)
    normalised: Floats = scaled / scaled.sum(0)
    return normalised


class _Filter(Protocol):
    """A symmetric kernel between all voxels, and what it says of each voxel to itself."""

    @property
    def diagonal(self) -> Floats: ...

    def apply(self, values: Floats) -> Floats:
        """Sum ``(Z, Y, X)`` values, weighed by the kernel."""
        ...


@dataclass(frozen=True)
class _Kernel:
    """A filter, its weight in the energy and its D^-½."""

    filter: _Filter
    weight: float
    root: Floats


def _make_kernels(
    image: NDArray[Any], spacing: tuple[float, float, float], config: CrfConfig
) -> list[_Kernel]:
    """Return the kernels that have a weight."""
    shape = (image.shape[1], image.shape[2], image.shape[3])
    filters: list[tuple[float, _Filter]] = []
    if config.appearance_weight > 0:
        tables = _gaussian_tables(shape, spacing, config.appearance_mm)
        intensities = _intensities(image) / config.appearance_intensity
        filters.append((config.appearance_weight, _make_grid(intensities, tables)))
    if config.smoothness_weight > 0:
        tables = _gaussian_tables(shape, spacing, config.smoothness_mm)
        filters.append(
            (config.smoothness_weight, _Smoothness(*(table.astype(np.float32) for table in tables)))
        )
    ones = np.ones(shape, np.float32)
    kernels = []
    for weight, part in filters:
        # what the eigenvectors leave out must not bring the sum of a lone voxel below its own share
        row_sums = np.maximum(part.apply(ones), part.diagonal)
        kernels.append(_Kernel(part, weight, row_sums ** np.float32(-0.5)))
    return kernels


def _message(values: Floats, kernels: list[_Kernel]) -> Floats:
    """Return what each voxel hears from all others about one class, weighed and summed over the kernels."""
    heard = np.zeros_like(values)
    for kernel in kernels:
        sent = kernel.root * values
        heard += kernel.weight * kernel.root * (kernel.filter.apply(sent) - kernel.filter.diagonal * sent)
    return heard


def _gaussian_tables(
    shape: Triple, spacing: tuple[float, float, float], reach: float
) -> list[NDArray[np.float64]]:
    """Return for each axis the Gaussian between all pairs of its planes."""
    return [
        _gaussian_table(np.arange(length, dtype=np.float64) * (size / reach))
        for length, size in zip(shape, spacing, strict=True)
    ]


def _gaussian_table(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian between all pairs of places in standard deviations."""
    exponent = 0.5 * (places[:, None] - places) ** 2
    table: NDArray[np.float64] = np.where(exponent < -np.log(_NEGLIGIBLE), np.exp(-exponent), 0.0)
    return table


@dataclass(frozen=True)
class _Smoothness:
    """The Gaussian of position: one exact table for each axis, which for usual reaches costs what taps do."""

    z_table: Floats
    y_table: Floats
    x_table: Floats

    @property
    def diagonal(self) -> Floats:
        return np.ones((1, 1, 1), np.float32)

    def apply(self, values: Floats) -> Floats:
        """Sum ``(Z, Y, X)`` values, weighed by the kernel."""
        depth, height, width = values.shape
        along_z = self.z_table @ values.reshape(depth, height * width)
        along_y = np.matmul(self.y_table, along_z.reshape(depth, height, width))
        summed: Floats = along_y @ self.x_table
        return summed


def _intensities(image: NDArray[Any]) -> NDArray[np.float64]:
    """Reduce ``(C, Z, Y, X)`` to its first principal component of standard deviation 1, or 0 throughout."""
    channels = []
    for channel in image:
        values = np.asarray(channel, np.float64) - np.min(channel)
        if values.max() > 0:
            values /= values.max()  # so that the squares below neither overflow nor vanish
            channels.append((values - values.mean()) / values.std())
    if not channels:
        return np.zeros(image.shape[1:])
    flat = np.stack(channels).reshape(len(channels), -1)
    component: NDArray[np.float64] = np.linalg.eigh(flat @ flat.T)[1][:, -1] @ flat
    component /= component.std()
    return component.reshape(image.shape[1:])


@dataclass(frozen=True)
class _Grid:
    """The bilateral grid of an image.

    Attributes
    ----------
    z_factor, y_factor, x_factor
        ``(planes, components)``; times its own transpose, each is the Gaussian between the planes.
    lower, share
        ``(Z, Y, X)``: the cell below a voxel's intensity, and the share of the voxel that the next one gets.
    blur
        ``(cells, cells)``: the Gaussian of intensity between the cells.
    """

    z_factor: Floats
    y_factor: Floats
    x_factor: Floats
    lower: NDArray[np.int32]
    share: Floats
    blur: Floats

    @property
    def diagonal(self) -> Floats:
        """``(Z, Y, X)``: the grid's own, so that precisely a voxel's message to itself can be left out."""
        z, y, x = (
            np.square(factor).sum(1, dtype=np.float32)
            for factor in (self.z_factor, self.y_factor, self.x_factor)
        )
        together = 2 * self.share * (1 - self.share)
        intensity = (1 - together) * self.blur[0, 0] + together * self.blur[0, 1]
        diagonal: Floats = z[:, None, None] * y[:, None] * x * intensity
        return diagonal

    def apply(self, values: Floats) -> Floats:
        """Sum ``(Z, Y, X)`` values, weighed by the kernel."""
        return self._slice(self._splat(values) @ self.blur)

    def _splat(self, values: Floats) -> Floats:
        """Return ``(components z, y, x, cells)``."""
        cells, sizes = len(self.blur), (self.y_factor.shape[1], self.x_factor.shape[1])
        planes = np.zeros((len(values), sizes[0], sizes[1] * cells), np.float32)
        for z, rows in self._blocks():
            grey = np.zeros((*values[z, rows].shape, cells), np.float32)
            address = self._address(z, rows)
            upper = self.share[z, rows] * values[z, rows]
            grey.reshape(-1)[address] = values[z, rows] - upper
            grey.reshape(-1)[address + 1] = upper
            lines = np.matmul(self.x_factor.T, grey)
            planes[z] += self.y_factor[rows].T @ lines.reshape(len(lines), -1)
        grid = self.z_factor.T @ planes.reshape(len(planes), -1)
        return grid.reshape(-1, *sizes, cells)

    def _slice(self, grid: Floats) -> Floats:
        """Return ``(Z, Y, X)``."""
        sizes, cells = grid.shape[:3], grid.shape[3]
        planes = (self.z_factor @ grid.reshape(sizes[0], -1)).reshape(-1, sizes[1], sizes[2] * cells)
        values = np.empty_like(self.share)
        for z, rows in self._blocks():
            lines = (self.y_factor[rows] @ planes[z]).reshape(-1, sizes[2], cells)
            grey = np.matmul(self.x_factor, lines).reshape(-1)
            address, share = self._address(z, rows), self.share[z, rows]
            values[z, rows] = (1 - share) * grey[address] + share * grey[address + 1]
        return values

    def _blocks(self) -> Iterator[tuple[int, slice]]:
        """Yield rows of one plane that are small enough to stand with all their cells in memory."""
        depth, height, width = self.share.shape
        step = max(1, _BLOCK_CELLS // (width * len(self.blur)))
        for z in range(depth):
            for row in range(0, height, step):
                yield z, slice(row, row + step)

    def _address(self, z: int, rows: slice) -> NDArray[np.int64]:
        """Return where the lower cells of a block lie in its ``(rows, X, cells)``."""
        lower = self.lower[z, rows]
        first = np.arange(0, lower.size * len(self.blur), len(self.blur))
        return first.reshape(lower.shape) + lower


def _make_grid(intensities: NDArray[np.float64], tables: list[NDArray[np.float64]]) -> _Grid:
    """Lay a grid over intensities in standard deviations of the kernel."""
    cell, extent = INTENSITY_CELL, float(np.ptp(intensities))
    if extent > (MOST_CELLS - 1) * cell:
        intensities = _without_gaps(intensities)
        extent = float(np.ptp(intensities))
        cell = max(cell, extent / (MOST_CELLS - 1))
    cells = max(2, int(np.ceil(extent / cell)) + 1)
    # symmetric about the range, so that the negative of an image has the same grid
    start = (intensities.min() + intensities.max() - (cells - 1) * cell) / 2
    place = (intensities - start) / cell
    lower = np.clip(np.floor(place), 0, cells - 2).astype(np.int32)
    share = (place - lower).astype(np.float32)
    # linear interpolation adds share · (1 − share) cells² to the variance, once in splat and once in slice
    variance = max(0.05, 1 - 2 * cell**2 * float(np.mean(share * (1 - share), dtype=np.float64)))
    blur = _gaussian_table(cell / np.sqrt(variance) * np.arange(cells)) / np.sqrt(variance)
    z_factor, y_factor, x_factor = (_factor(table) for table in tables)
    return _Grid(z_factor, y_factor, x_factor, lower, share, blur.astype(np.float32))


def _without_gaps(intensities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Narrow the gaps that no kernel reaches across: a few extreme voxels would spread the grid thin."""
    order = np.argsort(intensities, axis=None)
    ordered = intensities.reshape(-1)[order]
    excess = np.cumsum(np.maximum(0, np.diff(ordered, prepend=ordered[0]) - _FAR))
    narrowed = np.empty_like(ordered)
    narrowed[order] = ordered - excess
    return narrowed.reshape(intensities.shape)


def _factor(table: NDArray[np.float64]) -> Floats:
    """Return the factor of few columns that times its own transpose is a Gaussian table."""
    eigenvalues, vectors = np.linalg.eigh(table)
    kept = eigenvalues > _SMALLEST_EIGENVALUE
    factor = vectors[:, kept] * np.sqrt(eigenvalues[kept])
    return np.where(np.abs(factor) > _NEGLIGIBLE, factor, 0).astype(np.float32)
