"""What is known of each case in the list of a project's cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SEPARATOR = ";"


def key_of(files: Sequence[str]) -> str:
    """Return what a case of these files is known by."""
    return _SEPARATOR.join(files)


def files_of(key: str) -> tuple[str, ...]:
    """Return the files that a case known by `key` is read from: itself, if there is such a file."""
    return (key,) if _SEPARATOR not in key or Path(key).exists() else tuple(key.split(_SEPARATOR))


@dataclass(frozen=True)
class Judgement:
    """How sure the project's network was of a case.

    Attributes
    ----------
    uncertainty
        Mean uncertainty, 0 to 1, as `case_checks.CaseMeasures` has it.
    warnings
        What is odd about its answer, in sentences.
    current
        Whether that network has not learnt anew since.
    """

    uncertainty: float
    warnings: tuple[str, ...] = ()
    current: bool = True


@dataclass(frozen=True)
class Quality:
    """How well the project's network does on labels held out of its training: Dice by key, and overall."""

    by_case: Mapping[str, float]
    overall: float | None = None


@dataclass(frozen=True)
class LabelCount:
    """How much is labelled in a case.

    Attributes
    ----------
    slices
        Slices that the user has labelled on purpose, across any axis.
    marks
        Labelled voxels, boxes, points and image-level labels: 0 where nothing was said of the case.
    """

    slices: int
    marks: int


@dataclass(frozen=True)
class CohortCase:
    """One line of the list of cases.

    Attributes
    ----------
    key
        Unlike that of every other line: the files, or ``case-3`` where the project keeps the image itself.
    name
        For people.
    files
        As `volume.load_volume` takes them; empty where the project keeps the image itself.
    number
        Of the `CaseRecord`; None before the first stroke.
    labels
        What is labelled; None while that has not been counted.
    done
        Whether the user has marked it as done.
    added
        Whether it was added to the list; it is in the list without that once something is labelled.
    dice
        Dice on held-out labels; None where nothing was measured.
    by_project
        Whether `dice` is that of the project's network, not of what was learnt from this case alone.
    judgement
        How sure the project's network was; None where it was not asked.
    problem
        Why it cannot be opened, in a sentence; empty where it can.
    thumbnail
        PNG file with a small picture; empty while there is none.
    """

    key: str
    name: str
    files: tuple[str, ...] = ()
    number: int | None = None
    labels: LabelCount | None = LabelCount(0, 0)
    done: bool = False
    added: bool = True
    dice: float | None = None
    by_project: bool = False
    judgement: Judgement | None = None
    problem: str = ""
    thumbnail: str = ""

    @property
    def state(self) -> str:
        """One of "unlabelled", "work" (something is labelled) and "done"."""
        if self.done:
            return "done"
        return "unlabelled" if self.labels is not None and not self.labels.marks else "work"
