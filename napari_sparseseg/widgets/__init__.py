"""The napari side: panels, layers, and the coordinator between them, the project and the worker."""
