import pytest

from napari_sparseseg.cli_input import name_volume


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("folder/a.nii.gz,folder/b.nii.gz", "a"),
        ("stack.h5:/raw", "stack"),
        ("stack.hdf5:raw", "stack"),
        ("C:/scans/a.nrrd", "a"),
    ],
)
def test_results_are_named_after_the_file(text, name):
    assert name_volume(text) == name


def test_a_folder_called_dot_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert name_volume(".") == "series"
