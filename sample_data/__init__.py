"""The sample volume and its labels, installed as `napari_sparseseg.sample_files`."""
