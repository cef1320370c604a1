"""Cases in memory and on disk: the same training from both, within the memory that is allowed."""

import json
import os
import resource
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import TABLE, fix_precision, label_slices, make_case, make_image, make_truth, short_training

from napari_sparseseg import case_store, case_survey
from napari_sparseseg.annotation import source_code
from napari_sparseseg.case_store import CaseStore, StoredCase
from napari_sparseseg.case_survey import prepare_cases, survey_cases
from napari_sparseseg.cases import Case, CaseSource
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import HeldOutScored, Noted, StepDone, finish
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.normalisation import fit_normalisation
from napari_sparseseg.sampling import PatchSampler, extract_patch, reach_of_patch
from napari_sparseseg.training import train_network
from napari_sparseseg.training_data import TrainingData

CASES_PREFIX = ".sparseseg-cases-"


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


def source(case, name=None):
    return CaseSource(name or case.name, lambda: case)


def train(cases, config, **others):
    events = []
    return finish(train_network(cases, TABLE, config, describe=False, **others), events.append), events


def look(cases, val=(), events=None, **others):
    notes = [] if events is None else events
    return finish(survey_cases(cases, val, TABLE, None, 1.0, **others), notes.append)


def fill(store, cases, patch=(8, 8, 8)):
    for case in prepare_cases(look(cases), len(TABLE), patch):
        store.add(case)


def make_wordy_case():
    """A case with all that a case can have."""
    case, _ = make_case(13, axial=(3, 6, 9))
    sources = np.where(case.annotation > 0, source_code("stroke"), 0).astype(np.uint8)
    sources[9] = source_code("cam")
    return replace(case, sources=sources, image_labels=(ImageLabel(2, True, 0, 4, 12),), outside_absent=False)


def test_a_stored_case_comes_back_as_it_was(tmp_path):
    stores = CaseStore(3), CaseStore(3, 0, tmp_path)
    for store in stores:
        fill(store, [source(make_wordy_case())])
        store.put(0, "empty", np.zeros(0, np.int64))
    [[memory], [disk]] = stores
    for name in ("image", "annotation", "weights", "sources"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(disk, name))
    for name in ("spacing", "name", "start", "whole", "before", "image_labels", "outside_absent"):
        assert getattr(memory, name) == getattr(disk, name)
    assert memory.presence.slices(2, 0).tolist() == disk.presence.slices(2, 0).tolist()
    assert [store.in_memory(0) for store in stores] == [True, False]
    assert stores[1].held_bytes == 0
    for store in stores:
        assert store.get(0, "nothing") is None
        assert store.get(0, "empty").shape == (0,)
        with pytest.raises(IndexError):
            store[1]
    disk.image[:] = 7  # a copy of its own
    assert stores[1][0].image.min() < 7
    told = json.loads(json.dumps([case.to_json() for case in stores[1].cases]))
    again = CaseStore.opened(stores[1].folder, 3, [StoredCase.from_json(case) for case in told])
    np.testing.assert_array_equal(again[0].image, memory.image)
    assert again.cases == stores[1].cases
    again.close()
    assert stores[1].folder.exists()  # it is another's
    stores[1].close()
    assert not list(tmp_path.iterdir())


def test_the_files_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not(tmp_path):
    living = CaseStore(3, 0, tmp_path)
    fill(living, [source(make_case()[0])])
    child = os.fork()
    if child == 0:
        fill(CaseStore(3, 0, tmp_path), [source(make_case()[0])])
        os._exit(0)  # as a killed process does: nothing is tidied up
    os.waitpid(child, 0)
    (tmp_path / f"{CASES_PREFIX}young").mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    CaseStore(3, 0, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.folder.name, f"{CASES_PREFIX}young"}
    assert living[0].image.any()
    living.close()


def test_a_damaged_file_and_a_folder_that_takes_none_are_told_in_a_sentence(tmp_path):
    store = CaseStore(3, 0, tmp_path)
    fill(store, [source(make_case()[0])])
    [image] = store.folder.glob("*/image.npy")
    image.write_bytes(image.read_bytes()[:-1000])
    with pytest.raises(InputError, match="was damaged or removed"):
        store[0]
    image.unlink()
    with pytest.raises(InputError, match="was damaged or removed"):
        store[0]
    store.close()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="choose another folder or allow more memory"):
        fill(CaseStore(3, 0, tmp_path / "file"), [source(make_case()[0])])


