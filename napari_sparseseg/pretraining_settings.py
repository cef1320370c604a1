"""The settings of learning without labels; declared once, like those in `settings`."""

from collections.abc import Mapping
from dataclasses import dataclass

from napari_sparseseg.setting import Settings, device_setting, precision_setting, seed_setting, setting

PRETEXT_TASKS = (
    "inpainting",
    "masked_autoencoder",
    "super_resolution",
    "colorization",
    "denoising",
    "relative_position",
    "jigsaw",
    "rotation",
    "exemplar",
    "clustering",
    "deep_cluster",
    "self_labelling",
    "synthetic",
    "simclr",
    "moco",
    "supcon",
    "byol",
)
"""Names of the tasks that an encoder can learn from without labels, keys of `pretraining.PRETEXT_TASKS`."""

ENCODER_FORMAT, ENCODER_VERSION = "napari-sparseseg encoder", 1
"""What encoder.json says that it is, and of which version."""

STATE_FORMAT = "napari-sparseseg pre-training state"
"""What state.json of a pre-training says that it is."""


@dataclass(frozen=True)
class PretrainingConfig(Settings):
    """How an encoder learns from volumes without labels."""

    task: str = setting(
        "masked_autoencoder", "Task", "What the network has to solve; the answer is known without labels.",
        choices=PRETEXT_TASKS,
    )  # fmt: skip
    seconds: float = setting(0.0, "Seconds", "Learn for this long by the clock (0: use steps).", minimum=0)
    steps: int = setting(0, "Steps", "Learn for this many steps (0: use seconds).", minimum=0)
    seed: int = seed_setting()
    learning_rate: float = setting(
        2e-3, "Learning rate",
        "Peak of the one-cycle learning rate; moco and byol, whose second network follows slowly, take half.",
        minimum=1e-6, maximum=1.0,
    )  # fmt: skip
    batch_size: int = setting(
        8, "Batch size", "Pieces of volumes that each step learns from.", minimum=2, maximum=1024
    )
    crop_voxels: int = setting(
        0, "Piece voxels", "Voxels in each piece (0: by device).", minimum=0, maximum=256**3
    )
    held_out_share: float = setting(
        0.1, "Held-out share", "Share of the volumes kept aside to measure how well the task is solved.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    memory_mb: int = setting(
        1024, "Memory", "Megabytes of volumes held at once; what does not fit takes turns.",
        minimum=1, maximum=1_000_000,
    )  # fmt: skip
    device: str = device_setting()
    precision: str = precision_setting()


@dataclass(frozen=True)
class PretextConfig(Settings):
    """What the tasks are like; each setting names those that use it."""

    mask_share: float = setting(
        0.5, "Hidden share", "inpainting, masked_autoencoder: share of a piece that is hidden.",
        minimum=0.05, maximum=0.95,
    )  # fmt: skip
    mask_voxels: int = setting(
        8, "Hidden blocks", "inpainting, masked_autoencoder: side of a hidden block, in voxels.",
        minimum=1, maximum=128,
    )  # fmt: skip
    adversarial: float = setting(
        0.001, "Adversarial weight",
        "inpainting: weight of the term by which a second network judges whether the filling looks real "
        "(0: leave it out).",
        minimum=0, maximum=10,
    )  # fmt: skip
    shrink: int = setting(
        2, "Shrink", "super_resolution: by what factor the piece is made coarser.", minimum=2, maximum=8
    )
    noise: float = setting(
        0.5, "Noise", "denoising: noise added, as a share of the image's standard deviation.",
        minimum=0.01, maximum=5,
    )  # fmt: skip
    gap: float = setting(
        0.125, "Gap", "relative_position, jigsaw: gap between neighbouring tiles, as a share of their side.",
        minimum=0, maximum=1,
    )  # fmt: skip
    jitter: float = setting(
        0.0625, "Jitter", "relative_position, jigsaw: by what share of its side a tile is moved at random.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    tiles: int = setting(2, "Tiles", "jigsaw: tiles along each axis.", minimum=2, maximum=3)
    permutations: int = setting(
        64, "Permutations", "jigsaw: in how many orders the tiles may be laid out.", minimum=2, maximum=1000
    )
    turns: str = setting(
        "auto", "Turns",
        "rotation: all 24 turns of a cube, or the 4 in the plane of the slices; auto by the voxels' shape.",
        choices=("auto", "cube", "plane"),
    )  # fmt: skip
    exemplars: int = setting(
        32, "Exemplars", "exemplar: pieces that each are a class of their own.", minimum=2, maximum=1024
    )
    clusters: int = setting(
        16, "Clusters", "clustering, deep_cluster, self_labelling: groups to part the pieces into.",
        minimum=2, maximum=1024,
    )  # fmt: skip
    clustered: int = setting(
        256, "Clustered pieces", "clustering, deep_cluster, self_labelling: pieces grouped at a time.",
        minimum=4, maximum=65_536,
    )  # fmt: skip
    sharpness: float = setting(
        0.05, "Sharpness", "self_labelling: entropy weight of the optimal transport; smaller is sharper.",
        minimum=0.001, maximum=1,
    )  # fmt: skip
    domain: float = setting(
        0.1, "Domain weight",
        "synthetic: weight of the term that makes features of generated and real volumes alike (0: leave it "
        "out).",
        minimum=0, maximum=10,
    )  # fmt: skip
    temperature: float = setting(
        0.2, "Temperature", "simclr, moco, supcon: how sharply like pieces are told from others.",
        minimum=0.01, maximum=2,
    )  # fmt: skip
    momentum: float = setting(
        0.99, "Momentum", "moco, byol: how much of itself the slowly following network keeps in each step.",
        minimum=0, maximum=0.9999,
    )  # fmt: skip
    queue: int = setting(
        256, "Queue", "moco: earlier pieces that new ones are told from.", minimum=8, maximum=65_536
    )


TASK_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "inpainting": ("mask_share", "mask_voxels", "adversarial"),
    "masked_autoencoder": ("mask_share", "mask_voxels"),
    "super_resolution": ("shrink",),
    "colorization": (),
    "denoising": ("noise",),
    "relative_position": ("gap", "jitter"),
    "jigsaw": ("gap", "jitter", "tiles", "permutations"),
    "rotation": ("turns",),
    "exemplar": ("exemplars",),
    "clustering": ("clusters", "clustered"),
    "deep_cluster": ("clusters", "clustered"),
    "self_labelling": ("clusters", "clustered", "sharpness"),
    "synthetic": ("domain",),
    "simclr": ("temperature",),
    "moco": ("temperature", "momentum", "queue"),
    "supcon": ("temperature",),
    "byol": ("momentum",),
}
"""Which fields of `PretextConfig` a task uses."""
