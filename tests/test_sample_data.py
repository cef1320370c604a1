import gzip
import hashlib
import json
import tracemalloc
from importlib import resources

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.sample_data import generate_case, generate_cohort, load_sample


def test_sample_is_a_brain_with_three_tissues():
    volume, labels, table = load_sample()
    assert volume.data.shape == (1, 94, 116, 98)
    assert labels.shape == (94, 116, 98)
    assert labels.dtype == np.int32
    assert volume.spacing == pytest.approx((2.0, 2.0, 2.0))
    assert table.names == ("background", "CSF", "grey matter", "white matter")
    assert table.mask_values == (0, 1, 2, 3)
    means = [volume.data[0][labels == value].mean() for value in range(4)]
    assert means == sorted(means), "on T1, air, CSF, grey and white matter are ever brighter"


def test_sample_stands_head_up_and_face_forward():
    # z runs to superior and y to posterior: the brain stem is low, the frontal lobe narrower in front.
    _, labels, _ = load_sample()
    area = np.count_nonzero(labels, axis=(1, 2))
    assert 0 < area[0] < area[len(area) // 2]
    assert area[-1] == 0
    cerebellum_side = np.count_nonzero(labels[:20, 58:])
    assert cerebellum_side > np.count_nonzero(labels[:20, :58])


def test_sample_files_are_small_noticed_and_reproducible():
    files = resources.files("napari_sparseseg.sample_files")
    content = {name: (files / name).read_bytes() for name in ("mni152_t1.nii.gz", "mni152_labels.nii.gz")}
    assert sum(map(len, content.values())) < 1_500_000
    for packed in content.values():
        assert packed[4:8] == b"\0\0\0\0", "no time stamp"
    # What make_sample.py made of nilearn 0.14.1; unpacked, because zlib's versions differ.
    digests = [hashlib.sha256(gzip.decompress(packed)).hexdigest()[:16] for packed in content.values()]
    assert digests == ["291a2538450f9b0e", "1214924fdd2d6b2f"]
    assert "Louis Collins" in (files / "NOTICE.icbm152").read_text(encoding="utf-8")
    assert "nilearn developers" in (files / "NOTICE.nilearn").read_text(encoding="utf-8")
    assert json.loads((files / "mni152_labels.json").read_text(encoding="utf-8"))["2"] == "grey matter"


@pytest.mark.parametrize(
    ("shape", "spacing", "classes", "channels"),
    [
        ((48, 64, 64), (2.0, 1.0, 1.0), 3, 1),
        ((17, 40, 33), (5.0, 1.0, 1.0), 1, 2),
        ((64, 48, 56), (1, 1, 1), 6, 1),
    ],
)
def test_generated_case_has_every_class_and_finite_data(shape, spacing, classes, channels):
    volume, labels, table = generate_case(3, shape, spacing, classes, channels)
    assert volume.data.shape == (channels, *shape)
    assert volume.data.dtype == np.float32
    assert np.isfinite(volume.data).all()
    assert volume.spacing == spacing
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == list(range(classes + 1))
    assert len(table) == classes + 1


def test_generated_cases_are_repeatable_and_different():
    first, labels, _ = generate_case(5)
    again, same_labels, _ = generate_case(5)
    other, other_labels, _ = generate_case(6)
    np.testing.assert_array_equal(first.data, again.data)
    np.testing.assert_array_equal(labels, same_labels)
    assert not np.array_equal(first.data, other.data)
    assert not np.array_equal(labels, other_labels)


def test_organs_keep_their_places_over_a_cohort():
    centres = []
    for _, labels, _ in generate_cohort(6, seed=20, shape=(32, 40, 40), classes=3):
        centres.append([np.argwhere(labels == value).mean(axis=0) / labels.shape for value in (1, 2, 3)])
    places = np.asarray(centres)
    spread_of_one = places.std(axis=0).max()
    distances = [
        np.linalg.norm(places[:, a] - places[:, b], axis=1).min() for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert spread_of_one < 0.08 < 0.2 < min(distances)


def test_brightness_does_not_give_the_classes_away():
    volume, labels, _ = generate_case(0, shape=(32, 64, 64))
    brightest = volume.data[0][labels == 3]
    background = volume.data[0][labels == 0]
    assert np.count_nonzero(background > np.quantile(brightest, 0.3)) > 0.2 * brightest.size


def test_generator_needs_little_memory_beside_the_result():
    tracemalloc.start()
    volume, labels, _ = generate_case(0, shape=(160, 128, 128), spacing=(1.0, 1.0, 1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * (volume.data.nbytes + labels.nbytes)


@pytest.mark.parametrize(
    "options", [{"shape": (1, 2, 2)}, {"classes": 0}, {"channels": 0}, {"spacing": (0, 1, 1)}]
)
def test_generator_refuses_the_impossible(options):
    with pytest.raises(InputError):
        generate_case(0, **options)
