"""What the networks of a live session start from: random weights, an encoder, or a network."""

from pathlib import Path

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import Region
from napari_sparseseg.checkpoint import Model, load_model
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint, load_encoder
from napari_sparseseg.encoder_start import check_encoder, hash_encoder, hash_weights
from napari_sparseseg.errors import InputError
from napari_sparseseg.live_image import LiveImage
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.live_round import LiveRound, make_round
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

_AT_RANDOM = "The network starts from random weights: "
_OTHER_CLASSES = (
    "the project's network knows other classes; train on all cases anew for one that knows these."
)


class LiveStart:
    """Holds the encoder or the network that was chosen.

    Attributes
    ----------
    chosen
        Hash of its weights; empty for none.
    """

    def __init__(self) -> None:
        self.chosen = ""
        self._encoder: EncoderCheckpoint | None = None
        self._model: Model | None = None

    def choose(self, folder: Path | None, channels: int) -> None:
        """Choose the encoder or the network in `folder`, None for random weights, for so many channels.

        Raises
        ------
        InputError
            If it cannot be read, or is of other channels; then random weights are chosen.
        """
        before, hash_before = self._model, self.chosen
        self._encoder, self._model, self.chosen = None, None, ""
        if folder is None:
            return
        if (folder / "model.json").exists():
            model = load_model(folder)
            if model.channels != channels:
                raise InputError(
                    f"the project's network takes {model.channels} channels and the image has {channels}; "
                    "train it on images of one kind."
                )
            self.chosen = hash_weights(model.weights)
            self._model = before if self.chosen == hash_before else model  # what asked it goes on asking
        else:
            encoder = load_encoder(folder)
            check_encoder(encoder, encoder.config, channels)
            self._encoder, self.chosen = encoder, hash_encoder(encoder)

    def model_for(self, table: ClassTable) -> Model | None:
        """Return the network that was chosen if it knows just these classes."""
        model = self._model
        return model if model is not None and model.table.mask_values == table.mask_values else None

    def normalisation(self, table: ClassTable) -> Normalisation | None:
        """Return how the network that was chosen, if it knows these classes, sees intensities."""
        model = self.model_for(table)
        return None if model is None else model.normalisation

    def normalise(self, image: LiveImage, labels: LiveLabels) -> bool:
        """Bring an image to what the network that was chosen sees, else to its labels; tell if it changed."""
        given = self.normalisation(labels.table)
        return image.follow(labels.annotation) if given is None else image.normalise(given)

    def begin(
        self,
        image: LiveImage,
        labels: LiveLabels,
        region: Region,
        training: TrainingConfig,
        network: NetworkConfig,
    ) -> tuple[LiveRound, str]:
        """Return a network that begins to learn from an image's labels, and what is to be told of its start.

        A network that was chosen keeps its own architecture and size.
        """
        model = self.model_for(labels.table)
        encoder, unfit = (None, "") if model else self._encoder_for(network, image.channels)
        if model is not self._model:
            unfit = f"{_AT_RANDOM}{_OTHER_CLASSES}"
        learner = make_round(
            image=image.normalised, normalisation=image.normalisation, spacing=image.spacing, region=region,
            annotation=labels.annotation, sources=labels.sources, table=labels.table, config=training,
            network_config=model.config if model else network, presence=labels.presence, encoder=encoder,
            initial=model,
        )  # fmt: skip
        return learner, unfit

    def _encoder_for(self, network: NetworkConfig, channels: int) -> tuple[EncoderCheckpoint | None, str]:
        """Return the encoder if a network of these settings can start from it, and else what to tell."""
        if self._encoder is not None:
            try:
                check_encoder(self._encoder, network, channels)
            except InputError as error:
                return None, f"{_AT_RANDOM}{error}"
        return self._encoder, ""
