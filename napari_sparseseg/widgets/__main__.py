"""``python -m napari_sparseseg.widgets``: napari with a sample volume and the panel, to try things out."""

import napari

PLUGIN = "napari-sparseseg"


def open_sample(viewer: napari.Viewer, sample: str = "mni") -> None:
    """Show a sample and the dock "Sparse segmentation"; the labels that come with it are hidden at first."""
    for layer in viewer.open_sample(PLUGIN, sample):
        if isinstance(layer, napari.layers.Labels):
            layer.visible = False
    viewer.window.add_plugin_dock_widget(PLUGIN, "Sparse segmentation")


def main() -> None:
    """Open the window, and return when it is closed."""
    viewer = napari.Viewer(title="Sparse segmentation")
    open_sample(viewer)
    napari.run()


if __name__ == "__main__":
    main()
