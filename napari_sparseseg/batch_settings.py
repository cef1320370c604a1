"""The settings of predicting many volumes; declared once, like those in `settings`."""

from dataclasses import dataclass

from napari_sparseseg.setting import Settings, setting

RESULT_FORMATS = ("nii.gz", "nii", "nrrd", "mha", "dicom_seg")
"""What a mask can be written as; `dicom_seg` takes a DICOM series and the extra ``[dicom]``."""


@dataclass(frozen=True)
class BatchConfig(Settings):
    """What is written for each volume of a batch, and what it may take."""

    formats: str = setting(
        "nii.gz", "Masks as", "File formats of the masks, parted by commas.", several=RESULT_FORMATS
    )
    uncertainty: bool = setting(False, "Write the uncertainty", "Also write the uncertainty, 0 to 1.")
    probabilities: bool = setting(
        False, "Write probabilities", "Also write the probability of each class; takes much room."
    )
    overwrite: bool = setting(
        False, "Do everything again", "Also segment volumes whose results are there and up to date."
    )
    memory_mb: int = setting(
        4000, "Memory (MB)",
        "Megabytes of volumes that are read ahead, segmented and written at once; one always is.",
        minimum=100, maximum=10_000_000,
    )  # fmt: skip
