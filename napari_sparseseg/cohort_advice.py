"""Which case of a project to label next, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from napari_sparseseg.cohort_records import CohortCase

_NO_NETWORK = "no network has learnt from all cases yet"


@dataclass(frozen=True)
class Advice:
    """A case to be labelled next.

    Attributes
    ----------
    key
        Of the case; empty where there is none.
    reason
        Why this one, or why none, in a sentence.
    """

    key: str
    reason: str


def needs_judging(cases: Sequence[CohortCase]) -> tuple[CohortCase, ...]:
    """Return the cases that the project's network has yet to be asked about."""
    return tuple(
        case
        for case in cases
        if not case.done and not case.problem and not (case.judgement and case.judgement.current)
    )


def advise(cases: Sequence[CohortCase], has_network: bool, opened: str = "") -> Advice:
    """Return which case to label next.

    That is the one with an odd answer (an empty mask, a volume unlike the others') or else the one that the
    project's network is least sure of; of what is labelled already, oddness is known, and only the
    uncertainty counts.  Where the network was not asked, the first unlabelled case is next, and then the
    least labelled one.

    Parameters
    ----------
    cases
        All of the project, in the order of the list.
    has_network
        Whether a network has learnt from all cases.
    opened
        Key of the case in work, which is not recommended.
    """
    left = [case for case in cases if not case.done and not case.problem and case.key != opened]
    if not left:
        return Advice("", _explain_none(cases, opened))
    judged = [case for case in left if case.judgement is not None and case.judgement.current]
    if not has_network or not judged:
        return _by_labels(left, has_network)
    odd = [case for case in judged if case.state == "unlabelled" and _warnings(case)]
    chosen = max(odd or judged, key=_uncertainty)
    if odd:
        return Advice(chosen.key, f"{_join(_warnings(chosen))} The network's uncertainty: {_figure(chosen)}.")
    others = [_uncertainty(case) for case in judged if case is not chosen]
    if not others:
        return Advice(
            chosen.key, f"it is the only one left; the network's uncertainty here: {_figure(chosen)}."
        )
    mean = fmean(others)
    return Advice(
        chosen.key,
        f"the network is least sure here: {_figure(chosen)}, the "
        + (f"other one {mean:.2f}." if len(others) == 1 else f"others {mean:.2f} on average."),
    )


def _by_labels(left: Sequence[CohortCase], has_network: bool) -> Advice:
    why = "the network was not asked yet" if has_network else _NO_NETWORK
    for case in left:
        if case.state == "unlabelled":
            return Advice(case.key, f"{why}, and this is the first case without labels.")
    least = min(left, key=lambda case: case.labels.slices if case.labels else 0)
    slices = least.labels.slices if least.labels else 0
    return Advice(least.key, f"{why}, and this case has the fewest labelled slices: {slices}.")


def _explain_none(cases: Sequence[CohortCase], opened: str) -> str:
    if not cases:
        return "there are no cases yet; add some."
    if all(case.done for case in cases):
        return "all cases are done."
    if any(case.key == opened and not case.done for case in cases):
        return "the open case is the last one that is not done."
    return "the cases that are not done cannot be opened; see why in the list."


def _warnings(case: CohortCase) -> tuple[str, ...]:
    return case.judgement.warnings if case.judgement is not None else ()


def _uncertainty(case: CohortCase) -> float:
    return case.judgement.uncertainty if case.judgement is not None else 0.0


def _figure(case: CohortCase) -> str:
    return f"{_uncertainty(case):.2f}"


def _join(warnings: Sequence[str]) -> str:
    """Return the first warning as a sentence, and how many more there are."""
    first = warnings[0].rstrip(".")
    more = len(warnings) - 1
    return f"{first}." if not more else f"{first} (and {more} more)."
