"""Augmentation of a whole batch at once: one projective warp and one colour matrix per sample, one resampling.

The report's transforms are RandomCrop, RandomHorizontalFlip, RandomRotation, ColorJitter and RandomPerspective. Each
sample gets its own: `draw` makes the parameters of an epoch, `augment` applies those of a batch on whatever device the
images live (`apply`, where the epoch's matrices are made in one go). Nothing in them waits for the device or depends on
values for its shapes, so that a CUDA graph can hold it, once a first call has put the colour constants on the device.

What happens to a sample, in this order, and how it compares with torchvision's transforms of the same parameters:

    colour        brightness, contrast, saturation, hue (torchvision shuffles the four): one matrix, clamped to [0, 1]
                  once at the end. torchvision clamps after each step, so what brightness saturates stays lost there.
                  Hue turns the chroma plane of YIQ, which keeps the luma; torchvision's turns HSV.
    crop, flip    whole pixels with zero padding: bit for bit.
    rotation      about the centre, bilinear: to rounding.
    perspective   torchvision's corners, its half-pixel shift included, bilinear: to rounding (of fill=None; with fill=0
                  torchvision fades the pixels at the border twice).

Colour comes first (the report has it before the perspective), so that everything outside the image is black, and the
mean grey that contrast needs is that of the image as it was stored. And as there is one resampling, nothing is cut off
between two geometric steps: what a crop moved out of sight can be turned back into it.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from hw7 import HW7Error
from hw7.support.words import counted

# RGB to luma and two chroma axes, as NTSC defined them (ITU-R BT.601 has the luma). The chroma of grey is 0.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Augmentation:
    """How strong the augmentation is; 0 turns a part off. Raises HW7Error for a value out of its range."""

    padding: float = 1 / 16  # crop: the largest shift, as a share of the side, rounded to whole pixels
    flip: float = 0.5  # probability
    rotation: float = 15.0  # degrees, either way
    perspective: float = 0.5  # probability
    distortion: float = 0.2  # how far a corner moves inwards at most, as a share of half the side
    brightness: float = 0.2  # factors between 1 - x and 1 + x; so the next two
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0  # turns of the colour circle, either way

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, largest = getattr(self, field.name), 180.0 if field.name == "rotation" else 1.0
            if not 0 <= value <= largest:
                raise HW7Error(f"augmentation: {field.name} is {value}; give a number from 0 to {largest:g}")


@dataclass(frozen=True)
class Parameters:
    """What happens to each of N samples, float32. `parameters[i]` gives those of a batch, for i a slice or int64 [n].

    shift    [N, 2]        where the crop starts, x and y, in whole pixels; negative in the padding
    flip     [N]           -1 mirrors left and right, 1 does not
    angle    [N]           degrees, counter-clockwise
    corners  [N, 2, 2, 2]  how far the perspective moves each corner, in pixels: [top or bottom, left or right, x or y]
    colour   [N, 4]        factors of brightness, contrast and saturation (1 changes nothing), and hue in turns
    """

    shift: Tensor
    flip: Tensor
    angle: Tensor
    corners: Tensor
    colour: Tensor

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, index: Tensor | slice) -> "Parameters":
        return Parameters(*(value[index] for value in vars(self).values()))

    def to(self, device: torch.device | str) -> "Parameters":
        return Parameters(*(value.to(device) for value in vars(self).values()))


def draw(count: int, size: int, generator: torch.Generator, strength: Augmentation = Augmentation()) -> Parameters:
    """The parameters of `count` samples of size x size pixels, on the generator's device, distributed as torchvision's.

    The same generator state gives the same parameters (on the same kind of device).
    """

    def uniform(*shape: int) -> Tensor:  # in [-1, 1)
        return 2 * torch.rand(count, *shape, generator=generator, device=generator.device) - 1

    def happens(probability: float) -> Tensor:
        return (uniform() < 2 * probability - 1).float()

    def whole(low: int, high: int, *shape: int) -> Tensor:  # low and high included
        return torch.randint(low, high + 1, (count, *shape), generator=generator, device=generator.device).float()

    padding = round(strength.padding * size)
    farthest = int(strength.distortion * (size // 2))
    corners = whole(0, farthest, 2, 2, 2) * happens(strength.perspective).view(-1, 1, 1, 1)
    corners[:, :, 1, 0].neg_()  # inwards is to the left for the right corners,
    corners[:, 1, :, 1].neg_()  # and up for the bottom ones
    jitter = (strength.brightness, strength.contrast, strength.saturation)
    return Parameters(
        shift=whole(-padding, padding, 2),
        flip=1 - 2 * happens(strength.flip),
        angle=strength.rotation * uniform(),
        corners=corners,
        colour=torch.stack([*(1 + x * uniform() for x in jitter), strength.hue * uniform()], dim=1),
    )


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    """Stacks tensors [N] to matrices [N, rows, columns]."""
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right for small matrices, never in TF32: its 10 bits would move pixels."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2)


def _perspectives(corners: Tensor, size: int) -> Tensor:
    """[N, 3, 3]: the homographies that take each moved corner back, in pixels from the mean of the four corners.

    On the square [-1, 1]² the moved corners are p(s, t) = m + s·u + t·v + s·t·w, and a homography puts them at
    (c + s·a + t·b) / (1 + g·s + h·t). Multiplied out, the terms in s·t say w + g·v + h·u = 0, which gives g and h;
    the others give a = u + g·m + h·w, b = v + h·m + g·w and c = m + g·u + h·v. The adjugate inverts it.
    """
    half = (size - 1) / 2
    (top_left, top_right), (bottom_left, bottom_right) = (row.unbind(1) for row in (corners / half).unbind(1))
    square = torch.eye(2, device=corners.device)
    m = (top_left + top_right + bottom_left + bottom_right) / 4  # [N, 2], as all of these
    u = (top_right - top_left + bottom_right - bottom_left) / 4 + square[0]
    v = (bottom_left - top_left + bottom_right - top_right) / 4 + square[1]
    w = (top_left - top_right - bottom_left + bottom_right) / 4

    def determinant(p: Tensor, q: Tensor) -> Tensor:
        return (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).unsqueeze(-1)

    g, h = determinant(w, u) / determinant(u, v), determinant(v, w) / determinant(u, v)
    columns = torch.stack([u + g * m + h * w, v + h * m + g * w, m + g * u + h * v], dim=-1)
    rows = torch.cat([columns, torch.stack([g, h, torch.ones_like(g)], dim=-1)], dim=-2)
    first, second, third = rows.unbind(-2)
    pairs = ((second, third), (third, first), (first, second))
    inverse = torch.stack([torch.linalg.cross(p, q) for p, q in pairs], dim=-1)
    # From the square to pixels: not by multiplying with `half` and dividing again, which would not leave 1 alone.
    inverse[:, :2, 2] *= half
    inverse[:, 2, :2] /= half
    return inverse


def warp_matrices(parameters: Parameters, size: int) -> Tensor:
    """[N, 3, 3], float32: the homographies from an output pixel to the input pixel it shows.

    Positions are (x, y, 1) in pixels from the image's centre: pixel i of a row is at i - (size - 1) / 2. There a flip
    and a rotation have no offset, and half the distances mean half the rounding.
    """
    radians = torch.deg2rad(parameters.angle)
    cos, sin, flip = radians.cos(), radians.sin(), parameters.flip
    shift_x, shift_y = parameters.shift.unbind(1)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = _matrix([[flip * cos, -flip * sin, shift_x], [sin, cos, shift_y], [zero, zero, one]])
    # torchvision takes the corners for pixels 0 and size - 1, but positions for pixels plus a half.
    half = one / 2
    there, back = (_matrix([[one, zero, by], [zero, one, by], [zero, zero, one]]) for by in (half, -half))
    return _product(_product(turn, back), _product(_perspectives(parameters.corners, size), there))


@cache
def _colour_basis(device: torch.device) -> Tensor:
    """[3, 3, 3]: RGB to its grey, RGB to its chroma, and RGB to its chroma turned by 90 degrees in YIQ."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    grey = yiq[0].expand(3, 3)
    turn = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)  # red to yellow, as in HSV
    quarter = torch.linalg.inv(yiq) @ turn @ yiq
    return torch.stack([grey, torch.eye(3, dtype=torch.float64) - grey, quarter]).to(device, torch.float32)


