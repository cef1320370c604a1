"""Tasks that make up what was taken away from a volume.

All are solved by a whole U-Net, whose encoder is kept.  Its skip connections hand each level's features to
the decoder, so that the shallow levels may solve a task alone, by copying or by filters a few voxels wide,
and the deep ones learn nothing.  Where blocks are hidden that cannot be: nothing is to be copied there, and
the middle of a block larger than the shallow levels' sight is only reached through the deep ones.  It can
where every voxel is given in a worse form: `SuperResolution` and `Denoising` therefore learn what is to be
added to their input, which at least leaves nothing to copy, but of all tasks they ask the least of the deep
levels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.adversary import Adversary
from napari_sparseseg.errors import InputError
from napari_sparseseg.hidden_blocks import (
    block_moments,
    block_size,
    draw_grid_blocks,
    grid_block_size,
    scatter_blocks,
    spread_blocks,
)
from napari_sparseseg.pretext import Batch, Outcome, Picture, PretextTask, TaskBuilder, TaskContext
from napari_sparseseg.trivial_answers import (
    ColourTable,
    blur,
    enlarge,
    enlarge_true,
    fill_smoothly,
    shrink,
    visible_means,
)
from napari_sparseseg.volume_pool import VolumePool

CT_GREY = (-1.0, 1.0)
CT_WINDOWS: Mapping[str, tuple[float, float]] = {"dark": (-4.0, -1.0), "bright": (1.0, 4.0)}
"""The window in which CT is shown, and those to tell from it: lowest and highest intensity.

In units of the normalisation, which has one mean and one deviation for all volumes in Hounsfield units,
those of all that is not air: so these are fixed windows, roughly soft tissue, lung and air, and bone.
"""

_FEATURES = 4
_HEAD_WIDTH = 8
_LEAST_DEVIATION = 0.1  # of a block, as a share of the volume's; else noise in air is as important as organs
_BLURS = (0.35, 0.5, 0.7, 1.0, 1.4)
_COLOURS = 16
_MOST_GREY = 4.0
_MEMORY = 0.95
_EVEN_SHARE = 0.5


class _Painting(PretextTask):
    """A task solved by maps at full resolution.

    A thin head paints from several features of the U-Net and from the input itself.  MONAI's `UNet` strides
    in its first block and normalises its last features within a piece, so that alone it tells neither
    single voxels nor how bright a piece is; and what a filter of 3 voxels can do is better learnt by the
    head, which is thrown away, than by the encoder.  The head begins with nothing, and so does what is added
    to an input.
    """

    figure = "error"

    def __init__(self, context: TaskContext, outputs: int) -> None:
        super().__init__(context, context.build_network(_FEATURES))
        inputs = _FEATURES + context.channels
        self.near = nn.Conv3d(inputs, _HEAD_WIDTH, 3, padding=1)
        self.head = nn.Conv3d(inputs + _HEAD_WIDTH, outputs, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def paint(self, shown: Tensor) -> Tensor:
        """Return ``(B, outputs, Z, Y, X)`` float32 for ``(B, C, Z, Y, X)`` pieces."""
        features = self.network(shown)
        features = torch.cat([features, shown.to(features.dtype)], 1)
        near = functional.leaky_relu(self.near(features))
        painted: Tensor = self.head(torch.cat([features, near], 1))
        return painted.float()


class Inpainting(_Painting):
    """Fill in blocks that are hidden.

    Context encoders of Pathak et al. (2016), in 3D: blocks anywhere in a piece are replaced by the mean of
    what is left, and the network adds what a smooth interpolation of that lacks.  The loss is the squared
    error at hidden voxels, and an adversarial term that judges the filled piece, of weight
    `PretextConfig.adversarial`; 0 leaves it out.

    The error is the root mean square at hidden voxels, in standard deviations of a volume.  The trivial
    answer is the mean of the visible voxels or a smooth interpolation of them, whichever is better.

    The trap: what is visible can be copied, and learning to do so is worth nothing; interpolation nearly so.
    Only hidden voxels are looked at, the interpolation is given, and a block is hidden in all channels, so
    that no channel tells of another.  Blocks of 3 or 4 voxels leave little else to learn than interpolation.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.channels)
        self._block = block_size(context.config.mask_voxels, context.spacing, context.crop)
        self.adversary = Adversary(context.channels) if context.config.adversarial > 0 else None

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw pieces "target", "input" where blocks are filled with the mean, and which are "hidden"."""
        context = self.context
        target = pool.draw_pieces(random, context.crop, context.batch_size)
        hidden = scatter_blocks(
            random, context.batch_size, context.crop, self._block, context.config.mask_share
        )
        shown = torch.where(hidden, visible_means(target, hidden), target)
        return {"input": shown, "target": target, "hidden": hidden}

    def learn(self, batch: Batch) -> Outcome:
        """Fill the hidden voxels; the loss sees no others."""
        shown, target, hidden = batch["input"], batch["target"], batch["hidden"]
        filled = self._fill(batch)
        error = _mean_square(filled - target, hidden)
        loss = error
        if self.adversary is not None:
            better, wiser = self.adversary(filled, target)
            loss = error + self.context.config.adversarial * better + wiser
        trivial = min(
            _mean_square(shown - target, hidden),
            _mean_square(fill_smoothly(shown, hidden, self._block) - target, hidden),
        )
        return Outcome(loss, error.detach().sqrt(), trivial.sqrt())

    def _fill(self, batch: Batch) -> Tensor:
        shown = batch["input"]
        smooth = fill_smoothly(shown, batch["hidden"], self._block)
        return torch.where(batch["hidden"], smooth + self.paint(shown), batch["target"])

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a piece with blocks hidden, whole, and filled in."""
        return _show(input=batch["input"], target=batch["target"], prediction=self._fill(batch))


