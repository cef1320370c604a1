"""The middle of the sample that comes with the package, where all of it takes too long."""

from importlib import resources

import nibabel

from napari_sparseseg.sample_data import load_sample
from napari_sparseseg.volume import load_labels, load_volume


def load_small_sample(folder, part):
    """Return what `load_sample` does of a part ``(X, Y, Z)`` as it is stored; files go to a folder."""
    stored = resources.files("napari_sparseseg.sample_files")
    _, _, table = load_sample()
    for name in ("mni152_t1.nii.gz", "mni152_labels.nii.gz"):
        with resources.as_file(stored / name) as path:
            nibabel.save(nibabel.load(path).slicer[part], folder / name)
    volume = load_volume(folder / "mni152_t1.nii.gz")
    return volume, load_labels(folder / "mni152_labels.nii.gz", volume), table
