"""One network for many cases, and how sure it is of each, as the worker process works on them."""

import math
from contextlib import ExitStack

import numpy as np
import pytest
from batch_models import SPACING, write_image, write_model
from phantoms import TABLE, label_slices, make_truth, short_training

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.cohort_events import CaseJudged, CohortTrained
from napari_sparseseg.cohort_job import JudgeCasesJob, TrainCohortJob
from napari_sparseseg.cohort_pictures import SIDE, draw_picture, write_picture
from napari_sparseseg.cohort_reading import read_labelled
from napari_sparseseg.cohort_requests import JudgeCases, LabelledCase, TrainCohort
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, StepDone, WorkDone
from napari_sparseseg.fingerprint import fingerprint_volume
from napari_sparseseg.settings import InferenceConfig, NetworkConfig
from napari_sparseseg.volume import load_volume, volume_from_array
from napari_sparseseg.worker_desk import JOBS

SIZE = 12
PAINTED = ClassTable.from_values([2, 9], {2: "ball", 9: "cube"})  # values as they are painted
CPU = InferenceConfig(device="cpu")


def labelled(source, name="scan", axial=(4, 6), **changes):
    """Return a case with some slices of the phantom labelled."""
    annotation = label_slices(make_truth(SIZE), axial).reshape(-1)
    voxels = np.flatnonzero(annotation)
    values = np.array([0, 1, 2, 9], np.uint8)[annotation[voxels]]
    sources = np.full(len(voxels), source_code("stroke"), np.uint8)
    given = {"name": name, "source": str(source), "spacing": SPACING, "voxels": voxels, "values": values,
             "sources": sources, **changes}  # fmt: skip
    return LabelledCase(**given)


def ask(folder, *cases, steps=4, **changes):
    return TrainCohort(
        tuple(cases), PAINTED, short_training(steps=steps, held_out_share=0.3, **changes), NetworkConfig(),
        str(folder),
    )  # fmt: skip


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def scans(tmp_path):
    return [write_image(tmp_path / f"scan{number}.nii.gz", number, SIZE) for number in range(2)]


def test_one_network_learns_from_all_cases_that_can_be_read(scans, tmp_path):
    folder = tmp_path / "network"
    cases = [labelled(scan, f"scan {number}") for number, scan in enumerate(scans)]
    gone = labelled(tmp_path / "gone.nii.gz", "gone")
    events = list(TrainCohortJob(ask(folder, *cases, gone)).run())
    trained = events[-1]
    assert isinstance(trained, CohortTrained)
    assert set(trained.case_dice) <= {"scan 0", "scan 1"}
    assert trained.case_dice
    assert trained.dice == pytest.approx(np.mean(list(trained.case_dice.values())))
    assert load_model(trained.folder).table == PAINTED
    assert not (folder / "state.json").exists()
    (note,) = (event.text for event in of_kind(events, Noted) if "gone" in event.text)
    assert len(note.splitlines()) == 1


def test_what_was_stopped_is_gone_on_with(scans, tmp_path):
    request = ask(tmp_path / "network", *map(labelled, scans, "ab"))
    work = TrainCohortJob(request).run()
    next(event for event in work if isinstance(event, StepDone) and event.step == 2)
    work.close()
    events = list(TrainCohortJob(request).run())
    assert [event.step for event in of_kind(events, StepDone)] == [3, 4]
    other = ask(tmp_path / "network", labelled(scans[0]), seed=1)
    work = TrainCohortJob(request).run()
    next(event for event in work if isinstance(event, StepDone))
    work.close()
    events = list(TrainCohortJob(other).run())
    assert "begins anew" in of_kind(events, Noted)[0].text
    assert isinstance(events[-1], CohortTrained)


def test_without_cases_nothing_is_learnt(tmp_path):
    with pytest.raises(InputError):
        TrainCohortJob(ask(tmp_path))
    with pytest.raises(InputError):
        list(TrainCohortJob(ask(tmp_path / "n", labelled(tmp_path / "gone.nii.gz"))).run())


