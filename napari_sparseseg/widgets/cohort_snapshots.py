"""What the Cases panel shows, as a frozen snapshot; see `snapshots`."""

from dataclasses import dataclass, field

from napari_sparseseg.cohort_records import CohortCase

FILTERS = ("all", "unlabelled", "work", "done")
"""Which cases the list shows; but for "all", these are the states of `CohortCase`."""

MINUTES = 10
"""How long the network of all cases learns where the user has said nothing."""


@dataclass(frozen=True)
class CasesState:
    """The Cases panel.

    Attributes
    ----------
    rows
        The cases that the list shows, by filter and search.
    counts
        How many cases there are, by filter.
    filter, search
        Entry of `FILTERS`, and what the names must contain; empty for anything.
    opened, opening
        Keys of the case in work and of the one that is being opened; empty for none.
    busy
        What is being read, in words; empty where nothing is.
    running
        What is being done: "", "cohort" or "judge".
    progress
        Share done, 0–1; None while it is not known.
    sentence
        What goes on or what came of it, in words; may be empty.
    notes
        Sentences that the user should read.
    advised
        Key of the case that should be labelled next; empty for none.
    advice
        Which one that is and why, in words; empty before that was asked.
    minutes
        How long the network learns.
    quality
        How good the network of all cases is, in words.
    folder
        Where to offer files.
    why_no_train, why_no_advice, why_no_advised, why_no_next, why_no_previous
        Reasons why not; empty when it can be done.
    """

    rows: tuple[CohortCase, ...] = ()
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FILTERS, 0))
    filter: str = "all"
    search: str = ""
    opened: str = ""
    opening: str = ""
    busy: str = ""
    running: str = ""
    progress: float | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    advised: str = ""
    advice: str = ""
    minutes: int = MINUTES
    quality: str = ""
    folder: str = ""
    why_no_train: str = "Label a few slices of a case first."
    why_no_advice: str = "Add some cases first."
    why_no_advised: str = "No case is recommended yet."
    why_no_next: str = "Add some cases first."
    why_no_previous: str = "Add some cases first."
