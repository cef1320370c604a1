import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import label_slices, make_image, make_truth

from napari_sparseseg import live_preview
from napari_sparseseg.events import finish
from napari_sparseseg.live_answer import slabs
from napari_sparseseg.live_preview import LivePreview
from napari_sparseseg.preview import FIRST_CHOICE
from napari_sparseseg.regions import contains, relative
from napari_sparseseg.resampling import resample_image

CUBIC = (1.0, 1.0, 1.0)
WHOLE = (slice(0, 18),) * 3


def prepared(region=WHOLE):
    truth = make_truth()
    preview = LivePreview(make_image(truth), CUBIC, region, seed=0)
    finish(preview.prepare())
    return preview, label_slices(truth, (5, 9, 12))


@pytest.mark.parametrize("kept", [10**8, 0])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_answer_does_not_depend_on_how_it_is_asked(monkeypatch, kept, coarse):
    monkeypatch.setattr(live_preview, "_KEPT_ANSWERS", kept)
    if coarse:
        monkeypatch.setattr(live_preview, "_GRID_VOXELS", 11**3)
    preview, annotation = prepared()
    assert preview.coarse == coarse
    fitted = preview.fit(annotation, 3, FIRST_CHOICE, WHOLE)
    slice_ = preview.answer(fitted, (slice(0, 18), slice(4, 5), slice(0, 18)), 3)
    part = preview.answer(fitted, (slice(3, 6), slice(0, 18), slice(0, 18)), 3)
    whole = preview.answer(fitted, WHOLE, 3)
    assert whole.sum(0) == pytest.approx(np.ones((18, 18, 18)), abs=2e-3)
    assert np.allclose(whole[:, :, 4:5], slice_, atol=2e-3)
    assert np.allclose(whole[:, 3:6], part, atol=2e-3)


def test_a_region_is_asked_in_the_volume_s_voxels():
    region = (slice(2, 16), slice(0, 18), slice(3, 18))
    preview, annotation = prepared(region)
    fitted = preview.fit(annotation, 3, FIRST_CHOICE, region)
    box = (slice(4, 6), slice(2, 9), slice(5, 7))
    whole = preview.answer(fitted, region, 3)
    assert np.allclose(
        preview.answer(fitted, box, 3), whole[(slice(None), *relative(box, region))], atol=2e-3
    )


def test_interpolation_equals_that_of_a_whole_volume():
    values = np.random.default_rng(0).random((2, 7, 6, 5)).astype(np.float32)
    wanted = resample_image(values, (13, 11, 10))
    for axis, (grid, length) in enumerate(zip((7, 6, 5), (13, 11, 10), strict=True), start=1):
        interpolation = live_preview._Interpolation(slice(0, length), length, grid)
        values = interpolation.apply(values, axis)
    assert np.allclose(values, wanted, atol=1e-5)


@given(
    st.tuples(*[st.tuples(st.integers(0, 9), st.integers(1, 12))] * 3),
    st.integers(0, 30),
    st.integers(1, 500),
)
def test_slabs_cut_a_region_without_gap_or_overlap(edges, first, voxels):
    region = tuple(slice(start, start + length) for start, length in edges)
    boxes = slabs(region, first, voxels)
    covered = np.zeros((21, 21, 21), int)
    for box in boxes:
        assert contains(region, box)
        covered[box] += 1
    assert (covered[region] == 1).all()
    assert covered.sum() == covered[region].sum()
    distances = [abs((box[0].start + box[0].stop - 1) / 2 - first) for box in boxes]
    assert distances == sorted(distances)