def colour_matrices(parameters: Parameters, mean: Tensor) -> Tensor:
    """[N, 3, 4], float32: RGB and 1 to RGB, before clamping. `mean` [N, 3] is the mean colour of each image, in [0, 1].

    Brightness multiplies; contrast draws towards the image's mean grey; saturation draws each pixel towards its own
    grey; hue turns what is left of the colour.
    """
    brightness, contrast, saturation, hue = parameters.colour.unbind(1)
    grey, chroma, quarter = _colour_basis(parameters.colour.device)
    cos, sin = ((saturation * f(2 * math.pi * hue)).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    # Written as a change of the identity, so that factors of 1 give the identity exactly.
    change = (cos - 1) * chroma + sin * quarter + torch.eye(3, device=grey.device)
    offset = (1 - contrast) * brightness * (mean * grey[0]).sum(1)  # grey, so saturation and hue leave it alone
    gain = (contrast * brightness).view(-1, 1, 1)
    return torch.cat([gain * change, offset.view(-1, 1, 1).expand(-1, 3, 1)], dim=2)


def _recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """[N, 3, H, W] through matrices [N, 3, 4], clamped to [0, 1]; plain arithmetic, so never in TF32."""
    columns = matrices[..., None, None].unbind(2)  # four of [N, 3, 1, 1]
    result = torch.addcmul(columns[3], columns[0], images[:, 0:1])
    for channel in (1, 2):
        result.addcmul_(columns[channel], images[:, channel : channel + 1])
    return result.clamp_(0, 1)


def _warp(images: Tensor, matrices: Tensor) -> Tensor:
    """[N, 3, S, S] seen through homographies [N, 3, 3], bilinear, black outside."""
    size = images.shape[-1]
    # grid_sample wants positions from -1 to 1. On a canvas whose side is a power of two this scaling is exact, so that
    # whole pixels stay whole, and crop and flip are copies.
    canvas = 1 << (size - 1).bit_length()
    if canvas > size:
        images = F.pad(images, (0, canvas - size, 0, canvas - size))
    x = torch.arange(size, dtype=torch.float32, device=images.device) - (size - 1) / 2
    scaled = torch.cat([matrices[:, :2] * (2 / canvas) + matrices[:, 2:] * (size / canvas - 1), matrices[:, 2:]], dim=1)
    across, down, constant = scaled[..., None, None].unbind(2)  # [N, 3, 1, 1] each
    position = torch.addcmul(torch.addcmul(constant, down, x.view(-1, 1)), across, x)  # [N, 3, S, S], homogeneous
    grid = position[:, :2].div_(position[:, 2:]).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def augment(images: Tensor, parameters: Parameters) -> Tensor:
    """Images, uint8 or float in [0, 1], [N, 3, S, S], to float32 [N, 3, S, S] in [0, 1]; sample i by parameters i.

    Parameters that change nothing give `images / 255` exactly. Raises ValueError for other shapes or counts.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.shape[3] < 2:
        raise ValueError(f"augment takes square RGB images [N, 3, S, S] with S >= 2, not {list(images.shape)}")
    if len(images) != len(parameters):
        raise ValueError(
            f"{counted(len(images), 'image')}, but parameters for {len(parameters)}: index them as the images"
        )
    colour = colour_matrices(parameters, mean_colours(images))
    return apply(images, colour, warp_matrices(parameters, images.shape[-1]))


def mean_colours(images: Tensor) -> Tensor:
    """[N, 3]: the mean colour of each image, uint8 or float in [0, 1], in [0, 1]."""
    return _unit(images).mean(dim=(2, 3))


def apply(images: Tensor, colour: Tensor, warp: Tensor) -> Tensor:
    """What is left of `augment` when the matrices are known: `colour_matrices` [N, 3, 4], `warp_matrices` [N, 3, 3].

    Those of a whole epoch can be made in one go, so that a batch costs a GPU a handful of operations. The result is
    laid out channels last, as convolutions like it.
    """
    # A core's cache holds a few images: in pieces, a batch of 128 takes half the time.
    at_once = max(1, (1 << 17) // images.shape[-1] ** 2) if images.device.type == "cpu" else max(1, len(images))
    result = torch.empty(images.shape, device=images.device, memory_format=torch.channels_last)
    for start in range(0, len(images), at_once):
        part = slice(start, start + at_once)
        result[part] = _warp(_recolour(_unit(images[part]), colour[part]), warp[part])
    return result


def _unit(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images.float()
