"""Events of work on many volumes: a batch that is predicted, a network that learns from a whole project."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchCaseDone:
    """A volume of a batch is done, with or without success.

    Attributes
    ----------
    done, total
        How many volumes are done by now, and of how many.
    name
        Of the case.
    mask
        The mask that was written, or was there and up to date; empty where it failed.
    error
        Why there is none, in a sentence; empty where there is.
    warnings
        Why somebody should look at it, in sentences.
    skipped
        Whether it was up to date already.
    volumes_ml, uncertainty
        As `batch_records.BatchRecord` has them.
    """

    done: int
    total: int
    name: str
    mask: str
    error: str = ""
    warnings: tuple[str, ...] = ()
    skipped: bool = False
    volumes_ml: dict[str, float] = field(default_factory=dict)
    uncertainty: float = 0.0


@dataclass(frozen=True)
class BatchFinished:
    """A batch is done, and its report is written.

    Attributes
    ----------
    report
        The HTML file.
    done, skipped, failed
        How many volumes were segmented, were up to date already, and could not be segmented.
    """

    report: str
    done: int
    skipped: int
    failed: int


@dataclass(frozen=True)
class CohortTrained:
    """A network has learnt from all labelled cases of a project, and is written.

    Attributes
    ----------
    folder
        Of the model.
    case_dice
        Mean Dice on held-out labels by the case's name, as far as a case has any.
    dice
        The same over all cases; NaN where nothing could be held out.
    """

    folder: str
    case_dice: dict[str, float]
    dice: float


@dataclass(frozen=True)
class CaseJudged:
    """The project's network was asked how sure it is of a case.

    Attributes
    ----------
    source
        The case's file, as it was asked for.
    uncertainty
        Mean uncertainty, 0 to 1, as `case_checks.CaseMeasures` has it.
    warnings
        What is odd about its answer, in sentences.
    error
        Why it could not be asked, in a sentence; empty where it could.
    """

    source: str
    uncertainty: float
    warnings: tuple[str, ...] = ()
    error: str = ""
