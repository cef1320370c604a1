"""What the networks of a live session start from: random weights, or an encoder that has learnt elsewhere."""

from pathlib import Path

from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint, load_encoder
from napari_sparseseg.encoder_start import check_encoder, hash_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import NetworkConfig

_AT_RANDOM = "The network starts from random weights: "


class LiveStart:
    """Holds the encoder that was chosen.

    Attributes
    ----------
    chosen
        Hash of its weights; empty for none.
    """

    def __init__(self) -> None:
        self.chosen = ""
        self._encoder: EncoderCheckpoint | None = None

    def choose(self, folder: Path | None, channels: int) -> None:
        """Choose the encoder in `folder`, None for random weights, for an image of so many channels.

        Raises
        ------
        InputError
            If it cannot be read, or is of other channels; then random weights are chosen.
        """
        self._encoder, self.chosen = None, ""
        if folder is not None:
            encoder = load_encoder(folder)
            check_encoder(encoder, encoder.config, channels)
            self._encoder, self.chosen = encoder, hash_encoder(encoder)

    def encoder_for(self, network: NetworkConfig, channels: int) -> tuple[EncoderCheckpoint | None, str]:
        """Return the encoder if a network of these settings can start from it, and else what to tell."""
        if self._encoder is not None:
            try:
                check_encoder(self._encoder, network, channels)
            except InputError as error:
                return None, f"{_AT_RANDOM}{error}"
        return self._encoder, ""
