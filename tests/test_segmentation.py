import numpy as np
import pytest
from phantoms import TABLE, fix_precision, label_slices, make_image, make_truth, mean_dice, short_training

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, finish
from napari_sparseseg.regions import find_region
from napari_sparseseg.segmentation import choose_shown, segment_volume
from napari_sparseseg.settings import InferenceConfig


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


def segment(image, annotation, config, table=TABLE, **others):
    events = []
    work = segment_volume(image, (1.0, 1.0, 1.0), annotation, table, config, **others)
    return finish(work, events.append), events


@pytest.mark.parametrize("preview_weight", [0.0, 0.5], ids=["network alone", "with preview"])
def test_a_volume_is_completed_and_the_user_s_labels_stay(preview_weight):
    truth = make_truth()
    image, annotation = make_image(truth), label_slices(truth, axial=(5, 9, 12))
    annotation[9, 2, 2] = 3  # the user insists
    result, _ = segment(image, annotation, short_training(steps=60, preview_weight=preview_weight))
    labelled = annotation > 0
    assert np.array_equal(result.channels[labelled], annotation[labelled] - 1)
    assert (result.uncertainty[labelled] == 0).all()
    assert result.uncertainty.max() <= 1
    assert result.uncertainty[~labelled].max() > 0
    assert mean_dice(truth, result.channels, ~labelled) > 0.75
    assert result.shown in (("network",) if preview_weight == 0 else ("network", "preview", "both"))


def long_object():
    """Return a rod along Y of which only the middle is labelled, far from the rod's ends."""
    truth = np.zeros((16, 110, 16), np.uint8)
    truth[5:11, 3:107, 5:11] = 1
    annotation = np.zeros_like(truth)
    annotation[:, 54:57] = truth[:, 54:57] + 1
    return truth, annotation


def test_the_region_grows_where_the_object_runs_out_of_it():
    truth, annotation = long_object()
    region = find_region(annotation)
    assert (region[1].start, region[1].stop) == (30, 81)
    table = ClassTable.from_values([2])
    config = short_training(steps=40, held_out_share=0.0)
    result, events = segment(make_image(truth), annotation, config, table)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert any("looking further" in note for note in notes)
    assert (result.channels[:, 15:29] == 1).sum() > 0.7 * (truth[:, 15:29] == 1).sum()


def test_far_background_labels_are_learnt_from():
    truth, annotation = long_object()
    annotation[annotation == 1] = 0
    annotation[:, 0] = annotation[0, :3] = 1
    assert find_region(annotation)[1].start == 0
    table = ClassTable.from_values([2])
    result, _ = segment(make_image(truth), annotation, short_training(steps=3), table)
    assert result.channels.shape == truth.shape


def test_the_region_is_the_foreground_with_a_margin():
    annotation = np.zeros((60, 60, 60), np.uint8)
    annotation[30, 28:32, 2:4], annotation[30, 27] = 2, 1
    assert find_region(annotation) == (slice(6, 55), slice(4, 56), slice(0, 28))


def test_post_processing_is_done_on_the_whole_and_spares_labels():
    truth = np.zeros((16, 24, 24), np.uint8)
    truth[4:12, 4:12, 4:12] = 1
    truth[4:10, 17:21, 17:21] = 1
    table = ClassTable.from_values([2])
    annotation = label_slices(truth, axial=(3, 7))
    config = short_training(steps=40, held_out_share=0.0)
    options = InferenceConfig(device="cpu", largest_component=True)
    plain, _ = segment(make_image(truth), annotation, config, table)
    clean, _ = segment(make_image(truth), annotation, config, table, inference_config=options)
    small = (slice(8, 10), slice(17, 21), slice(17, 21))
    assert plain.channels[small].any()
    assert not clean.channels[small].any()
    assert clean.channels[7, 17:21, 17:21].all()


def test_labels_that_cannot_be_trained_on_are_told_in_a_sentence():
    truth = make_truth()
    image, annotation = make_image(truth), label_slices(truth, axial=(5,))
    for wrong in (annotation * 0, annotation.clip(0, 1), annotation[1:]):
        with pytest.raises(InputError):
            segment(image, wrong, short_training())
    with pytest.raises(InputError, match="one weight for each voxel"):
        segment(image, annotation, short_training(), weights=np.ones((1, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("network", "preview", "both", "shown"),
    [
        (0.80, 0.50, 0.90, "both"),
        (0.80, 0.50, 0.78, "both"),
        (0.80, 0.50, 0.70, "network"),
        (0.50, 0.80, 0.75, "both"),
        (0.50, 0.80, 0.65, "preview"),
        (0.00, 0.00, 0.00, "both"),
    ],
)
def test_what_is_shown_follows_the_held_out_labels(network, preview, both, shown):
    assert choose_shown({"network": network}, preview=True) == "both"  # the preview was not measured
    assert choose_shown({"network": network, "preview": preview, "both": both}, preview=True) == shown


def test_without_measurement_both_are_shown_and_without_preview_the_network():
    assert choose_shown({}, preview=True) == "both"
    assert choose_shown({}, preview=False) == "network"
    assert choose_shown({"network": 0.1, "preview": 0.9, "both": 0.5}, preview=False) == "network"
