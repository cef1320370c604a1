"""Every setting, declared once: its default, label, help and range (those of pre-training: beside this file).

The command line's flags, the panels' forms, a checkpoint's JSON and the documentation are all read
from these dataclasses.  Nothing here imports torch, so that both front ends start at once.
"""

from dataclasses import dataclass

from napari_sparseseg.setting import Settings, device_setting, precision_setting, seed_setting, setting


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """Which network, and how large."""

    architecture: str = setting(
        "unet", "Network", "Architecture of the network (MONAI).", choices=("unet", "dynunet", "segresnet")
    )
    size: str = setting(
        "small",
        "Size",
        "Width of the network; medium and large suit a GPU.",
        choices=("small", "medium", "large"),
    )


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How the network learns from the labelled voxels."""

    seconds: float = setting(
        0.0, "Seconds", "Train for this long by the clock, the preview included (0: use steps).", minimum=0
    )
    steps: int = setting(0, "Steps", "Train for this many steps (0: use seconds).", minimum=0)
    seed: int = seed_setting()
    learning_rate: float = setting(
        5e-3, "Learning rate", "Peak of the one-cycle learning rate.", minimum=1e-6, maximum=1.0
    )
    batch_size: int = setting(1, "Batch size", "Patches per training step.", minimum=1, maximum=64)
    patch_voxels: int = setting(
        0, "Patch voxels", "Voxels in a training patch (0: by device).", minimum=0, maximum=256**3
    )
    dice_weight: float = setting(
        1.0,
        "Dice weight",
        "Weight of the soft Dice term on labelled voxels (0: cross-entropy alone).",
        minimum=0,
    )
    preview_weight: float = setting(
        0.5,
        "Preview weight",
        "Weight of the instant classifier's confident voxels (0: do not use them).",
        minimum=0,
    )
    held_out_share: float = setting(
        0.1, "Held-out share", "Share of labelled slices or strokes kept out of training to measure it.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    final_share: float = setting(
        0.65, "Final share", "Last part of training in which few held-out labels are learnt too.",
        minimum=0, maximum=1,
    )  # fmt: skip
    allow_flips: bool = setting(
        False, "Allow flips", "Mirror patches left to right; only where no class has a side."
    )
    device: str = device_setting()
    precision: str = precision_setting()
    encoder_rate: float = setting(
        0.1, "Encoder's rate",
        "Factor of the learning rate of an encoder that training starts from, in the first part of it: the "
        "rest of the network learns to use the encoder before that changes (1: learn alike).",
        minimum=0, maximum=10,
    )  # fmt: skip
    encoder_share: float = setting(
        0.2, "Encoder's share", "How long that first part is, as a share of the training.",
        minimum=0, maximum=1,
    )  # fmt: skip
    seeding: float = setting(
        1.0, "Seeding", "Factor of the weight of labels from class maps (0: do not learn from them).",
        minimum=0, maximum=10,
    )  # fmt: skip
    expansion: float = setting(
        0.0, "Expansion",
        "Weight of the term that lets a class fill a part of what it is said to be in, and keeps it out of "
        "what it is said to be absent from (0: leave it out). 0.1 to 0.3 helps where seeds are much smaller "
        "than their objects; more lets objects grow too large.",
        minimum=0, maximum=10,
    )  # fmt: skip
    constraint: float = setting(
        0.0, "Constraint",
        "Weight of the term that pulls borders to the image's edges (0: leave it out). 0.1 is enough beside "
        "seeds; more shrinks small objects.",
        minimum=0, maximum=10,
    )  # fmt: skip


LIVE_TRAINING = TrainingConfig(learning_rate=2e-3, preview_weight=1.0)
"""What an interactive session begins with: its network learns while labels keep coming, from few steps."""


@dataclass(frozen=True)
class InferenceConfig(Settings):
    """How a trained network is applied to a volume."""

    overlap: float = setting(
        0.5, "Overlap", "Overlap of neighbouring windows, as a share of their size.", minimum=0, maximum=0.9
    )
    largest_component: bool = setting(
        False, "Largest component", "Keep only the largest connected part of each class."
    )
    fill_holes: bool = setting(False, "Fill holes", "Fill holes inside each class.")
    device: str = device_setting()

    @property
    def cleans(self) -> bool:
        """Whether the prediction is to be cleaned."""
        return self.largest_component or self.fill_holes


BOX_METHODS = ("box", "box_inner", "grabcut", "grabcut_plus", "grabcut_plus_i", "proposals", "consensus")
"""Names of the ways from a box to a mask, keys of `boxes.BOX_METHODS`."""

DENOISING = ("class", "outside", "reset", "crf", "ignore")
"""Steps between the rounds of recursive training, as `box_training` describes them."""


@dataclass(frozen=True)
class BoxConfig(Settings):
    """How a bounding box becomes a mask."""

    method: str = setting(
        "grabcut_plus", "Method", "How the object is found in its box (Khoreva et al. 2017).",
        choices=BOX_METHODS,
    )  # fmt: skip
    margin: float = setting(
        0.25, "Margin", "How much is looked at round a box, as a share of its sides.", minimum=0.05, maximum=1
    )
    inner_share: float = setting(
        0.2, "Inner share", "Share of the box in its middle that box_inner takes for the object.",
        minimum=0.01, maximum=1,
    )  # fmt: skip
    least_share: float = setting(
        0.05, "Least share", "A box in which less than this share is found falls back to box_inner.",
        minimum=0, maximum=1,
    )  # fmt: skip
    components: int = setting(
        5, "Mixture components", "Gaussians in each of GrabCut's intensity models.", minimum=1, maximum=16
    )
    smoothness: float = setting(
        1.0, "Smoothness", "Cost of GrabCut's border where the image has no edge.", minimum=0, maximum=100
    )
    iterations: int = setting(
        5, "Iterations", "How often GrabCut fits its models and cuts anew.", minimum=1, maximum=50
    )
    runs: int = setting(
        24, "Runs", "Cuts of moved and resized boxes that grabcut_plus_i lets vote.", minimum=2, maximum=200
    )
    jitter: float = setting(
        0.05, "Jitter", "By what share of its sides a box is moved and resized in each run.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    object_share: float = setting(
        0.7, "Object votes", "Voxels that at least this share of the runs calls the object are the object.",
        minimum=0, maximum=1,
    )  # fmt: skip
    background_share: float = setting(
        0.2, "Background votes", "Voxels that less than this share calls the object are background.",
        minimum=0, maximum=1,
    )  # fmt: skip
    seed: int = seed_setting()


@dataclass(frozen=True)
class RecursionConfig(Settings):
    """How a network learns from boxes, round by round."""

    rounds: int = setting(
        0, "Rounds", "How often a network learns from the labels and makes new ones (0: no network).",
        minimum=0, maximum=50,
    )  # fmt: skip
    round_steps: int = setting(
        300, "Steps per round", "Training steps in each round.", minimum=1, maximum=100_000
    )
    denoise: str = setting(
        ",".join(DENOISING), "De-noise",
        "What is mended in a round's labels before the next one learns from them: class (drop predictions of "
        "another class than the box's), outside (and outside of any box), reset (give up a segment that "
        "fills too little of its box), crf (move borders to the image's edges), ignore (do not learn from "
        "unsure voxels); none is the naive recursion.",
        several=DENOISING,
    )  # fmt: skip
    reset_share: float = setting(
        0.1, "Reset share",
        "A segment that fills less than this share of its box is reset (50 % in the paper's photographs; "
        "organs and tumours fill 15 to 50 % of a box in 3D).",
        minimum=0, maximum=1,
    )  # fmt: skip
    device: str = device_setting()


@dataclass(frozen=True)
class CrfConfig(Settings):
    """The dense conditional random field that moves borders to the image's edges."""

    appearance_weight: float = setting(
        3.0, "Appearance weight", "How strongly near voxels of like intensity want one class.", minimum=0
    )
    appearance_mm: float = setting(
        6.0, "Appearance reach", "How far, in mm, that reaches.", minimum=0.01, maximum=1000
    )
    appearance_intensity: float = setting(
        0.3, "Appearance contrast",
        "How much intensities may differ, as a share of the image's standard deviation.",
        minimum=0.001, maximum=100,
    )  # fmt: skip
    smoothness_weight: float = setting(
        1.0,
        "Smoothness weight",
        "How strongly near voxels want one class, whatever they look like.",
        minimum=0,
    )
    smoothness_mm: float = setting(
        2.0, "Smoothness reach", "How far, in mm, that reaches.", minimum=0.01, maximum=1000
    )
    crf_iterations: int = setting(5, "CRF iterations", "Mean-field updates.", minimum=1, maximum=100)