class MaskedAutoencoder(_Painting):
    """Tell what each hidden block of a piece looks like, apart from its brightness and contrast.

    He et al. (2022), Masked autoencoders are scalable vision learners, adapted to convolutions: a piece is
    parted into even blocks, of which a share drawn at random is hidden.  Other than `Inpainting` it wants
    each block's intensities normalised by the block's own mean and deviation, as the paper found best for
    what is learnt; it has no adversary; and hidden blocks are zero, the mean of a normalised volume: a
    convolution cannot leave them out as a transformer does.  The network is not told which blocks these
    are, for then its encoder would need a channel that no other use of it has.

    The error is the root mean square of the normalised intensities at hidden voxels.  The trivial answer is
    the block's mean or a smooth interpolation normalised in the same way, whichever is better.

    The trap: most of a volume's variance is slow, and interpolation gives it.  The normalisation takes it
    out.  That blocks are hidden in all channels, and that only hidden voxels are looked at, holds here too.
    A block of even intensity has nothing but noise to predict: deviations below a tenth of the volume's are
    not normalised further.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.channels)
        self._block = grid_block_size(context.config.mask_voxels, context.spacing, context.crop)

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw pieces "target", "input" where blocks are zero, and which are "hidden"."""
        context = self.context
        target = pool.draw_pieces(random, context.crop, context.batch_size)
        hidden = draw_grid_blocks(
            random, context.batch_size, context.crop, self._block, context.config.mask_share
        )
        return {"input": target.masked_fill(hidden, 0), "target": target, "hidden": hidden}

    def learn(self, batch: Batch) -> Outcome:
        """Tell the normalised blocks; the loss sees no others than the hidden ones."""
        shown, hidden = batch["input"], batch["hidden"]
        target = self._normalise(batch["target"])
        error = _mean_square(self.paint(shown) - target, hidden)
        smooth = self._normalise(fill_smoothly(shown, hidden, self._block))
        trivial = min(_mean_square(target, hidden), _mean_square(smooth - target, hidden))
        return Outcome(error, error.detach().sqrt(), trivial.sqrt())

    def _normalise(self, pieces: Tensor) -> Tensor:
        mean, deviation = self._moments(pieces)
        return (pieces - mean) / deviation

    def _moments(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = block_moments(pieces, self._block)
        deviation = (variance + _LEAST_DEVIATION**2).sqrt()
        return spread_blocks(mean, self._block), spread_blocks(deviation, self._block)

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a piece with blocks hidden, whole, and filled in by each block's true mean and deviation."""
        shown, target, hidden = batch["input"], batch["target"], batch["hidden"]
        mean, deviation = self._moments(target)
        made = self.paint(shown) * deviation + mean
        return _show(input=shown, target=target, prediction=torch.where(hidden, made, target))


class SuperResolution(_Painting):
    """Make a coarse piece fine again.

    As in Kim et al. (2016), Accurate image super-resolution using very deep convolutional networks: the
    means of blocks of voxels, interpolated linearly, are the input, and what interpolation lacks is learnt.
    Only axes along which the network halves its features are made coarser: thick slices are coarse already.

    The error is the root mean square over all voxels, in standard deviations of a volume.  The trivial
    answer is linear interpolation, with the blocks' means set right where that is better.

    The trap: interpolation solves smooth regions, most of a volume, and to repeat it is worth nothing.  The
    network's answer is added to the interpolated, so that it learns from what is left: edges and texture.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.channels)
        halved = [max(level[axis] for level in context.plan.strides) > 1 for axis in range(3)]
        self.factors = tuple(context.config.shrink if axis else 1 for axis in halved)

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw fine pieces "target", and "input" interpolated from the means of their blocks."""
        target = pool.draw_pieces(random, self.context.crop, self.context.batch_size)
        coarse = shrink(target, self.factors)
        return {"input": enlarge(coarse, self.factors, target.shape[2:]), "target": target}

    def learn(self, batch: Batch) -> Outcome:
        """Add to the interpolated what it lacks."""
        shown, target = batch["input"], batch["target"]
        error = (self._enlarge(batch) - target).square().mean()
        true = enlarge_true(shown, shrink(target, self.factors), self.factors)
        trivial = min((shown - target).square().mean(), (true - target).square().mean())
        return Outcome(error, error.detach().sqrt(), trivial.sqrt())

    def _enlarge(self, batch: Batch) -> Tensor:
        return batch["input"] + self.paint(batch["input"])

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a piece interpolated, as it was, and made fine."""
        return _show(input=batch["input"], target=batch["target"], prediction=self._enlarge(batch))


class Colorization(_Painting):
    """Tell the channels of a volume from a grey version of it.

    Zhang et al. (2016), Colorful image colorization, in 3D.  Of several channels (MR sequences, PET and CT)
    the grey version is their mean; of CT it is the piece in the narrow window `CT_GREY`, and the colours are
    its other windows, `CT_WINDOWS`: whether what is black is air, lung or fat, and what is white enhanced or
    bone.  One channel without a unit has neither.

    Zhang et al. classify binned colours because an object can have one of several quite different ones,
    whose mean is none.  Intensities in one volume are ordered and nearly determined by the tissue, so they
    are regressed here, which also needs one map per channel at full resolution instead of one per bin.  Their
    re-balancing is kept: a voxel counts by the rarity of its intensity in the batch, mixed half and half with
    an even distribution; otherwise air and the commonest tissue are all there is.

    The error is the root mean square, so weighted.  The trivial answer is the best that a voxel's own grey
    allows: the mean colour of all voxels of that grey in the batch.

    The trap: to look a colour up by the grey value needs no surroundings.  The trivial answer is just that,
    fitted to the very batch that is measured: what beats it has seen more than a voxel.  And the network
    only adds to what a table of the batches before says, so that it need not learn the table itself.  A
    limit: the encoder sees the same image in all channels, so that its first filters are not those of
    single channels.
    """

    def __init__(self, context: TaskContext) -> None:
        if context.channels == 1 and not context.is_ct:
            raise InputError(
                "colorization tells channels, or windows of Hounsfield units, from a grey image; these "
                "volumes have one channel without such a unit; choose another task."
            )
        self._names = (
            tuple(CT_WINDOWS) if context.channels == 1 else tuple(map(str, range(1, context.channels + 1)))
        )
        super().__init__(context, len(self._names))
        self._limit = _MOST_GREY if context.channels > 1 else 1.0
        self.table = ColourTable(len(self._names), self._limit)

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw pieces' channels or windows "target", and "input" without colours."""
        pieces = pool.draw_pieces(random, self.context.crop, self.context.batch_size)
        if self.context.channels > 1:
            grey = pieces.mean(1, keepdim=True)
            return {"input": grey.expand_as(pieces).clone(), "target": pieces}
        windows = [_window(pieces, low, high) for low, high in CT_WINDOWS.values()]
        return {"input": _window(pieces, *CT_GREY), "target": torch.cat(windows, 1)}

    def learn(self, batch: Batch) -> Outcome:
        """Tell each colour at each voxel."""
        shown, target = batch["input"], batch["target"]
        weights, grey = rarity(target), shown[:, :1]
        error = (weights * (self._colour(shown) - target).square()).mean()
        answer = ColourTable(len(self._names), self._limit).to(shown.device).learn(grey, target, weights)
        trivial = (weights * (answer(grey) - target).square()).mean()
        if self.training:
            self.table.learn(grey, target, weights, _MEMORY)
        return Outcome(error, error.detach().sqrt(), trivial.sqrt())

    def _colour(self, shown: Tensor) -> Tensor:
        looked_up: Tensor = self.table(shown[:, :1])
        return looked_up + self.paint(shown)

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a grey piece, and each of its colours as it is and as it is told."""
        pictures = list(_show(input=batch["input"]))
        made = self._colour(batch["input"])
        for channel, name in enumerate(self._names):
            one = slice(channel, channel + 1)
            shown = {f"target {name}": batch["target"][:, one], f"prediction {name}": made[:, one]}
            pictures += _show(**shown)
        return pictures


class Denoising(_Painting):
    """Take away noise that was added.

    Denoising autoencoders of Vincent et al. (2010); as in Zhang et al. (2017), Beyond a Gaussian denoiser,
    the noise is what the network gives, and is subtracted.  It is normal, independent in all voxels and
    channels, of `PretextConfig.noise` standard deviations of a volume.

    The error is the root mean square.  The trivial answer is the noisy piece, or that blurred by whichever
    Gaussian is best for the batch.

    The trap: a filter a few voxels wide takes away most of the noise, and the skip connections hand the rest
    through; so blurring is the answer to beat, and what the network does better is to keep edges and
    structures whose course it knows.  Much noise (1 or more) makes it look further.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context, context.channels)

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw pieces "target", and "input" with noise."""
        target = pool.draw_pieces(random, self.context.crop, self.context.batch_size)
        noise = torch.from_numpy(random.standard_normal(tuple(target.shape), dtype=np.float32))
        return {"input": target + self.context.config.noise * noise, "target": target}

    def learn(self, batch: Batch) -> Outcome:
        """Tell the noise, and take it away."""
        shown, target = batch["input"], batch["target"]
        error = (self._clean(batch) - target).square().mean()
        finest = min(self.context.spacing)
        answers = [blur(shown, [width * finest / s for s in self.context.spacing]) for width in _BLURS]
        trivial = min((answer - target).square().mean() for answer in (shown, *answers))
        return Outcome(error, error.detach().sqrt(), trivial.sqrt())

    def _clean(self, batch: Batch) -> Tensor:
        return batch["input"] - self.paint(batch["input"])

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return a piece with noise, without, and cleaned."""
        return _show(input=batch["input"], target=batch["target"], prediction=self._clean(batch))


