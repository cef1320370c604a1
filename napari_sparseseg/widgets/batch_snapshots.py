"""What the Batch panel shows, as a frozen snapshot; see `snapshots`."""

from dataclasses import dataclass, field

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.settings import InferenceConfig


@dataclass(frozen=True)
class BatchRow:
    """One volume in the list of results.

    Attributes
    ----------
    name
        Of the volume, unlike that of any other.
    words
        What came of it: millilitres of its classes, or why there is no mask.
    kind
        "failed", "look" (somebody should look at it) or "fine".
    warnings
        Why somebody should look at it, in sentences.
    """

    name: str
    words: str
    kind: str = "fine"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchState:
    """The Batch panel.

    Attributes
    ----------
    sources, sources_words
        What is to be segmented, as `batch_inputs.find_inputs` takes it, and in words with the number of
        volumes; empty while nothing is chosen.
    networks, network, network_words
        Which networks can be chosen by name and in words, the chosen one ("" for none), and what is known of
        it, in words.
    out, out_warning
        Folder for the results ("" for none), and what is wrong with it, in words.
    config, inference
        The settings.
    why_no_dicom
        Reason why no DICOM segmentations can be written; empty where they can.
    running
        Whether volumes are being segmented.
    progress
        Share done, 0-1; None while it is not known.
    sentence
        What goes on or what came of it, in words; may be empty.
    notes
        Sentences that the user should read.
    command
        The same on the command line; empty while something is missing.
    rows, results_words
        The volumes that are done, those that need a look first when all are; and how many, in words.
    report
        The HTML report; empty while there is none.
    why_no_run, why_no_change, why_no_folder
        Reasons why not; empty when it can be done.
    """

    sources: tuple[str, ...] = ()
    sources_words: str = ""
    networks: dict[str, str] = field(default_factory=dict)
    network: str = ""
    network_words: str = ""
    out: str = ""
    out_warning: str = ""
    config: BatchConfig = field(default_factory=BatchConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    why_no_dicom: str = ""
    running: bool = False
    progress: float | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    command: str = ""
    rows: tuple[BatchRow, ...] = ()
    results_words: str = ""
    report: str = ""
    why_no_run: str = "Choose the volumes first."
    why_no_change: str = ""
    why_no_folder: str = "Choose a folder for the results first."
