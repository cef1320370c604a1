"""From the session to what the Cases panel shows."""

from dataclasses import replace

import pytest

from napari_sparseseg.cohort_advice import Advice
from napari_sparseseg.cohort_records import CohortCase, Judgement, LabelCount
from napari_sparseseg.widgets.cohort_snapshots import FILTERS
from napari_sparseseg.widgets.cohort_states import (
    cases_state,
    describe_case,
    describe_quality,
    explain_case,
    step_from,
)
from napari_sparseseg.widgets.job_words import JOB_WORDS
from napari_sparseseg.widgets.session import Session

FRESH = CohortCase("/a", "Patient 1 liver", ("/a",))
WORK = CohortCase("/b", "patient 2 LIVER", ("/b",), number=1, labels=LabelCount(3, 90), dice=0.5)
DONE = CohortCase("/c", "patient 3", ("/c",), number=2, labels=LabelCount(1, 9), done=True)
GONE = CohortCase("/d", "patient 4 liver", ("/d",), problem="The file is not there any more.")
ALL = (FRESH, WORK, DONE, GONE)


def make_session(*cases, **changes):
    session = Session(worker="ready")
    session.cohort.cases = cases or ALL
    for name, value in changes.items():
        setattr(session.cohort, name, value)
    return session


def names(session):
    return [case.key for case in cases_state(session).rows]


@pytest.mark.parametrize(
    ("chosen", "search", "expected"),
    [
        ("all", "", "abcd"), ("unlabelled", "", "ad"), ("work", "", "b"), ("done", "", "c"),
        ("all", " liver  PATIENT ", "abd"), ("unlabelled", "4", "d"), ("done", "liver", ""),
    ],
)  # fmt: skip
def test_the_list_is_narrowed_by_state_and_words(chosen, search, expected):
    session = make_session(filter=chosen, search=search)
    assert names(session) == [f"/{letter}" for letter in expected]
    assert cases_state(session).counts == {"all": 4, "unlabelled": 2, "work": 1, "done": 1}


def test_every_case_has_one_state_that_can_be_chosen():
    counts = cases_state(make_session()).counts
    assert set(counts) == set(FILTERS)
    assert sum(counts[name] for name in FILTERS[1:]) == counts["all"]


def test_the_case_in_work_is_counted_live():
    session = make_session(replace(WORK, labels=None), FRESH, opened="/b")
    session.voxels, session.labelled_slices = {1: 5, 2: 4}, ((3, 8), (1,), ())
    assert cases_state(session).rows[0].labels == LabelCount(3, 9)
    session.voxels, session.labelled_slices = {}, ((), (), ())
    assert cases_state(session).counts["unlabelled"] == 2
    session.cohort.opened = "/a"  # without a stroke there is nothing to count
    assert cases_state(session).rows[1] == FRESH


def test_next_and_previous_go_through_what_is_shown_and_can_be_opened():
    session = make_session()
    assert step_from(session, 1) == FRESH
    assert step_from(session, -1) is None
    session.cohort.opened = "/a"
    assert [step_from(session, step) for step in (1, -1)] == [replace(WORK), None]
    session.cohort.filter = "done"
    assert step_from(session, 1) == DONE  # the case in work need not be shown itself
    session.cohort.filter, session.cohort.opened = "all", "/c"
    session.cohort.opening = session.cohort.cases[0].key  # a second press goes on from there
    assert step_from(session, 1) == session.cohort.cases[1]
    session.cohort.opening = ""
    assert step_from(session, 1) is None  # the last one cannot be opened
    assert cases_state(session).why_no_next == "This is the last case of the list."
    assert cases_state(session).why_no_previous == ""


def test_reasons_why_not():
    empty = cases_state(Session(worker="ready"))
    assert empty.why_no_train == empty.why_no_advice == empty.why_no_next == "Add some cases first."
    assert cases_state(make_session(FRESH)).why_no_train.startswith("Label a few slices")
    session = make_session()
    assert cases_state(session).why_no_train == ""
    assert cases_state(session).why_no_advice == ""
    session.worker = "starting"
    assert cases_state(session).why_no_train.startswith("Getting ready")
    assert cases_state(session).why_no_advice == ""  # without a network nobody is asked
    session.cohort.trained = True
    assert cases_state(session).why_no_advice.startswith("Getting ready")
    session.worker = "gone"  # it is started again
    assert cases_state(session).why_no_train == cases_state(session).why_no_advice == ""
    session.worker, session.pretrain.running = "ready", "probe"
    assert cases_state(session).why_no_train == JOB_WORDS["probe"].wait
    session.pretrain.running, session.cohort.running = "", "cohort"
    assert session.job is session.cohort
    assert session.worker_is_taken
    assert cases_state(session).why_no_train == JOB_WORDS["cohort"].wait


def test_the_recommendation_is_shown_while_its_case_is_there():
    session = make_session(advice=Advice("/a", "the network is least sure here: 0.31."))
    state = cases_state(session)
    assert (state.advised, state.why_no_advised) == ("/a", "")
    assert state.advice == "Patient 1 liver: the network is least sure here: 0.31."
    session.cohort.advice = Advice("", "all cases are done.")
    state = cases_state(session)
    assert (state.advised, state.advice) == ("", "All cases are done.")
    assert state.why_no_advised


def test_the_quality_is_told_in_words():
    measured = [replace(WORK, by_project=True), replace(DONE, dice=0.75, by_project=True)]
    assert "No network" in describe_quality(ALL, False, None)
    assert "too few labels" in describe_quality(ALL, True, 0.5)  # that of a case alone does not count
    assert describe_quality(measured[:1], True, 0.5) == "Dice 0.50 on labels held out of patient 2 LIVER."
    words = describe_quality(measured, True, 0.625)
    assert "0.62" in words
    assert words.endswith("lowest: patient 2 LIVER, 0.50.")


def test_a_line_tells_what_matters():
    assert describe_case(FRESH) == ("unlabelled",)
    assert describe_case(WORK) == ("in work · 3 slices labelled", "Dice 0.50")
    assert describe_case(DONE) == ("done · 1 slice labelled",)
    assert describe_case(GONE) == ("cannot be opened",)
    odd = Judgement(0.31, ("the mask is empty.",))
    assert describe_case(replace(WORK, judgement=odd))[1] == "Dice 0.50 · uncertainty 0.31"
    assert describe_case(replace(FRESH, judgement=odd))[1] == "look at it"
    assert describe_case(replace(FRESH, judgement=replace(odd, current=False))) == ("unlabelled",)
    told = explain_case(replace(FRESH, judgement=replace(odd, current=False)))
    assert "learnt anew since" in told
    assert "The mask is empty." in told
    assert GONE.problem in explain_case(GONE)
    assert "alone" in explain_case(WORK)
    assert "keeps this image" in explain_case(replace(FRESH, files=()))


def test_what_is_read_is_told():
    session = make_session(opening="/a")
    assert cases_state(session).busy == "Opening Patient 1 liver…"
    session = make_session(looking="Looking for volumes in study…")
    assert cases_state(session).busy == "Looking for volumes in study…"
