"""A second network that judges whether what a first one has made looks real."""

import torch
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

_WIDTH = 8
_LAYERS = 2


class Adversary(nn.Module):
    """The adversarial term of a generative task, for one optimiser that serves both networks.

    Goodfellow et al. (2014), Generative adversarial nets, with the least-squares loss of Mao et al. (2017)
    and a discriminator that judges patches (Isola et al. 2017).  What is made is judged twice: by the
    discriminator as it is held still, which pulls it towards the real, and, held still itself, to teach the
    discriminator.  Each network so gets its own gradient from one sum.

    Parameters
    ----------
    channels
        Of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Kernels of 3 and norms over groups also suit pieces that are one voxel thin.
        self.discriminator = PatchDiscriminator(
            spatial_dims=3, channels=_WIDTH, in_channels=channels, num_layers_d=_LAYERS, kernel_size=3,
            norm=("GROUP", {"num_groups": 4}),
        )  # fmt: skip
        self._loss = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def forward(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Judge ``(B, C, Z, Y, X)`` images that were made, and real ones.

        Returns
        -------
        What makes `made` better (a gradient for `made` alone), and what makes the discriminator better (a
        gradient for its parameters alone).
        """
        with torch.autocast(made.device.type, enabled=False):
            still = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
            judged = torch.func.functional_call(self.discriminator, still, (made.float(),))[-1]
            better = self._loss(judged, target_is_real=True, for_discriminator=False)
            found = self.discriminator(made.detach().float())[-1]
            known = self.discriminator(real.float())[-1]
            wiser = self._loss(found, target_is_real=False, for_discriminator=True)
            wiser = wiser + self._loss(known, target_is_real=True, for_discriminator=True)
        return better, wiser / 2
