"""The command line as ``python -m napari_sparseseg``, which ``torchrun`` can start several of."""

from napari_sparseseg.cli import main

main()
