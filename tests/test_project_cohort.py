"""The list of a project's cases: what was added and labelled, and which one is next."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.cohort_advice import advise, needs_judging
from napari_sparseseg.cohort_records import CohortCase, Judgement, LabelCount, Quality, files_of, key_of
from napari_sparseseg.project import Project
from napari_sparseseg.project_cohort import (
    add_cases,
    case_names,
    count_labels,
    keep_count,
    keep_judgement,
    keep_quality,
    key_of_record,
    labelled_cases,
    list_cases,
    mark_done,
    network_folder,
    network_hash,
    note_fingerprint,
    read_quality,
    remove_cases,
    thumbnail_path,
)

SHAPE = (4, 5, 6)
TABLE = ClassTable.from_values([2, 7])


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as opened:
        yield opened


def add_files(project, *names):
    return add_cases(project, [BatchInput(Path(name).stem, (f"/scans/{name}",)) for name in names])


def add_record(project, name, source="", fingerprint="", image=None, slices=(1,)):
    """Add a case with background and a class on some slices; return its number."""
    number = project.add_case(
        name, SHAPE, (3, 1, 1), np.eye(4), source=source, fingerprint=fingerprint, image=image
    )
    for index in slices:
        first = np.ravel_multi_index((index, 0, 0), SHAPE)
        project.add_change(number, np.arange(first, first + 10), np.repeat([1, 2], 5))
    return number


def write_network(project, content="{}"):
    folder = network_folder(project)
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(content)
    (folder / "model.safetensors").write_bytes(b"weights")


def by_name(project):
    return {case.name: case for case in list_cases(project)}


# -- the list --


def test_volumes_are_added_once_in_order_and_stay_when_the_project_moves(project, tmp_path):
    assert add_files(project, "b.nii", "a.nii") == 2
    channels = BatchInput("both", ("/scans/t1.nii", "/scans/t2.nii"))
    assert add_cases(project, [channels, BatchInput("other name", ("/scans//a.nii",))]) == 1
    expected = list_cases(project)
    assert [(case.name, case.files) for case in expected] == [
        ("b", ("/scans/b.nii",)), ("a", ("/scans/a.nii",)), ("both", ("/scans/t1.nii", "/scans/t2.nii")),
    ]  # fmt: skip
    assert {(case.state, case.number, case.added) for case in expected} == {("unlabelled", None, True)}
    assert len({case.key for case in expected}) == 3
    project.close()
    moved = project.folder.rename(tmp_path / "moved")
    with Project.open(moved) as again:
        assert list_cases(again) == expected


def test_a_labelled_case_is_found_by_its_file_or_else_by_its_image(project):
    add_files(project, "a.nii", "b.nii", "c.nii")
    note_fingerprint(project, "/scans/b.nii", "print of b")
    first = add_record(project, "a", source="/scans/./a.nii")
    second = add_record(project, "b dragged into the window", fingerprint="print of b")
    kept = add_record(project, "drawn by hand", fingerprint="another")
    elsewhere = add_record(project, "e", source="/elsewhere/e.nii")
    cases = list_cases(project)
    assert [case.number for case in cases] == [first, second, None, kept, elsewhere]
    assert [case.added for case in cases] == [True] * 3 + [False] * 2
    assert [case.files for case in cases[3:]] == [(), ("/elsewhere/e.nii",)]
    assert [case.key for case in cases[3:]] == [key_of_record(project.case(n)) for n in (kept, elsewhere)]
    assert len({case.key for case in cases}) == 5


def test_removing_deletes_no_label(project):
    add_files(project, "a.nii", "b.nii")
    number = add_record(project, "a", source="/scans/a.nii")
    labels = project.labels(number).copy()
    mark_done(project, ["/scans/a.nii", "/scans/b.nii"], True)
    assert remove_cases(project, ["/scans/a.nii", "/scans/b.nii"]) == 1
    (left,) = list_cases(project)
    assert (left.number, left.added, left.done) == (number, False, True)
    assert np.array_equal(project.labels(number), labels)
    add_files(project, "b.nii", "a.nii")
    assert [case.number for case in list_cases(project)] == [None, number]


def test_the_state_follows_what_is_labelled_and_said(project):
    add_files(project, "a.nii", "b.nii")
    number = add_record(project, "a", source="/scans/a.nii", slices=(0, 2))
    assert by_name(project)["a"].labels is None  # nobody has counted yet
    assert by_name(project)["a"].state == "work"
    count = count_labels(project, number)
    assert count == LabelCount(2, 20)
    keep_count(project, number, count)
    assert by_name(project)["a"].labels == count
    mark_done(project, ["/scans/a.nii"], True)
    mark_done(project, ["/scans/b.nii"], True)
    mark_done(project, ["/scans/b.nii"], False)
    assert [case.state for case in list_cases(project)] == ["done", "unlabelled"]
    mark_done(project, ["/scans/a.nii"], False)
    for value in (1, 2):
        project.erase_value(value, number)
    assert count_labels(project, number) == LabelCount(0, 0)
    keep_count(project, number, LabelCount(0, 0))
    assert by_name(project)["a"].state == "unlabelled"
    project.hints.add_box(number, 2, (0, 0, 0), SHAPE)
    assert count_labels(project, number) == LabelCount(0, 1)
    keep_count(project, number, None)
    assert by_name(project)["a"].labels is None


def test_labels_made_apart_make_no_slice_a_labelled_one(project):
    number = add_record(project, "a", slices=(1,))
    project.add_change(number, np.arange(60, 90), 2, source="interpolated")
    assert count_labels(project, number) == LabelCount(2, 40)
    assert count_labels(project, number, ("interpolated",)) == LabelCount(1, 40)


# -- labels for the network --


def test_all_labels_reach_the_network_but_those_of_one_case_and_of_lost_classes(project):
    image = np.zeros(SHAPE, np.float32)
    first = add_record(project, "scan", source="/scans/a.nii", fingerprint="print")
    kept = add_record(project, "scan", fingerprint="another", image=image)
    empty = add_record(project, "empty", source="/scans/c.nii", slices=())
    project.add_change(first, [100, 101], 9)
    project.add_change(first, [50], 2, source="box")
    names = case_names(project)
    assert len(set(names.values())) == 3
    cases = list(labelled_cases(project, TABLE))
    assert [case.name for case in cases] == [names[first], names[kept]]
    for case, number in zip(cases, (first, kept), strict=True):
        expected = np.where(project.labels(number) == 9, 0, project.labels(number)).reshape(-1)
        laid = np.zeros(expected.size, np.uint8)
        laid[case.voxels] = case.values
        assert np.array_equal(laid, expected)
        assert np.array_equal(case.sources, project.sources(number).reshape(-1)[case.voxels])
        assert case.spacing == (3, 1, 1)
    assert source_code("box") in cases[0].sources
    assert (cases[0].source, cases[0].fingerprint) == ("/scans/a.nii", "print")
    assert cases[1].fingerprint == ""
    assert np.array_equal(np.load(cases[1].source), image)
    assert [case.name for case in labelled_cases(project, TABLE, without=first)] == [names[kept]]
    assert names[empty] == "empty"


def test_the_case_in_work_stays_in_memory(project):
    first, second = (add_record(project, name) for name in "ab")
    live = project.labels(first), project.labels(second)
    assert len(list(labelled_cases(project, TABLE, in_work=first))) == 2
    assert np.shares_memory(project.labels(first), live[0])
    assert not np.shares_memory(project.labels(second), live[1])
    assert np.array_equal(project.labels(second), live[1])


# -- figures --


def test_figures_are_of_the_network_that_is_there(project):
    add_files(project, "a.nii", "b.nii")
    number = add_record(project, "a", source="/scans/a.nii")
    project.add_round(number, {"dice": 0.5})
    project.add_round(number, {"slices": 3})  # not measured yet
    assert (by_name(project)["a"].dice, by_name(project)["a"].by_project) == (0.5, False)
    assert network_hash(project) == ""
    write_network(project)
    first = network_hash(project)
    keep_quality(project, {"/scans/a.nii": 0.75, "/scans/b.nii": float("nan")}, 0.75)
    keep_judgement(project, "/scans/b.nii", Judgement(0.25, ("it is empty.",)))
    assert read_quality(project) == Quality({"/scans/a.nii": 0.75}, 0.75)
    cases = by_name(project)
    assert (cases["a"].dice, cases["a"].by_project, cases["b"].dice) == (0.75, True, None)
    assert cases["b"].judgement == Judgement(0.25, ("it is empty.",), current=True)
    assert needs_judging(list_cases(project)) == (cases["a"],)
    write_network(project, '{"sha256": "another"}')
    assert network_hash(project) != first
    assert read_quality(project) == Quality({})
    cases = by_name(project)
    assert (cases["a"].dice, cases["a"].by_project) == (0.5, False)
    assert cases["b"].judgement == Judgement(0.25, ("it is empty.",), current=False)
    assert len(needs_judging(list_cases(project))) == 2


def test_a_picture_is_found_by_the_case(project):
    add_files(project, "a.nii", "b.nii")
    file = thumbnail_path(project, "/scans/b.nii")
    file.parent.mkdir()
    file.write_bytes(b"png")
    assert [case.thumbnail for case in list_cases(project)] == ["", str(file)]


@pytest.mark.parametrize(
    "kept",
    [None, 3, "text", [1, {"files": 3}, {"files": []}, {}], {"files": ["a"]}, {"/scans/a.nii": [1, 2]}],
)
def test_what_another_version_kept_is_passed_over(project, kept):
    number = add_record(project, "a", source="/scans/a.nii")
    for key in ("cohort", "cohort_done", "cohort_labels", "cohort_quality", "cohort_judgements"):
        project.save_setting(key, kept)
    (case,) = list_cases(project)
    assert (case.number, case.state, case.judgement) == (number, "work", None)


def test_a_name_that_is_no_text_elsewhere_is_kept(project):
    odd = "/scans/\udcff.nii"
    add_cases(project, [BatchInput("odd", (odd,))])
    (case,) = list_cases(project)
    assert case.files == (odd,)
    assert thumbnail_path(project, case.key).suffix == ".png"


def test_a_key_is_taken_apart_into_its_files(tmp_path):
    odd = tmp_path / "a;b.nii"
    odd.write_bytes(b"")
    assert files_of(key_of([str(odd)])) == (str(odd),)
    assert files_of(key_of(["/x/a.nii", "/x/b.nii"])) == ("/x/a.nii", "/x/b.nii")


# -- which one is next --

JUDGEMENTS = st.builds(
    Judgement, st.floats(0, 1), st.sampled_from([(), ("the mask is empty.",)]), st.booleans()
)
CASES = st.lists(
    st.builds(
        CohortCase,
        key=st.just(""),
        name=st.just(""),
        labels=st.none() | st.builds(LabelCount, st.integers(0, 9), st.integers(0, 9)),
        done=st.booleans(),
        problem=st.sampled_from(["", "gone."]),
        judgement=st.none() | JUDGEMENTS,
    ),
    max_size=6,
).map(lambda cases: tuple(replace(case, key=str(n)) for n, case in enumerate(cases)))


@settings(max_examples=60, deadline=None)
@given(CASES, st.booleans(), st.sampled_from(["", "0", "1"]))
def test_only_a_case_with_work_left_is_recommended_and_the_least_sure_one(cases, has_network, opened):
    advice = advise(cases, has_network, opened)
    left = [case for case in cases if not case.done and not case.problem and case.key != opened]
    assert advice.reason.endswith(".")
    assert bool(advice.key) == bool(left)
    if not left:
        return
    (chosen,) = (case for case in left if case.key == advice.key)
    judged = [case for case in left if case.judgement and case.judgement.current]
    if not has_network or not judged:
        fresh = [case for case in left if case.state == "unlabelled"]
        assert not fresh or chosen is fresh[0]
        return
    odd = [case for case in judged if case.state == "unlabelled" and case.judgement.warnings]
    assert chosen.judgement.uncertainty == max(case.judgement.uncertainty for case in odd or judged)
    assert f"{chosen.judgement.uncertainty:.2f}" in advice.reason
    assert ("empty" in advice.reason) == bool(odd)


def judged(uncertainty, *warnings, **changes):
    return CohortCase("k", "n", judgement=Judgement(uncertainty, warnings), **changes)


def test_the_reason_is_told_in_words():
    cases = [replace(judged(u), key=str(u)) for u in (0.1, 0.31, 0.14)]
    assert advise(cases, True).reason == "the network is least sure here: 0.31, the others 0.12 on average."
    assert "no network has learnt" in advise(cases, False).reason
    assert "first case without labels" in advise(cases, False).reason
    labelled = [replace(case, labels=LabelCount(n, 5)) for case, n in zip(cases, (3, 1, 2), strict=True)]
    assert advise(labelled, False).key == "0.31"
    assert "fewest labelled slices: 1" in advise(labelled, False).reason
    odd = replace(judged(0.01, "liver is missing.", "it is small."), key="odd")
    assert advise([*cases, odd], True).key == "odd"
    assert advise([*cases, odd], True).reason.startswith("liver is missing (and 1 more).")
    assert advise([replace(odd, done=True)], True).reason == "all cases are done."
    assert advise([], True).reason == "there are no cases yet; add some."
