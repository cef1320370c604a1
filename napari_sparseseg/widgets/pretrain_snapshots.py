"""What the Pre-train panel shows, as a frozen snapshot; see `snapshots`."""

from dataclasses import dataclass, field, replace

from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.settings import NetworkConfig

SECONDS = 120.0
"""How long an encoder learns where the user has said nothing."""


@dataclass(frozen=True)
class EncoderRow:
    """One pre-trained encoder in the list of the Pre-train panel.

    Attributes
    ----------
    folder
        Where it is.
    name
        How to call it ("masked_autoencoder-2").
    words
        What it learnt from, in words ("4 volumes, 1200 steps"), or that it is unfinished.
    dice
        Mean Dice of the linear probe (0–1), None where it was not compared.
    """

    folder: str
    name: str
    words: str
    dice: float | None = None


@dataclass(frozen=True)
class PretrainState:
    """The Pre-train panel.

    Attributes
    ----------
    uses_image, uses_project
        Whether the shown image, and the project's other images, are learnt from.
    project_count
        How many other images the project has.
    folder, folder_count
        Folder of volumes to learn from ("" for none), and how many it has.
    config, pretext, network
        The settings.
    running
        What is being done: "", "pretrain" or "probe".
    progress
        Share done, 0–1; None while it is not known.
    sentence
        What goes on or what came of it, in words; may be empty.
    notes
        Sentences that the user should read.
    losses, figures, alignments, uniformities
        ``(step, value)`` of the loss, of the task's own figure, and of the features.
    figure
        What the task is measured by: "accuracy" (larger is better) or "error" (smaller is better).
    trivial
        That figure by chance or for the trivial answer; None while it is not known.
    spread, collapsed
        How far apart features lie (0–1; None while that is not known), and whether they say nearly the same
        of everything.
    within_volume
        Whether the figures were measured on volumes that are learnt from.
    encoders, chosen
        The encoders of this project, and the folder of the one that is marked ("" for none).
    used
        Folder of the encoder that training starts from; "" for random weights.
    probes
        Name and Dice of each bar of the comparison, random weights first.
    pictured
        Whether layers show what the task sees.
    why_no_project, why_no_train, why_no_probe, why_no_use, why_no_delete, why_no_clear_pictures
        Reasons why not; empty when it can be done.
    """

    uses_image: bool = True
    uses_project: bool = False
    project_count: int = 0
    folder: str = ""
    folder_count: int = 0
    config: PretrainingConfig = field(default_factory=lambda: replace(PretrainingConfig(), seconds=SECONDS))
    pretext: PretextConfig = field(default_factory=PretextConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    running: str = ""
    progress: float | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    figures: tuple[tuple[int, float], ...] = ()
    alignments: tuple[tuple[int, float], ...] = ()
    uniformities: tuple[tuple[int, float], ...] = ()
    figure: str = "accuracy"
    trivial: float | None = None
    spread: float | None = None
    collapsed: bool = False
    within_volume: bool = False
    encoders: tuple[EncoderRow, ...] = ()
    chosen: str = ""
    used: str = ""
    probes: tuple[tuple[str, float], ...] = ()
    pictured: bool = False
    why_no_project: str = "The project has no other images."
    why_no_train: str = "Open an image first."
    why_no_probe: str = "There is no encoder yet."
    why_no_use: str = "There is no encoder yet."
    why_no_delete: str = "There is no encoder yet."
    why_no_clear_pictures: str = "There are no pictures of the task."
