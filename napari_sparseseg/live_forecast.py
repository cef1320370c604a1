"""What a network says of the whole open image that has not learnt from its labels yet."""

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, maximum_filter

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.cases import Region
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, PictureChanged, PictureCompleted, Waiting
from napari_sparseseg.inference import Prediction, predict_volume
from napari_sparseseg.live_image import LiveImage
from napari_sparseseg.live_picture import LivePicture, edges_of
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.regions import MARGIN_VOXELS
from napari_sparseseg.settings import InferenceConfig

_FORESEEN = "This is what the project's network says; correct it where it is wrong, and it learns from that."
_TOO_FEW = "Paint a few strokes of background and of at least one more class."
_SURE = 0.3
_DOUBT_VOXELS = 6  # around a correction

FORESEEN_REASON = "the project's network: it has not learnt from this image yet"
"""Why its answer is shown."""


class LiveForecast:
    """The answer of one network for one image, made bit by bit when there is a moment; or nothing at all.

    Parameters
    ----------
    image
        The image.
    picture
        Where it is shown.
    """

    def __init__(self, image: LiveImage, picture: LivePicture) -> None:
        self._image, self._picture = image, picture
        self._asked: tuple[Model | None, InferenceConfig] = (None, InferenceConfig())
        self._work: Generator[Event, None, Prediction] | None = None
        self._prediction: Prediction | None = None
        self._shown: Prediction | None = None
        self._found: Region | None = None

    def ask(self, model: Model | None, config: InferenceConfig) -> None:
        """Ask this network in this way, in place of what was asked before; None: ask none."""
        if model is self._asked[0] and config == self._asked[1]:
            return
        self._asked = (model, config)
        self._work = self._prediction = self._found = None
        if model is not None:
            self._work = predict_volume(model, self._image.intensities, self._image.spacing, config)

    @property
    def is_due(self) -> bool:
        """Whether there is still something to do for it."""
        return self._work is not None

    @property
    def is_made(self) -> bool:
        """Whether it is there."""
        return self._prediction is not None

    def holds(self, learner: LiveRound | None) -> bool:
        """Whether it is still the best answer: the network that goes on with it has hardly learnt yet."""
        if self._prediction is None:
            return False
        return learner is None or (learner.is_taught and learner.steps < learner.speaks_from)

    def advance(self) -> Generator[Event, None, None]:
        """Do a bit of the work."""
        assert self._work is not None
        try:
            yield next(self._work)
        except StopIteration as end:
            self._work, self._prediction = None, end.value
            # Once: looking through a large volume would make each stroke wait.
            self._found = next(iter(find_objects((end.value.channels > 0).astype(np.uint8))), None)
        except InputError as error:
            self._work = None
            yield Noted(f"The project's network cannot be used here: {error}")

    def clear(self) -> Iterator[Event]:
        """Show nothing else any more; then it is shown again, or nothing is."""
        self._shown = None
        if self._prediction is None:
            yield from self._picture.clear()

    def show(self) -> Iterator[Event]:
        """Make it, or let it be the picture of the whole image, or say what is waited for."""
        if self.is_due:
            yield from self.advance()
        elif self._shown is self._prediction:
            yield Waiting(_TOO_FEW if self._prediction is None else _FORESEEN)
        elif self._prediction is None:
            yield from self.clear()
        else:
            self._shown = self._prediction
            z, y, x = (slice(0, size) for size in self._prediction.channels.shape)
            yield self.show_in((z, y, x))
            yield PictureCompleted("network", FORESEEN_REASON, edges_of((z, y, x)))

    def show_in(self, box: Region) -> PictureChanged:
        """Let it, once made, be the picture in a box."""
        assert self._prediction is not None
        return self._picture.write_channels(
            box, self._prediction.channels[box], self._prediction.uncertainty[box]
        )

    def widen(self, region: Region, margin: int = MARGIN_VOXELS) -> Region:
        """Return the box round `region` and what is foreseen of the classes, that with a margin in voxels."""
        if self._found is None or self._prediction is None:
            return region
        z, y, x = (
            slice(
                min(own.start, max(0, found.start - margin)), max(own.stop, min(length, found.stop + margin))
            )
            for own, found, length in zip(region, self._found, self._prediction.channels.shape, strict=True)
        )
        return z, y, x

    def recall(self, annotation: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
        """Return what was said with confidence in a region, but not near labels that contradict it.

        Parameters
        ----------
        annotation
            ``(Z, Y, X)`` of the whole volume.
        region
            The box.

        Returns
        -------
        Annotation of the region; 0 where nothing was said.
        """
        assert self._prediction is not None
        said, labels = self._prediction.channels[region] + np.uint8(BACKGROUND), annotation[region]
        near = (labels > 0) & (labels != said)
        for box in find_objects(near.astype(np.uint8)):  # one, round all: looking at more takes long
            reach = 2 * _DOUBT_VOXELS
            wide = tuple(slice(max(0, edge.start - reach), edge.stop + reach) for edge in box)
            near[wide] = maximum_filter(near[wide], 2 * _DOUBT_VOXELS + 1)
        sure = (self._prediction.uncertainty[region] < _SURE) & ~near
        recalled: NDArray[np.uint8] = np.where(sure, said, np.uint8(0))
        return recalled