def test_a_case_is_read_with_its_labels_and_only_if_it_is_the_same_image(scans, tmp_path):
    print_of = [fingerprint_volume(load_volume(scan)) for scan in scans]
    case = read_labelled(labelled(scans[0], fingerprint=print_of[0]), PAINTED)
    assert np.array_equal(case.annotation, label_slices(make_truth(SIZE), (4, 6)))
    assert np.array_equal(case.sources > 0, case.annotation > 0)
    assert case.spacing == SPACING
    with pytest.raises(InputError, match="another image"):
        read_labelled(labelled(scans[0], fingerprint=print_of[1]), PAINTED)
    # the project's own copy has no voxel size
    kept = tmp_path / "case-1.npy"
    np.save(kept, load_volume(scans[0]).data)
    assert read_labelled(labelled(kept), PAINTED).spacing == SPACING
    assert not read_labelled(labelled(kept), ClassTable.from_values([5])).annotation.max() > 1


def test_each_case_is_judged_or_says_why_not(scans, tmp_path):
    model = write_model(tmp_path / "model")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    two = f"{scans[0]};{scans[1]}"
    sources = (str(scans[0]), str(broken), two, str(scans[1]))
    request = JudgeCases(sources, (SPACING,) * 4, str(model), CPU)
    events = list(JudgeCasesJob(request).run())
    judged = of_kind(events, CaseJudged)
    assert [event.source for event in judged] == list(sources)
    assert [bool(event.error) for event in judged] == [False, True, True, False]
    assert "channels" in judged[2].error
    assert all(0 < event.uncertainty <= 1 for event in (judged[0], judged[3]))
    shares = [event.share for event in of_kind(events, WorkDone)]
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    with pytest.raises(InputError):
        JudgeCasesJob(JudgeCases(sources, (SPACING,), str(model), CPU))
    with pytest.raises(InputError):
        JudgeCasesJob(JudgeCases(sources, (SPACING,) * 4, str(tmp_path / "no model"), CPU))


def test_the_worker_knows_these_jobs(scans, tmp_path):
    request = JudgeCases((str(scans[0]),), (SPACING,), str(write_model(tmp_path / "model")), CPU)
    with ExitStack() as resources:
        job = JOBS[JudgeCases].open(request, resources)
        assert len(of_kind(job.run(), CaseJudged)) == 1
        job.close()
        assert isinstance(
            JOBS[TrainCohort].open(ask(tmp_path, labelled(scans[0])), resources), TrainCohortJob
        )


def test_a_small_picture_has_square_pixels(tmp_path):
    from PIL import Image

    for shape, spacing, expected in (
        ((3, 40, 80), (1, 1, 1), (SIDE, SIDE // 2)),
        ((3, 40, 80), (1, 2, 1), (SIDE, SIDE)),
        ((1, 1, 5000), (1, 1, 1), (SIDE, 1)),
    ):
        values = np.random.default_rng(0).normal(0, 1000, shape)
        (tmp_path / "p.png").write_bytes(draw_picture(volume_from_array(values, spacing)))
        with Image.open(tmp_path / "p.png") as picture:
            assert picture.size == expected
            assert np.ptp(np.asarray(picture)) > 0
    flat = volume_from_array(np.full((2, 8, 8), 7.0))
    assert draw_picture(flat)
    with pytest.raises(InputError):
        write_picture((str(tmp_path / "gone.nii"),), None, tmp_path / "new" / "p.png")
    kept = tmp_path / "kept.npy"
    np.save(kept, np.zeros((2, 10, 10), np.float32))
    write_picture((str(kept),), (1.0, 1.0, 2.0), tmp_path / "new" / "p.png")
    with Image.open(tmp_path / "new" / "p.png") as picture:
        assert picture.size == (SIDE, SIDE // 2)


def test_a_network_without_held_out_labels_has_no_figure(scans, tmp_path):
    request = TrainCohort(
        (labelled(scans[0]),), PAINTED, short_training(steps=1, held_out_share=0.0), NetworkConfig(),
        str(tmp_path / "network"),
    )  # fmt: skip
    trained = list(TrainCohortJob(request).run())[-1]
    assert trained.case_dice == {}
    assert math.isnan(trained.dice)
    assert len(TABLE) == len(load_model(trained.folder).table)