def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case_store.np, "save", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        train([source(make_case()[0])], short_training(steps=1), memory_mb=0, cache_folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("axial", "changes"),
    [((3, 7, 10), {"preview_weight": 0.5}), (tuple(range(1, 13)), {"held_out_share": 0.1, "expansion": 0.1})],
    ids=["labels return", "labels stay out"],
)
def test_what_is_learnt_from_disk_is_what_is_learnt_from_memory(tmp_path, axial, changes, monkeypatch):
    monkeypatch.setattr("napari_sparseseg.preview._MOST_FOLDS", 1)
    cases = [make_wordy_case(), make_case(14, 3, axial, (1.0, 1.0, 1.4), name="other")[0]]
    config = short_training(steps=6, final_share=0.5, patch_voxels=8**3, **changes)
    sources = [source(case) for case in cases]
    whole, told = train(sources, config)
    part, _ = train(sources, config, memory_mb=0, cache_folder=tmp_path)
    given, events = train(cases, config)
    for other in (part, given):
        assert whole.model.weights.keys() == other.model.weights.keys()
        assert all(torch.equal(t, other.model.weights[n]) for n, t in whole.model.weights.items())
        assert other.held_out_dice == whole.held_out_dice
        assert other.case_dice == whole.case_dice
    assert whole.case_dice.keys() <= {"phantom", "other"}
    assert whole.case_dice
    steps = [[e for e in some if isinstance(e, StepDone | HeldOutScored)] for some in (told, events)]
    assert steps[0] == steps[1]
    assert (given.previews[0] is not None) == bool(config.preview_weight)
    assert whole.previews == (None,) * 2
    assert not list(tmp_path.iterdir())


def test_a_training_from_disk_that_is_stopped_goes_on_and_leaves_no_files(tmp_path):
    sources = [source(make_case(seed=seed, name=f"case {seed}")[0]) for seed in range(2)]
    config = short_training(steps=6, patch_voxels=8**3)
    whole, _ = train(sources, config)
    work = train_network(sources, TABLE, config, state_folder=tmp_path, memory_mb=0)
    for event in work:
        if isinstance(event, StepDone) and event.step == 2:
            assert list(tmp_path.glob(f"{CASES_PREFIX}*"))
            break
    work.close()
    assert {path.name for path in tmp_path.iterdir()} == {"state.json", "state.safetensors"}
    resumed, events = train(sources, config, state_folder=tmp_path, memory_mb=0, resume=True)
    assert sum(isinstance(event, StepDone) for event in events) == 4
    assert all(torch.equal(t, resumed.model.weights[n]) for n, t in whole.model.weights.items())


def make_large_case(seed, size=64):
    """A case with two labelled slices, close to each other in a large volume."""
    truth = np.zeros((size, size, size), np.uint8)
    truth[20:44, 20:44, 20:44] = make_truth(24)
    annotation = np.zeros_like(truth)
    annotation[30, 24:40, 24:40], annotation[33, 24:40, 24:40] = (
        truth[z, 24:40, 24:40] + 1 for z in (30, 33)
    )
    return Case(make_image(truth, seed), (1.0, 1.0, 1.0), annotation, name=f"case {seed}")


def test_a_large_case_is_cut_to_what_can_be_drawn_and_gives_the_same_patches():
    case, patch = make_large_case(0), (8, 8, 8)
    spacing = case.spacing
    whole, cut = (next(prepare_cases(look([one]), 3, patch)) for one in (case, source(case)))
    assert whole.image.shape[1:] == (64, 64, 64)
    reach = reach_of_patch(patch, spacing)
    assert cut.start == (30 - reach[0], 24 - reach[1], 24 - reach[2])
    assert cut.image.shape[1:] == (4 + 2 * reach[0], 16 + 2 * reach[1], 16 + 2 * reach[2])
    assert cut.whole == (64, 64, 64)
    patches = []
    for prepared in (whole, cut):
        store = CaseStore(3)
        store.add(prepared)
        data = TrainingData(store, 3, torch.device("cpu"))
        data.hold_out(0.0, np.random.default_rng(0))
        data.lay_out(final=True)
        sampler = PatchSampler(data.arrays, patch, np.random.default_rng(0), flips=True)
        draws = [sampler.draw() for _ in range(60)]
        patches.append([extract_patch(data.arrays[0], draw, patch, position=True) for draw in draws])
    for one, other in zip(*patches, strict=True):
        torch.testing.assert_close(one.image, other.image, atol=2e-4, rtol=0)
        assert (one.labels != other.labels).float().mean() < 0.01  # rounded in float32
    assert look([source(case)]).normalisation == fit_normalisation([case.image], [case.annotation])


def test_memory_stays_within_the_budget(tmp_path):
    budget, cases, truth = 4, 40, make_truth(48)

    def read(seed):
        image = truth[None].astype(np.float32) + seed
        return Case(image, (1.0, 1.0, 1.0), label_slices(truth, (4, 24, 44)), name=f"{seed}")

    sources = [CaseSource(str(seed), lambda seed=seed: read(seed)) for seed in range(cases)]
    config = short_training(steps=3, patch_voxels=24**3)
    whole = CaseStore(3)
    fill(whole, sources[:1])
    total = cases * (whole.held_bytes + 5 * truth.size)
    assert total > 10 * budget * 1e6
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train(sources[:2], config)  # what torch needs for itself is there from now on
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        kept, put = [], CaseStore.put

        def note(store, *words):
            put(store, *words)
            kept.append(store.held_bytes)

        CaseStore.put = note
        train(sources, config, memory_mb=budget, cache_folder=tmp_path)
        traced = tracemalloc.get_traced_memory()[1]
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        (tmp_path / "told.json").write_text(json.dumps([max(kept), traced, grown]))
        os._exit(0)
    os.waitpid(child, 0)
    held, traced, grown = json.loads((tmp_path / "told.json").read_text())
    assert 0 < held <= budget * 1e6
    for used in (traced, grown):  # with a case that is being prepared
        assert used < 0.5 * total


