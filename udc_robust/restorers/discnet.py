"""DISCNet: removing the diffraction of a display with dynamic kernels (Feng et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from udc_robust.errors import UserError
from udc_robust.restorers.base import RestorerMixin
from udc_robust.restorers.dynamic_conv import predicted_dynamic_conv
from udc_robust.restorers.residual_block import ResidualBlock

# First five PCA coefficients of the measured PSF in the centre of the ZTE Axon 20 panel, published with the network.
CENTRE_PSF_CODE = (-2.0032346e-03, 3.5204366e-02, -2.0214582e-05, 5.9867720e-03, 9.4327690e-05)


class KernelHead(nn.Sequential):
    """Predicts one kernel per pixel and channel from ``hidden`` and filters the features with it."""

    def __init__(self, channels: int, kernel_size: int, scale: float) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(init=0.2)),
            ResidualBlock(channels, scale),
            ResidualBlock(channels, scale),
            nn.Sequential(nn.Conv2d(channels, channels * kernel_size**2, 1), nn.PReLU(init=0.2)),
        )
        self.kernel_size = kernel_size

    def forward(self, hidden: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Filter ``feature`` ``(B,C,H,W)`` with the kernels predicted from ``hidden`` ``(B,C,H,W)``."""
        hidden = self[2](self[1](self[0](hidden)))
        head, activation = self[3].children()
        assert isinstance(head, nn.Conv2d) and isinstance(activation, nn.PReLU)
        return predicted_dynamic_conv(feature, hidden, head, activation.weight, self.kernel_size)