def rarity(targets: Tensor) -> Tensor:
    """Return how much each voxel counts, by how rare its intensity is; the mean in a channel is 1.

    The weights of Zhang et al. (2016), from a histogram of the batch mixed half and half with an even one.

    Parameters
    ----------
    targets
        ``(B, C, Z, Y, X)``.
    """
    weights = []
    for target in targets.detach().transpose(0, 1):
        low, high = target.amin(), target.amax()
        bins = ((target - low) / (high - low).clamp_min(1e-6) * _COLOURS).long().clamp_max(_COLOURS - 1)
        shares = torch.bincount(bins.reshape(-1), minlength=_COLOURS) / bins.numel()
        counts = 1 / ((1 - _EVEN_SHARE) * shares + _EVEN_SHARE / _COLOURS)
        weights.append((counts / (counts * shares).sum())[bins])
    return torch.stack(weights, 1)


def _window(pieces: Tensor, low: float, high: float) -> Tensor:
    """Return intensities of a window from -1 to 1, all below and above clipped."""
    return 2 * (pieces.clamp(low, high) - low) / (high - low) - 1


def _mean_square(errors: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean square of ``(B, C, Z, Y, X)`` errors at ``(B, 1, Z, Y, X)`` hidden voxels."""
    return (errors.square() * hidden).sum() / (hidden.sum() * errors.shape[1])


def _show(**pieces: Tensor) -> Sequence[Picture]:
    """Return pictures of the first channel of the first piece."""
    return [Picture(name, piece[0, 0].float().cpu().numpy()) for name, piece in pieces.items()]


GENERATIVE_TASKS: Mapping[str, TaskBuilder] = {
    "inpainting": Inpainting,
    "masked_autoencoder": MaskedAutoencoder,
    "super_resolution": SuperResolution,
    "colorization": Colorization,
    "denoising": Denoising,
}
"""Name of a task → what solves it."""