def test_volumes_that_cannot_be_used_are_refused_or_left_out():
    good, _ = make_case(name="good")

    def missing():
        raise InputError("a.nii does not exist; check the name.")

    bad = {
        "gone": CaseSource("gone", missing),
        "labels": source(replace(good, annotation=good.annotation[1:]), "labels"),
        "class": source(
            replace(good, annotation=np.where(good.annotation == 3, 9, good.annotation)), "class"
        ),
        "channels": source(replace(good, image=good.image.repeat(2, 0)), "channels"),
    }
    for one in bad.values():
        with pytest.raises(InputError):
            look([source(good), source(good), one])
    empty = source(replace(good, annotation=good.annotation * 0), "empty")
    notes = []
    survey = look([source(good), *bad.values(), source(good)], [empty], notes, skip_bad=True)
    assert [case.name for case in survey.cases] == ["good", "good (2)"]
    assert survey.left_out.keys() == {*bad, "empty"}
    told = [event.text for event in notes if isinstance(event, Noted)]
    assert len(told) == 5
    assert "a.nii does not exist; check the name." in told[0]
    with pytest.raises(InputError, match="none of the volumes"):
        look([bad["gone"]], skip_bad=True)


def test_a_volume_that_changes_while_it_is_learnt_from_is_refused():
    case, _ = make_case()
    shapes = iter([18, 20])
    changing = CaseSource("changing", lambda: make_case(next(shapes))[0])
    survey = look([source(case), changing], memory_mb=0)
    with pytest.raises(InputError, match="changing has changed"):
        list(prepare_cases(survey, 3, (8, 8, 8)))


def test_volumes_are_read_once_where_they_fit_and_twice_where_they_do_not():
    case, _ = make_case()
    reads = []
    sources = [CaseSource(f"{n}", lambda n=n: reads.append(n) or case) for n in range(3)]
    list(prepare_cases(look(sources, memory_mb=1), 3, (8, 8, 8)))
    assert reads == [0, 1, 2]
    list(prepare_cases(look(sources, memory_mb=0), 3, (8, 8, 8)))
    assert reads[3:] == [0, 1, 2, 0, 1, 2]


def test_volumes_aside_are_measured_and_never_learnt_from():
    case, truth = make_case()
    aside = Case(make_image(truth, 9), case.spacing, truth + 1, name="aside")
    config = short_training(steps=40)
    plain, _ = train([case], config)
    result, _ = train(
        [case],
        config,
        val=[aside, source(replace(aside, annotation=3 - aside.annotation.clip(1, 2)), "wrong")],
    )
    assert all(torch.equal(t, result.model.weights[n]) for n, t in plain.model.weights.items())
    assert result.model.normalisation == plain.model.normalisation
    assert result.val_dice.keys() == {"aside", "wrong"}
    assert result.val_dice["aside"] > 0.3 > result.val_dice["wrong"]
    assert result.val_dice["wrong"] < result.val_overall < result.val_dice["aside"]
    assert result.model.summary["val_dice"] == {"overall": result.val_overall, "cases": result.val_dice}
    assert plain.val_overall is None
    assert "val_dice" not in plain.model.summary


def test_a_network_that_has_learnt_from_files_knows_what_is_usual(monkeypatch):
    sources = [source(make_case(seed=seed, name=f"case {seed}")[0]) for seed in range(14)]
    result = finish(train_network(sources, TABLE, short_training(steps=2, held_out_share=0.0)))
    assert result.model.summary["typical"]["cases"] == 12
    json.dumps(result.model.summary)
    by_clock = short_training(steps=0, seconds=0.2, held_out_share=0.0)
    monkeypatch.setattr("napari_sparseseg.training._DESCRIBED_SHARE", 1e-9)
    assert finish(train_network(sources, TABLE, by_clock)).model.summary["typical"]["cases"] == 3


def test_of_many_cases_a_part_is_measured_at_checks_and_all_at_the_end(monkeypatch):
    monkeypatch.setattr("napari_sparseseg.training_data.CHECKED_CASES", 2)
    monkeypatch.setattr("napari_sparseseg.training_loop.CHECKED_CASES", 2)
    sources = [source(make_case(12, seed, tuple(range(2, 10)), name=f"case {seed}")[0]) for seed in range(6)]
    config = short_training(steps=4, held_out_share=0.15, patch_voxels=8**3)
    result, events = train(sources, config)
    assert any(isinstance(event, HeldOutScored) for event in events)
    assert len(result.case_dice) > 2
    assert result.model.summary["case_dice"] == result.case_dice


def test_names_that_are_there_twice_are_told_apart():
    assert case_survey._name_apart(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