class DISCNet(RestorerMixin, nn.Module):
    """U-net on tone-mapped images whose features are filtered by kernels predicted from the PSF code and the image.

    ``(B,3,H,W)`` in about [0,1) to the same, not clamped; any size: the image is replicated on the right and bottom
    to a multiple of 4, in training too (the published code pads in eval mode only).

    Args:
        in_nc: channels of the image.
        out_nc: channels of the result, equal to ``in_nc`` as the image is added to it.
        nf: channels at full resolution; 2x and 4x below.
        ns: unused; official option files carry it.
        kpn_sz: side of the predicted kernels, odd.
        norm_type: unused; official option files carry it.
        act_type: only ``leakyrelu``.
        res_scale: factor on the residual branches.
        kernel_size: only 3.
        kernel_cond: what the kernels are predicted from: ``img``, ``psf``, ``img-psf``, or None for a plain U-net.
        psf_nc: length of the PSF code.
        multi_scale: filter the features of all three scales instead of the coarsest only.
        psf_code: code used when ``forward`` gets none; None is the published code of the panel's centre.
    """

    domain = "tonemapped"
    source = "https://github.com/jnjaby/DISCNet"
    weights_licence = "MIT according to the README; the repository has no licence file"
    psf_code: torch.Tensor
    dynamic_kernel1: KernelHead
    dynamic_kernel2: KernelHead

    def __init__(
        self,
        in_nc: int = 3,
        out_nc: int = 3,
        nf: int = 32,
        ns: int = 2,
        kpn_sz: int = 5,
        norm_type: str | None = None,
        act_type: str = "leakyrelu",
        res_scale: float = 1.0,
        kernel_size: int = 3,
        kernel_cond: str | None = None,
        psf_nc: int = 5,
        multi_scale: bool = False,
        psf_code: list[float] | None = None,
    ) -> None:
        super().__init__()
        _check_options(in_nc, out_nc, kpn_sz, act_type, kernel_size, kernel_cond, multi_scale)
        self.in_nc, self.kernel_cond, self.multi_scale = in_nc, kernel_cond, multi_scale
        self.uses_psf = kernel_cond is not None and "psf" in kernel_cond
        code = CENTRE_PSF_CODE if psf_code is None else psf_code
        if self.uses_psf and len(code) != psf_nc:
            raise UserError(f"DISCNet: psf_code has {len(code)} numbers, psf_nc is {psf_nc}; give {psf_nc} numbers")
        self.register_buffer("psf_code", torch.tensor(code).view(1, -1, 1, 1), persistent=False)

        widths = (nf, 2 * nf, 4 * nf)
        for level, inputs, outputs in zip((1, 2, 3), (in_nc, *widths), widths, strict=False):
            self._add_stage("conv", level, inputs, outputs, res_scale)
        self.upconv_21 = _upsample(4 * nf, 2 * nf)
        self.upconv_22 = ResidualBlock(2 * nf, res_scale)
        self.upconv_23 = ResidualBlock(2 * nf, res_scale)
        self.upconv_11 = _upsample(2 * nf, nf)
        self.upconv_12 = ResidualBlock(nf, res_scale)
        self.upconv_13 = ResidualBlock(nf, res_scale)
        self.final_conv = _conv(nf, out_nc)  # its activation is part of the published network
        if kernel_cond is None:
            return
        condition_nc = psf_nc * self.uses_psf + in_nc * ("img" in kernel_cond)
        for level, inputs, outputs in zip((1, 2, 3), (condition_nc, *widths), widths, strict=False):
            self._add_stage("kconv", level, inputs, outputs, res_scale)
            if level == 3:
                self.dynamic_kernel = KernelHead(outputs, kpn_sz, res_scale)
            elif multi_scale:
                self.add_module(f"dynamic_kernel{level}", KernelHead(outputs, kpn_sz, res_scale))

    def _add_stage(self, name: str, level: int, inputs: int, outputs: int, res_scale: float) -> None:
        """Add ``{name}_{level}1`` to ``{name}_{level}3``: one scale of an encoder."""
        self.add_module(f"{name}_{level}1", _conv(inputs, outputs, stride=1 if level == 1 else 2))
        self.add_module(f"{name}_{level}2", ResidualBlock(outputs, res_scale))
        self.add_module(f"{name}_{level}3", ResidualBlock(outputs, res_scale))

    def _encode(self, name: str, x: torch.Tensor) -> list[torch.Tensor]:
        """Features at full, half and quarter resolution."""
        features = []
        for level in (1, 2, 3):
            for step in (1, 2, 3):
                x = self.get_submodule(f"{name}_{level}{step}")(x)
            features.append(x)
        return features

    def _condition(self, x: torch.Tensor, psf: torch.Tensor | None) -> torch.Tensor:
        """What the kernels are predicted from: the code as constant maps, then the image."""
        if not self.uses_psf:
            return x
        code = self.psf_code if psf is None else psf
        length = self.psf_code.shape[1]
        if tuple(code.shape) not in ((1, length, 1, 1), (x.shape[0], length, 1, 1)):
            raise UserError(
                f"DISCNet: psf must have shape (1 or {x.shape[0]}, {length}, 1, 1), got {tuple(code.shape)}"
            )
        maps = code.to(x).expand(x.shape[0], -1, *x.shape[-2:])
        return maps if self.kernel_cond == "psf" else torch.cat([maps, x], dim=1)

    def forward(self, x: torch.Tensor, psf: torch.Tensor | None = None) -> torch.Tensor:
        """Restore ``x`` ``(B,in_nc,H,W)``, tone-mapped, given the PSF code ``(B or 1,psf_nc,1,1)``."""
        self.check_image(x, self.in_nc)
        height, width = x.shape[-2:]
        x = _pad_to_multiple_of_4(x)
        f1, f2, f3 = self._encode("conv", x)
        if self.kernel_cond is not None:
            k1, k2, k3 = self._encode("kconv", self._condition(x, psf))
            f3 = self.dynamic_kernel(k3, f3)
            if self.multi_scale:
                f2 = self.dynamic_kernel2(k2, f2)
                f1 = self.dynamic_kernel1(k1, f1)
        z = self.upconv_23(self.upconv_22(self.upconv_21(f3) + f2))
        z = self.upconv_13(self.upconv_12(self.upconv_11(z) + f1))
        return (self.final_conv(z) + x)[..., :height, :width]


def _check_options(
    in_nc: int, out_nc: int, kpn_sz: int, act_type: str, kernel_size: int, kernel_cond: str | None, multi_scale: bool
) -> None:
    if in_nc != out_nc:
        raise UserError(f"DISCNet: in_nc {in_nc} and out_nc {out_nc} must be equal, the image is added to the result")
    if kpn_sz % 2 == 0:
        raise UserError(f"DISCNet: kpn_sz must be odd, got {kpn_sz}")
    if act_type != "leakyrelu" or kernel_size != 3:
        raise UserError("DISCNet: only act_type leakyrelu and kernel_size 3 exist; remove these keys")
    if kernel_cond not in (None, "img", "psf", "img-psf"):
        raise UserError(f"DISCNet: kernel_cond must be img, psf, img-psf or null, got {kernel_cond!r}")
    if multi_scale and kernel_cond is None:
        raise UserError("DISCNet: multi_scale needs kernels; set kernel_cond or turn multi_scale off")


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.LeakyReLU(0.2))


def _upsample(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.2))


def _pad_to_multiple_of_4(x: torch.Tensor) -> torch.Tensor:
    below, right = -x.shape[-2] % 4, -x.shape[-1] % 4
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
