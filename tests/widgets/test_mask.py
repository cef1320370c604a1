"""What is saved and measured."""

import numpy as np
import pytest

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.widgets.mask import count_millilitres, merge_mask

TABLE = ClassTable.from_values([2, 5])


def test_labels_win_over_the_prediction_but_interpolated_ones_do_not():
    prediction = np.array([[[1, 2, 5, 0, 2, 2, 2, 9]]], np.uint8)
    labels = np.array([[[2, 1, 0, 5, 5, 5, 0, 0]]], np.uint8)
    names = ["stroke", "stroke", None, "stroke", "interpolated", "accepted", None, None]
    sources = np.array([[[0 if name is None else source_code(name) for name in names]]], np.uint8)
    mask = merge_mask(prediction, labels, sources, TABLE)
    assert mask.tolist() == [[[2, 0, 5, 5, 2, 5, 2, 0]]]
    assert merge_mask(prediction, None, None, TABLE).tolist() == [[[0, 2, 5, 0, 2, 2, 2, 0]]]


def test_millilitres_are_counted_per_class():
    prediction = np.random.default_rng(0).choice([0, 1, 2, 5], (6, 7, 8)).astype(np.uint8)
    whole = count_millilitres(prediction, None, TABLE, 0.5)
    assert whole == {value: pytest.approx((prediction == value).sum() * 0.5) for value in (2, 5)}
    part = count_millilitres(prediction, ((1, 3), (0, 7), (2, 8)), TABLE, 1.0)
    assert part[5] == (prediction[1:3, :, 2:] == 5).sum()
