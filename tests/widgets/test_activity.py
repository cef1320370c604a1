"""Progress shown in napari's activity dock."""

import pytest
from napari.utils import progress

from napari_sparseseg.widgets.activity import Activity


@pytest.fixture
def bars():
    """What napari's activity dock has to show."""
    return progress._all_instances


def test_one_line_follows_what_is_done(bars, capsys):
    before, activity = set(bars), Activity()
    activity.show("computing the preview…")
    (bar,) = set(bars) - before
    assert bar.total == 0  # nobody knows how long it takes
    for share in (0.1, 0.5, 0.4):
        activity.show("Learning", share)
    (bar,) = set(bars) - before
    assert bar.n == 50
    activity.show("")
    assert set(bars) == before
    activity.close()
