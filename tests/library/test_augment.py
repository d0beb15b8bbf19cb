"""The composed warp and the colour matrix against torchvision's transforms, run in float64 with the same parameters."""

import dataclasses

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from hw7 import HW7Error
from hw7.data.augment import Augmentation, Parameters, augment, colour_matrices, draw, warp_matrices

pytestmark = pytest.mark.rounding

SIZES = (32, 33, 40, 128)
OFF = Augmentation(**{field.name: 0.0 for field in dataclasses.fields(Augmentation)})
BILINEAR = tv.InterpolationMode.BILINEAR


def noise(count: int, size: int, seed: int = 0) -> Tensor:
    """uint8 [count, 3, size, size], the least forgiving picture: neighbours differ by up to the full range."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(seed))


def blobs(count: int, size: int) -> Tensor:
    """float32 [count, 3, size, size]: smooth spots, off the centre and black near the border."""
    x = torch.linspace(-1, 1, size)
    squares = [(x - 0.1 * dx).square() + (x[:, None] - 0.1 * dy).square() for dx, dy in ((1, 0), (-1, 1), (0, -2))]
    return torch.stack([torch.exp(-30 * square) for square in squares]).expand(count, -1, -1, -1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int, size: int, **strength: float) -> Parameters:
    """Parameters with only the named parts of the augmentation on."""
    return draw(count, size, generator(), dataclasses.replace(OFF, **strength))


def crop(image: Tensor, shift: Tensor) -> Tensor:
    size, (x, y) = image.shape[-1], map(int, shift)
    return tv.crop(tv.pad(image, [size]), size + y, size + x, size, size)


def rotate(image: Tensor, angle: Tensor) -> Tensor:
    return tv.rotate(image, angle.item(), interpolation=BILINEAR)


def perspective(image: Tensor, corners: Tensor) -> Tensor:
    last = image.shape[-1] - 1
    start = torch.tensor([[[0, 0], [last, 0]], [[0, last], [last, last]]])

    def around(points: Tensor) -> list[list[int]]:
        (top_left, top_right), (bottom_left, bottom_right) = points.int().tolist()
        return [top_left, top_right, bottom_right, bottom_left]

    return tv.perspective(image, around(start), around(start + corners), interpolation=BILINEAR)


def colours(image: Tensor, factors: Tensor) -> Tensor:
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for step, factor in zip(steps, factors.tolist(), strict=False):
        image = step(image, factor)
    return image


@pytest.mark.parametrize("size", SIZES)
def test_nothing_drawn_leaves_images_alone(size: int) -> None:
    images = noise(8, size)
    result = augment(images, drawn(8, size))
    assert result.dtype == torch.float32
    assert torch.equal(result, images / 255)
    assert torch.equal(augment(images / 255, drawn(8, size)), images / 255)


@pytest.mark.parametrize("size", SIZES)
def test_crop_and_flip_are_torchvisions_bit_for_bit(size: int) -> None:
    parameters = drawn(32, size, padding=0.25, flip=0.5)
    images = noise(32, size)
    expected = []
    for image, shift, flip in zip(images / 255, parameters.shift, parameters.flip, strict=True):
        # The crop comes before the flip, so the shift counts in the picture as it was stored.
        image = crop(image, shift)
        expected.append(tv.horizontal_flip(image) if flip < 0 else image)
    assert parameters.flip.unique().tolist() == [-1, 1]
    assert parameters.shift.unique().numel() > 8
    assert torch.equal(augment(images, parameters), torch.stack(expected))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("strength", "reference", "name"),
    [({"rotation": 45.0}, rotate, "angle"), ({"perspective": 1.0, "distortion": 0.5}, perspective, "corners")],
)
def test_rotation_and_perspective_are_torchvisions(size: int, strength: dict, reference, name: str) -> None:
    parameters = drawn(16, size, **strength)
    images = noise(16, size)
    pairs = zip(images.double() / 255, getattr(parameters, name), strict=True)
    expected = torch.stack([reference(image, value) for image, value in pairs])
    # grid_sample's positions lie in [0, 2) and are scaled by size / 2: one float32 eps there is size / 2 · eps pixels,
    # and noise changes by up to 1 a pixel along each axis. Four eps on each of two axes are left for the warp.
    tolerance = 4 * size * torch.finfo(torch.float32).eps
    torch.testing.assert_close(augment(images, parameters).double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("strength", "reference", "name"),
    [({"rotation": 45.0}, rotate, "angle"), ({"perspective": 1.0, "distortion": 0.5}, perspective, "corners")],
)
def test_on_smooth_images_rotation_and_perspective_are_within_1e_5(
    size: int, strength: dict, reference, name: str
) -> None:
    parameters, images = drawn(16, size, **strength), blobs(16, size)
    pairs = zip(images.double(), getattr(parameters, name), strict=True)
    expected = torch.stack([reference(image, value) for image, value in pairs])
    torch.testing.assert_close(augment(images, parameters).double(), expected, rtol=0, atol=1e-5)  # the project's bound


def test_half_of_the_samples_get_no_perspective() -> None:
    corners = drawn(400, 40, perspective=0.5, distortion=0.5).corners
    # binomial: 0.5 ± 0.025; a moved sample has no displacement with probability 11**-8
    assert 0.4 < corners.flatten(1).any(dim=1).float().mean() < 0.6
    assert corners.abs().max() == 10
    # inwards: right corners to the left, bottom corners up
    assert (corners[:, :, 0, 0] >= 0).all()
    assert (corners[:, :, 1, 0] <= 0).all()
    assert (corners[:, 0, :, 1] >= 0).all()
    assert (corners[:, 1, :, 1] <= 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_colours_are_torchvisions_where_nothing_is_clamped(size: int) -> None:
    parameters = drawn(16, size, brightness=0.2, contrast=0.2, saturation=0.2)
    images = 0.3 + 0.3 * noise(16, size) / 255  # no factor takes these out of [0, 1]
    expected = torch.stack([colours(*pair) for pair in zip(images.double(), parameters.colour, strict=True)])
    # torchvision's weights of grey sum to 0.9999: up to 0.2 · 1e-4 in contrast and in saturation
    torch.testing.assert_close(augment(images, parameters).double(), expected, rtol=0, atol=5e-5)


def test_colours_are_clamped_once_at_the_end() -> None:
    parameters = drawn(1, 32)
    parameters.colour[0, :3] = torch.tensor([2.0, 0.5, 1.0])  # twice as bright, half the contrast
    image = torch.cat([torch.full((1, 3, 32, 16), 0.9), torch.full((1, 3, 32, 16), 0.1)], dim=3)
    ours, theirs = augment(image, parameters)[0, 0, 0, [0, -1]], colours(image[0], parameters.colour[0])[0, 0, [0, -1]]
    # ours: 0.5 · (1.8, 0.2) + 0.5 · mean 1.0, the first clamped; torchvision: 0.5 · (1.0, 0.2) + 0.5 · mean 0.6
    torch.testing.assert_close(ours, torch.tensor([1.0, 0.6]))
    torch.testing.assert_close(theirs, torch.tensor([0.8, 0.4]), rtol=0, atol=1e-4)  # its weights sum to 0.9999


def test_contrast_draws_to_the_grey_of_each_image() -> None:
    parameters = drawn(2, 32)
    parameters.colour[:, 1] = 0.0
    images = torch.cat([noise(1, 32) // 2, noise(1, 32, seed=1) // 4])
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    greys = (images.double() / 255).mean(dim=(2, 3)) @ weights
    expected = greys.view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    # float32 means of a thousand entries
    torch.testing.assert_close(augment(images, parameters).double(), expected, rtol=0, atol=1e-6)
    assert (greys[0] - greys[1]).abs() > 0.1


def test_hue_keeps_grey_and_luma_and_turns_full_circle() -> None:
    parameters = drawn(5, 32)
    parameters.colour[:, 3] = torch.tensor([-0.5, -0.2, 0.1, 0.5, 1.0])
    images = 0.4 + 0.2 * noise(5, 32) / 255
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    result = augment(images, parameters)
    # a few float32 roundings of numbers near 1
    torch.testing.assert_close((result * weights).sum(1), (images * weights).sum(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(result[4], images[4], rtol=0, atol=1e-6)
    torch.testing.assert_close(result[0] - images[0].mul(weights[0]).sum(0),
                               images[0].mul(weights[0]).sum(0) - images[0], rtol=0, atol=1e-6)  # fmt: skip
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(augment(grey, parameters), grey, rtol=0, atol=1e-6)
    # a small turn goes the way of torchvision's HSV circle: red becomes orange, not pink
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    for image in (augment(red, parameters[2:3])[0], tv.adjust_hue(red[0], 0.1)):
        assert image[1, 0, 0] > 0.25
        assert image[1, 0, 0] > image[2, 0, 0] + 0.05


def test_all_together_is_torchvisions_sequence() -> None:
    parameters, images = draw(8, 128, generator(), Augmentation(perspective=1.0)), 0.8 * blobs(8, 128)
    parameters.colour[:, 1] = 1.0  # contrast would lift the black border, and show where torchvision cuts it off
    steps = {
        "crop": lambda image, i: crop(image, parameters.shift[i]),
        "flip": lambda image, i: tv.horizontal_flip(image) if parameters.flip[i] < 0 else image,
        "rotation": lambda image, i: rotate(image, parameters.angle[i]),
        "perspective": lambda image, i: perspective(image, parameters.corners[i]),
    }

    def difference(*order: str) -> float:
        largest = 0.0
        for i, image in enumerate(images.double()):
            image = colours(image, parameters.colour[i])
            for step in order:
                image = steps[step](image, i)
            largest = max(largest, (result[i] - image).abs().max().item())
        return largest

    result = augment(images, parameters).double()
    # Two bilinear resamplings against one. Each errs by up to f'' / 8 pixel² along each axis; at the top of a spot of
    # height 0.96, f'' is 60 · 0.96 in units of half a side.
    tolerance = 2 * 2 * 60 * 0.96 / 8 * (2 / 128) ** 2
    assert difference("crop", "flip", "rotation", "perspective") < tolerance
    for other in (("flip", "crop", "rotation", "perspective"), ("crop", "rotation", "flip", "perspective"),
                  ("crop", "flip", "perspective", "rotation")):  # fmt: skip
        assert difference(*other) > 5 * tolerance


def test_matrices_follow_the_order_crop_flip_rotation_perspective() -> None:
    parameters = drawn(1, 64)
    parameters.shift[0] = torch.tensor([3.0, -2.0])
    parameters.flip[0] = -1
    parameters.angle[0] = 90.0
    # counter-clockwise: the output pixel at the right edge shows what was at the bottom; then mirrored, then shifted
    right = warp_matrices(parameters, 64)[0] @ torch.tensor([31.5, 0.0, 1.0])
    torch.testing.assert_close(right, torch.tensor([3.0, 31.5 - 2.0, 1.0]), rtol=0, atol=1e-5)  # cos(90°) in float32
    top = warp_matrices(parameters, 64)[0] @ torch.tensor([0.0, -31.5, 1.0])
    torch.testing.assert_close(top, torch.tensor([-31.5 + 3.0, -2.0, 1.0]), rtol=0, atol=1e-5)
    # the perspective comes last: its corners are those of the finished picture
    parameters.corners[0, 0, 0] = torch.tensor([5.0, 4.0])
    x, y, w = warp_matrices(parameters, 64)[0] @ torch.tensor([5.0 - 32, 4.0 - 32, 1.0])
    corner = torch.tensor([-32.0 + 3.0, -32.0 - 2.0])  # (-32, -32) turned by 90° is (32, -32); mirrored (-32, -32)
    torch.testing.assert_close(torch.stack([x / w, y / w]), corner, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [40, 128])
def test_samples_do_not_depend_on_each_other(size: int) -> None:
    parameters, images = draw(9, size, generator()), noise(9, size)
    together = augment(images, parameters)
    order = torch.tensor([7, 2, 4])
    # the same arithmetic, but vectors may be cut at other places
    torch.testing.assert_close(augment(images[order], parameters[order]), together[order], rtol=0, atol=2e-5)
    torch.testing.assert_close(augment(images[3:4], parameters[3:4]), together[3:4], rtol=0, atol=2e-5)
    same = augment(images[:1].expand(9, -1, -1, -1), parameters)
    assert all((same[i] - same[j]).abs().max() > 0.1 for i in range(9) for j in range(i))


def test_the_generator_decides() -> None:
    first, again, other = (draw(50, 40, generator(seed)) for seed in (1, 1, 2))
    for name, values in vars(first).items():
        assert torch.equal(values, getattr(again, name))
        assert not torch.equal(values, getattr(other, name))
        assert len(values.unique(dim=0)) > 1
        assert values.dtype == torch.float32


def test_draws_stay_in_range_and_reach_its_ends() -> None:
    parameters = draw(4000, 128, generator())
    assert (parameters.shift.min(), parameters.shift.max()) == (-8, 8)
    assert parameters.shift.equal(parameters.shift.round())
    assert 14.9 < parameters.angle.abs().max() <= 15
    assert parameters.angle.mean().abs() < 0.7  # five standard errors of 8.7 / sqrt(4000)
    for column in parameters.colour[:, :3].unbind(1):
        assert 0.8 <= column.min() < 0.81
        assert 1.19 < column.max() <= 1.2
    assert not parameters.colour[:, 3].any()
    assert parameters.flip.mean().abs() < 0.08  # five standard errors of 1 / sqrt(4000)


def test_parameters_can_be_indexed_and_moved() -> None:
    parameters = draw(6, 40, generator())
    index = torch.tensor([5, 0, 5])
    some = parameters[index]
    assert (len(parameters), len(some)) == (6, 3)
    assert all(torch.equal(values[index], getattr(some, name)) for name, values in vars(parameters).items())
    assert all(values.device.type == "meta" for values in vars(parameters.to("meta")).values())


def test_nothing_in_augment_depends_on_values() -> None:
    """The meta device has shapes only: whatever would wait for a value raises here, as in a CUDA graph."""
    parameters = draw(4, 40, generator()).to("meta")
    result = augment(torch.empty(4, 3, 40, 40, dtype=torch.uint8, device="meta"), parameters)
    assert result.shape == (4, 3, 40, 40)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_graph_holds_it() -> None:
    parameters, images = draw(8, 40, generator()).to("cuda"), noise(8, 40).cuda()
    expected = augment(images, parameters)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = augment(images, parameters)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(result, expected)


def test_the_widest_augmentation_stays_in_range() -> None:
    names = [field.name for field in dataclasses.fields(Augmentation)]
    widest = Augmentation(**dict.fromkeys(names, 1.0) | {"rotation": 180.0})
    result = augment(noise(200, 32), draw(200, 32, generator(), widest))
    assert result.isfinite().all()
    assert (result.min(), result.max()) == (0, 1)


def test_colour_matrices_of_factors_one_are_the_identity() -> None:
    matrices = colour_matrices(drawn(3, 32), torch.rand(3, 3, generator=generator()))
    assert torch.equal(matrices, torch.eye(3, 4).expand(3, 3, 4))


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 8, 8), (3, 8, 8), (2, 3, 1, 1), (3, 3, 8, 8)])
def test_wrong_shapes_and_counts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"augment takes|parameters for 2"):
        augment(torch.zeros(shape, dtype=torch.uint8), drawn(2, 8))


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"rotation": 181.0}, {"padding": -0.1}, {"hue": float("nan")}])
def test_augmentations_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(HW7Error, match=f"{next(iter(wrong))} is"):
        Augmentation(**wrong)