CAM_METHODS = ("cam", "grad_cam", "grad_cam_pp", "saliency", "smooth_saliency", "occlusion")
"""Names of the ways to ask a network where it looked, keys of `cam.CAM_METHODS`."""


@dataclass(frozen=True)
class ClassifierConfig(Settings):
    """How a network learns from image-level labels what is in a volume, or in slices of it."""

    classifier_steps: int = setting(
        200, "Steps", "Training steps of the classifier.", minimum=1, maximum=1_000_000
    )
    classifier_rate: float = setting(
        4e-3, "Learning rate", "Peak of its one-cycle learning rate.", minimum=1e-6, maximum=1.0
    )
    classifier_batch: int = setting(
        2, "Batch size", "Volumes that it sees in each step.", minimum=1, maximum=64
    )
    stride: int = setting(
        8, "Coarseness",
        "Voxels between the features that are averaged: smaller gives finer maps that know less of what "
        "lies around.",
        minimum=1, maximum=16,
    )  # fmt: skip
    outside: str = setting(
        "absent", "Outside the ranges",
        "What slices outside all ranges of a class mean, in a direction in which it has any.",
        choices=("absent", "unknown"),
    )  # fmt: skip
    held_out: float = setting(
        0.2, "Held-out share", "Share of the volumes, or of one volume's slices, kept to measure it by.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    seed: int = seed_setting()
    device: str = device_setting()


@dataclass(frozen=True)
class CamConfig(Settings):
    """How a map is made of where a network looked."""

    method: str = setting(
        "grad_cam", "Method", "How the network is asked where it looked.", choices=CAM_METHODS
    )
    level: int = setting(
        0, "Layer",
        "Level of the encoder whose features are looked at: 1 is the finest, 0 its last one.",
        minimum=0, maximum=5,
    )  # fmt: skip
    flips: bool = setting(False, "Average mirror images", "Also ask about the mirrored volume, and average.")
    several_scales: bool = setting(
        False, "Average several scales", "Also ask about the volume made smaller and larger, and average."
    )
    refine: bool = setting(
        False, "Follow the image's edges", "Refine the map by the dense conditional random field."
    )
    smooth_runs: int = setting(
        12, "Noisy copies", "Copies of the image that smooth saliency averages.", minimum=2, maximum=200
    )
    smooth_noise: float = setting(
        0.1, "Noise", "Their noise, as a share of the image's range.", minimum=0.001, maximum=1
    )
    occlusion_share: float = setting(
        0.15, "Occluded share", "Side of the part that occlusion covers, as a share of the window's sides.",
        minimum=0.02, maximum=0.5,
    )  # fmt: skip


@dataclass(frozen=True)
class SeedConfig(Settings):
    """How a class map becomes labels."""

    object_threshold: float = setting(
        0.6, "Object from", "Voxels from this share of the map's largest value on are the class.",
        minimum=0.01, maximum=1,
    )  # fmt: skip
    background_threshold: float = setting(
        0.1, "Background below", "Voxels below this share in the maps of all classes are background.",
        minimum=0, maximum=1,
    )  # fmt: skip
    point_mm: float = setting(
        3.0, "Radius of points", "How far around a point, in mm, everything is its class.",
        minimum=0.1, maximum=100,
    )  # fmt: skip
