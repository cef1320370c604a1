import numpy as np
import pytest
from phantoms_ssl import make_sources, make_volume

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone, finish
from napari_sparseseg.pretraining_survey import survey_volumes
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource


def source(name, image, spacing=(1.0, 1.0, 1.0), annotation=None):
    return VolumeSource(name, lambda: ReadVolume(np.asarray(image, np.float32), spacing, annotation))


def broken(name="broken"):
    def read():
        raise InputError("the file is damaged; export it again.")

    return VolumeSource(name, read)


def survey(sources):
    events = []
    return finish(survey_volumes(sources), events.append), events


def notes(events):
    return [event.text for event in events if isinstance(event, Noted)]


def test_typical_size_and_spacing_are_found():
    sources = [
        source(str(n), np.random.default_rng(n).normal(size=(2, 10, 20, 30)), (2.0 + (n == 2), 1.0, 1.0))
        for n in range(3)
    ]
    result, events = survey(sources)
    assert result.spacing == (2.0, 1.0, 1.0)
    assert result.shape == (10, 20, 30)
    assert result.shapes == ((10, 20, 30), (10, 20, 30), (15, 20, 30))  # as they will be at that spacing
    assert result.channels == 2
    assert not result.is_ct
    assert [event.share for event in events if isinstance(event, WorkDone)] == [0, 1 / 3, 2 / 3]


def test_what_is_labelled_is_found():
    result, _ = survey([*make_sources(1, labelled=True), *make_sources(1, seed=1)])
    assert result.labelled == (frozenset({1, 2, 3}), frozenset())


def test_volumes_of_no_use_are_left_out_with_a_reason():
    flat = source("flat", np.ones((1, 8, 8, 8)))
    two = source("two channels", np.random.default_rng(0).normal(size=(2, 8, 8, 8)))
    missing = source("missing", np.where(two.read().image > 2, np.nan, 1.0)[:1])
    wrong = source("wrong", make_volume().image, annotation=np.zeros((2, 2, 2), np.uint8))
    result, events = survey([broken(), *make_sources(2), flat, two, missing, wrong])
    assert [kept.name for kept in result.sources] == ["phantom 0", "phantom 1"]
    told = " ".join(notes(events))
    for name, reason in (
        ("broken", "damaged"), ("flat", "one intensity"), ("two channels", "2 channels"),
        ("missing", "no finite numbers"), ("wrong", "grid"),
    ):  # fmt: skip
        assert f"{name} is left out" in told
        assert reason in told


@pytest.mark.parametrize("sources", [[], [broken()]])
def test_nothing_to_learn_from_is_said(sources):
    with pytest.raises(InputError, match="volume"):
        survey(sources)


def test_hounsfield_units_get_one_window_for_all():
    random = np.random.default_rng(0)
    body = [
        np.where(random.random((1, 12, 12, 12)) < 0.3, -1000, random.normal(50 * n, 20, (1, 12, 12, 12)))
        for n in (0, 2)
    ]
    result, _ = survey([source("a", body[0]), source("b", body[1])])
    assert result.is_ct
    [(low, high, mean, deviation)] = result.normalisation.windows
    assert -300 < low < -30
    assert 130 < high < 400
    assert 20 < mean < 80  # air does not count
    assert deviation > 20


def test_the_hash_is_of_the_data_not_of_their_order():
    first, second = make_sources(2), make_sources(2, seed=1)
    one, _ = survey([*first, *second])
    other, _ = survey([*reversed(second), *first])
    changed, _ = survey([*first, *make_sources(2, seed=2)])
    labelled, _ = survey([*make_sources(2, labelled=True), *second])
    thicker, _ = survey([*make_sources(2, spacing=(2.0, 1.0, 1.0)), *second])
    assert one.data_hash == other.data_hash
    assert one.digests != other.digests
    assert len({one.data_hash, changed.data_hash, labelled.data_hash, thicker.data_hash}) == 4
