"""From the session to what the Cases panel shows: pure functions, and its sentences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from napari_sparseseg.cohort_records import CohortCase, LabelCount
from napari_sparseseg.widgets.cohort_snapshots import FILTERS, CasesState
from napari_sparseseg.widgets.job_words import why_wait
from napari_sparseseg.widgets.session import Session

STATE_WORDS = {"unlabelled": "unlabelled", "work": "in work", "done": "done"}
"""By `CohortCase.state`."""

DICE_MEANS = (
    "Dice tells how far the network agrees with labels that were held out, which means not shown to it: "
    "1 is perfect, 0 is nothing in common."
)
_UNCERTAINTY_MEANS = "(0: sure of everything it shows; 1: it can only guess)"

_NO_CASES = "Add some cases first."
_NO_LABELS = "Label a few slices of a case first."


def cases_state(session: Session) -> CasesState:
    """Return what the Cases panel shows."""
    work = session.cohort
    cases = known_cases(session)
    counts = Counter(case.state for case in cases)
    advice, advised = work.advice, None
    if advice is not None:
        advised = next((case for case in cases if case.key == advice.key), None)
    return CasesState(
        rows=tuple(case for case in cases if fits(case, work.filter, work.search)),
        counts={"all": len(cases), **{name: counts[name] for name in FILTERS[1:]}},
        filter=work.filter,
        search=work.search,
        opened=work.opened,
        opening=work.opening,
        busy=_describe_busy(session),
        running=work.running,
        progress=work.progress,
        sentence=work.doing if work.running else work.outcome,
        notes=tuple(work.notes),
        advised="" if advised is None else advised.key,
        advice=_describe_advice(session, advised),
        minutes=work.minutes,
        quality=describe_quality(cases, work.trained, work.dice),
        folder=session.folder,
        why_no_train=why_no_train(session),
        why_no_advice=why_no_advice(session),
        why_no_advised="" if advised is not None else "No case is recommended yet.",
        why_no_next=why_no_step(session, 1),
        why_no_previous=why_no_step(session, -1),
    )


def known_cases(session: Session) -> tuple[CohortCase, ...]:
    """Return all cases; of the one in work what is labelled at this moment."""
    work = session.cohort
    place = next((place for place, case in enumerate(work.cases) if case.key == work.opened), None)
    if place is None:
        return work.cases
    case = work.cases[place]
    if case.number is not None:
        marks = len(session.boxes.records) + len(session.cam.labels) + len(session.cam.points)
        count = LabelCount(sum(map(len, session.labelled_slices)), sum(session.voxels.values()) + marks)
        case = replace(case, labels=count)
    return (*work.cases[:place], case, *work.cases[place + 1 :])


def fits(case: CohortCase, filter_name: str, search: str) -> bool:
    """Tell whether the list shows a case: by its state, and whether its name has all words of `search`."""
    if filter_name != "all" and case.state != filter_name:
        return False
    name = case.name.casefold()
    return all(word in name for word in search.casefold().split())


def step_from(session: Session, step: int) -> CohortCase | None:
    """Return the case that the list shows after (`step` 1) or before (-1) the one in work or being opened."""
    work, cases = session.cohort, known_cases(session)
    begin = work.opening or work.opened
    place = next((place for place, case in enumerate(cases) if case.key == begin), None)
    if place is None:
        ahead: Sequence[CohortCase] = cases if step > 0 else ()
    else:
        ahead = cases[place + 1 :] if step > 0 else cases[:place][::-1]
    return next((case for case in ahead if not case.problem and fits(case, work.filter, work.search)), None)


def why_no_step(session: Session, step: int) -> str:
    """Return why there is no case after (1) or before (-1) the one in work; empty where there is one."""
    if not session.cohort.cases:
        return _NO_CASES
    if step_from(session, step) is not None:
        return ""
    return "This is the last case of the list." if step > 0 else "This is the first case of the list."


def why_no_train(session: Session) -> str:
    """Return why the network of all cases cannot learn now; empty where it can."""
    if why := why_no_cohort_job(session):
        return why
    cases = known_cases(session)
    if not cases:
        return _NO_CASES
    labelled = [c for c in cases if c.number is not None and (c.labels is None or c.labels.marks)]
    return "" if labelled else _NO_LABELS


def why_no_advice(session: Session) -> str:
    """Return why no case can be recommended now; empty where one can."""
    if not session.cohort.cases:
        return _NO_CASES
    return why_no_cohort_job(session) if session.cohort.trained else ""


def why_no_cohort_job(session: Session) -> str:
    """Return why the worker cannot be asked to work on all cases now; empty where it can."""
    return "Getting ready to compute…" if session.worker == "starting" else why_wait(session)


def describe_quality(cases: Sequence[CohortCase], trained: bool, dice: float | None) -> str:
    """Return how good the network of all cases is, in words."""
    if not trained:
        return "No network has learnt from all cases yet."
    measured = [(case.dice, case.name) for case in cases if case.by_project and case.dice is not None]
    if dice is None or not measured:
        return "The network has learnt; too few labels to tell how well. Label more slices."
    worst, name = min(measured)
    if len(measured) == 1:
        return f"Dice {dice:.2f} on labels held out of {name}."
    return f"Dice {dice:.2f} on labels held out, mean of {len(measured)} cases; lowest: {name}, {worst:.2f}."


def describe_case(case: CohortCase) -> tuple[str, ...]:
    """Return the lines below the name of a case in the list: one or two."""
    if case.problem:
        return ("cannot be opened",)
    first = STATE_WORDS[case.state]
    if case.labels is not None and case.labels.slices:
        first += f" · {case.labels.slices} slice{'s' * (case.labels.slices != 1)} labelled"
    figures = []
    if case.dice is not None:
        figures.append(f"Dice {case.dice:.2f}")
    if case.judgement is not None and case.judgement.current and not case.done:
        odd = case.judgement.warnings and case.state == "unlabelled"
        figures.append("look at it" if odd else f"uncertainty {case.judgement.uncertainty:.2f}")
    return (first, " · ".join(figures)) if figures else (first,)


def explain_case(case: CohortCase) -> str:
    """Return all that is known of a case, a sentence a line."""
    lines = [case.name, *case.files]
    if case.problem:
        return "\n".join([*lines, case.problem])
    if not case.files:
        lines.append("The project keeps this image itself.")
    lines.append(". ".join(part[:1].upper() + part[1:] for part in describe_case(case)[:1]) + ".")
    if case.dice is not None:
        whose = "the network of all cases" if case.by_project else "the network of this case alone"
        lines += [f"Dice {case.dice:.2f} on labels held out: {whose}.", DICE_MEANS]
    judgement = case.judgement
    if judgement is not None:
        old = "" if judgement.current else " It has learnt anew since."
        lines.append(
            f"The network's uncertainty here: {judgement.uncertainty:.2f} {_UNCERTAINTY_MEANS}.{old}"
        )
        lines += [f"{warning[:1].upper()}{warning[1:]}" for warning in judgement.warnings]
    return "\n".join(lines)


def _describe_busy(session: Session) -> str:
    work = session.cohort
    if work.opening:
        case = work.find(work.opening)
        return f"Opening {case.name if case else 'the case'}…"
    return work.looking


def _describe_advice(session: Session, advised: CohortCase | None) -> str:
    advice = session.cohort.advice
    if advice is None:
        return ""
    if advised is None:
        return f"{advice.reason[:1].upper()}{advice.reason[1:]}"
    return f"{advised.name}: {advice.reason}"
