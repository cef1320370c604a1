import itertools

import numpy as np
import pytest
import torch

from napari_sparseseg.turns import cube_turns, plane_turns


def test_cube_has_24_turns_that_form_a_group_without_reflections():
    def as_matrix(turn):
        matrix = np.zeros((3, 3))
        matrix[range(3), turn.axes] = [-1 if axis in turn.flipped else 1 for axis in range(3)]
        return matrix

    grid = torch.arange(27).reshape(1, 3, 3, 3)
    known = {tuple(turn.apply(grid).flatten().tolist()): turn for turn in cube_turns()}
    assert len(known) == 24
    assert tuple(range(27)) in known
    for first, second in itertools.product(cube_turns(), repeat=2):
        both = known[tuple(second.apply(first.apply(grid)).flatten().tolist())]
        np.testing.assert_array_equal(as_matrix(both), as_matrix(second) @ as_matrix(first))
    assert all(np.linalg.det(as_matrix(turn)) == pytest.approx(1) for turn in cube_turns())
    piece = torch.rand(2, 4, 5, 6)
    assert all(torch.equal(turn.inverse().apply(turn.apply(piece)), piece) for turn in cube_turns())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plane_has_the_4_turns_about_its_axis(axis):
    grid = np.arange(2 * 64).reshape(2, 4, 4, 4)
    plane = [1 + other for other in range(3) if other != axis]
    expected = {np.rot90(grid, quarter, plane).tobytes() for quarter in range(4)}
    assert {turn.apply(torch.from_numpy(grid)).numpy().tobytes() for turn in plane_turns(axis)} == expected
    assert torch.equal(plane_turns(axis)[0].apply(torch.from_numpy(grid)), torch.from_numpy(grid))
