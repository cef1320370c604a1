import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sparseseg.postprocessing import clean_channels
from napari_sparseseg.settings import InferenceConfig

volumes = hnp.arrays(np.uint8, (5, 6, 6), elements=st.sampled_from([0, 0, 0, 1, 2]))


@given(channels=volumes)
def test_nothing_is_cleaned_unasked(channels):
    before = channels.copy()
    clean_channels(channels, InferenceConfig())
    assert np.array_equal(channels, before)


def test_only_the_largest_part_of_each_class_stays():
    channels = np.zeros((8, 8, 8), np.uint8)
    channels[1:3, 1:3, 1:3], channels[3, 3, 3] = 1, 1  # corner to corner: one part
    channels[6, 6, 6] = 1
    channels[0, 7, 0:3], channels[7, 0, 0] = 2, 2
    clean_channels(channels, InferenceConfig(largest_component=True))
    assert (channels == 1).sum() == 9
    assert channels[3, 3, 3] == 1
    assert channels[6, 6, 6] == 0
    assert (channels == 2).sum() == 3


def test_holes_are_filled_and_other_classes_keep_theirs():
    channels = np.zeros((7, 7, 7), np.uint8)
    channels[1:6, 1:6, 1:6] = 1
    channels[3, 3, 3], channels[3, 3, 2] = 0, 2
    clean_channels(channels, InferenceConfig(fill_holes=True))
    assert channels[3, 3, 3] == 1
    assert channels[3, 3, 2] == 2
    channels[1:4, 3, 3] = 0  # open to the outside: no hole
    clean_channels(channels, InferenceConfig(fill_holes=True))
    assert channels[2, 3, 3] == 0


@given(channels=volumes, largest=st.booleans(), fill=st.booleans())
def test_cleaning_never_moves_voxels_between_classes_and_is_done_once(channels, largest, fill):
    before = channels.copy()
    config = InferenceConfig(largest_component=largest, fill_holes=fill)
    clean_channels(channels, config)
    both = (before > 0) & (channels > 0)
    assert fill or np.array_equal(channels[both], before[both])
    again = channels.copy()
    clean_channels(again, config)
    assert fill or np.array_equal(again, channels)
