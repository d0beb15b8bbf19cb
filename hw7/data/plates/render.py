"""Rendering: the shapes of a scene to pixels, on any device and to the same bytes; `draw` is the way in.

`_paint` shades every shape in a small window, `_compose` lays the windows over each other, `_develop` adds light and
noise. The package's docstring says which arithmetic is allowed here.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.data.plates.scene import Difficulty, Uniforms, camera, draw_scene, recipe_book, turned
from hw7.data.plates.shapes import list_shapes
from hw7.data.plates.tables import SPLITS, Array
from hw7.data.plates.textures import texture_atlas


def _paint(
    p: dict[str, Tensor], texel: Tensor, offset: Tensor, side: int, polar: bool, atlas: Tensor
) -> tuple[Tensor, Tensor]:
    """Parts as windows: what each keeps of the picture below, [n, side, side], and adds to it, [3, n, side, side]."""
    at = torch.arange(side, device=atlas.device, dtype=torch.float32)
    x = (p["x0"] + p["xi"] * at) + p["xj"] * at[:, None]
    y = (p["y0"] + p["yi"] * at) + p["yj"] * at[:, None]

    # The outline, as a norm: an ellipse, squared up, bent, tapered, wobbling with the third and fifth harmonic.
    xx = x * x
    y = (y + p["bend"] * (xx - 0.5)) / (1 + p["taper"] * x.clamp(-1, 1))
    yy = y * y
    r = (xx + yy).sqrt()
    outside = r.clamp(min=1)
    c, s = x / outside, y / outside
    c2, s2 = c * c - s * s, 2 * c * s
    c3, s3 = c2 * c - s2 * s, c2 * s + s2 * c
    wobble = p["w3"] * c3 + p["v3"] * s3 + p["w5"] * (c2 * c3 - s2 * s3) + p["v5"] * (c2 * s3 + s2 * c3)
    x4, y4 = xx * xx, yy * yy
    k = r + p["square"] * ((x4 * x4 + y4 * y4).sqrt().sqrt().sqrt() - r) - wobble
    slope = (xx * (p["ia"] * p["ia"]) + yy * (p["ib"] * p["ib"])).sqrt().clamp(min=1e-6)
    r = r.clamp(min=0.01)
    distance = (k - 1) * r / slope  # to the outline, in pixels, negative inside
    distance = torch.maximum(distance, (x.abs() - p["reach"]) * p["a"])  # beyond the ends of long shapes, too small
    distance = torch.maximum(distance, (p["hole"] - k) * p["b"])

    facing = (p["gx"] * x + p["gy"] * y) / r  # how far the outline's normal turns to the light
    shadow = (1 - (distance + facing * p["lift"]) * p["soft"]).clamp(0, 1)
    alpha = (0.5 - distance).clamp(0, 1) * p["opacity"]
    keep = (1 - alpha) * (1 - shadow * shadow * p["shade"])

    across = (k - p["mid"]) * p["gain"]
    light = 1 + p["height"] * (0.65 * (facing * across) - 0.4 * (across * across) + 0.15)
    hx, hy = x - p["hx"], y - p["hy"]
    spot = (1 - 6 * (hx * hx + hy * hy)).clamp(min=0)
    spot = p["gloss"] * (spot * spot)

    u, v = x, y
    if polar:  # the angle in turns, of a diamond instead of a circle
        q = 0.25 * y / (x.abs() + y.abs()).clamp(min=1e-6)
        u, v = torch.where(x < 0, 0.5 - q, q), k
    column = (u * p["fu"] + p["ou"]).floor().to(torch.int32) & (texel - 1)
    line = (v * p["fv"] + p["ov"]).floor().to(torch.int32) & (texel - 1)
    tone = atlas[offset + line * texel + column]
    rim = ((distance + p["rim"]) * p["rim_soft"] + 0.5).clamp(0, 1)
    add = torch.empty(3, *tone.shape, device=atlas.device)
    for i in range(3):
        colour = p[f"base{i}"] + tone * p[f"more{i}"]
        colour = colour + rim * (p[f"edge{i}"] - colour)
        add[i] = alpha * (colour * light + spot)
    return keep, add


def _steps(values: Array) -> list[int]:
    """Where a sorted array changes."""
    return (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()


def _compose(parts: dict[str, Array], count: int, size: int, atlas: Tensor) -> Tensor:
    """float32 [3, image, row, column]: the parts over each other, back to front."""
    device = atlas.device
    budget = 1 << (17 if device.type == "cpu" else 22)  # pixels at a time: what a core's cache holds
    kind = 2 * parts["side"] + parts["polar"]
    order = np.lexsort((parts["layer"], kind))
    painted: list[list[tuple[Tensor, ...]]] = [[] for _ in range(int(parts["layer"].max()) + 1)]
    for same in np.split(order, _steps(kind[order])):
        side, polar = int(parts["side"][same[0]]), bool(parts["polar"][same[0]])
        at_once = max(1, budget // side**2)
        for some in np.split(same, range(at_once, len(same), at_once)):
            columns = torch.from_numpy(parts["columns"][some]).to(device)
            p = {name: columns[:, i, None, None] for i, name in enumerate(parts["names"])}
            corner = (parts["image"][some] * size + parts["top"][some]) * size + parts["left"][some]
            texel, offset, first = (
                torch.from_numpy(v.astype(np.int32)).to(device)[:, None, None]
                for v in (parts["texel"][some], parts["offset"][some], corner)
            )
            keep, add = _paint(p, texel, offset, side, polar, atlas)
            at = torch.arange(side, device=device, dtype=torch.int32)
            where, layer = first + at + size * at[:, None], parts["layer"][some]
            for i, j in pairwise([0, *_steps(layer), len(some)]):
                painted[layer[i]].append((where[i:j], keep[i:j], add[:, i:j]))
    canvas = torch.zeros(3, count * size * size, device=device)
    for windows in painted:
        for where, keep, add in windows:
            canvas[:, where] = canvas[:, where] * keep + add
    return canvas.view(3, count, size, size)


def _develop(canvas: Tensor, u: Uniforms, knobs: Difficulty) -> Tensor:
    """uint8 [image, 3, row, column]: the light across the picture, the colour cast and the noise of the pixels."""
    device, size = canvas.device, canvas.shape[-1]
    (lc, ls), light = turned(u()), knobs.light
    strength, vignette = 0.35 * light * u(), 0.3 * light * u()
    exposure = 1 + light * (0.3 * u.about(1) + 0.16 * u.about(3))
    haze = 0.12 * light * u()
    key = np.floor(u() * 2**32).astype(np.int64)
    rows = np.stack([lc * strength, ls * strength, vignette, haze, *exposure.T]).astype(np.float32)
    gx, gy, dark, pale, *gains = torch.from_numpy(rows).to(device)[:, :, None, None]
    at = torch.from_numpy(((2 * np.arange(size) + 1) / size - 1).astype(np.float32)).to(device)
    x, y = at, at[:, None]
    shade = (1 + gx * x + gy * y) * (1 - dark * (x * x + y * y))
    image = torch.stack([(canvas[i] * shade) * gains[i] for i in range(3)], dim=1)
    image = image + pale[:, None] * (0.8 - image)
    # A hash of (image, channel, row, column): two 16-bit halves, added, are noise with a triangular density.
    index = torch.arange(3 * size * size, device=device).view(3, size, size)
    h = torch.from_numpy(key).to(device)[:, None, None, None] ^ (index * 0x9E3779B1 & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x46AC2B35)):
        h = (h ^ (h >> shift)) * factor & 0xFFFFFFFF
    h = h ^ (h >> 16)
    grain = ((h & 0xFFFF) + (h >> 16) - 0xFFFF).float() * (2.0**-16)  # standard deviation 0.41
    image = image + (0.25 * knobs.noise) * grain
    return (image.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)


def draw(
    split: str,
    count: int,
    size: int,
    *,
    seed: int = 0,
    difficulty: Difficulty = Difficulty(),
    start: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int], object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pictures `start` .. `start + count - 1` of a split: uint8 [count, 3, size, size] on `device`, and int64 [count].

    `seed` is any integer from 0 on; a secret one of 128 bits makes a test set that nobody can draw. Labels are
    uniform over CLASSES (PRETRAINING_CLASSES in the split "pretraining") and come from the picture's own generator,
    so that an index tells nothing. Label noise is in the split "training" only. `progress(n)` is called whenever n
    more pictures are done. Raises HW7Error for a split that does not exist and for numbers out of range.
    """
    if split not in SPLITS:
        raise HW7Error(f"plates: there is no split {split!r}; choose one of {', '.join(SPLITS)}")
    for name, value, least in (("count", count, 0), ("size", size, 8), ("seed", seed, 0), ("start", start, 0)):
        if value < least:
            raise HW7Error(f"plates: {name} is {value}, but must be at least {least}")
    device = torch.device(device)
    atlas = torch.from_numpy(texture_atlas()[1]).to(device).view(-1)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8, device=device)
    labels = torch.empty(count, dtype=torch.int64)
    batch = max(1, (1 << (18 if device.type == "cpu" else 22)) // size**2)
    for i in range(0, count, batch):
        j = min(i + batch, count)
        images[i:j], labels[i:j] = _draw_batch(split, start + i, j - i, size, seed, difficulty, atlas)
        if progress is not None:
            progress(j - i)
    return images, labels.to(device)


def _draw_batch(
    split: str, start: int, count: int, size: int, seed: int, knobs: Difficulty, atlas: Tensor
) -> tuple[Tensor, Tensor]:
    book, u = recipe_book(split == "pretraining"), Uniforms(seed, split, start, count)
    classes = len(book.recipe_count)
    truth = (u() * classes).astype(int)
    wrong, shift = u() < knobs.label_noise * (split == "training"), 1 + (u() * (classes - 1)).astype(int)
    labels = np.where(wrong, (truth + shift) % classes, truth)
    scene = draw_scene(u, truth, book, knobs)
    view = camera(u, knobs)
    canvas = _compose(list_shapes(u, scene, view, book, knobs, size), count, size, atlas)
    return _develop(canvas, u, knobs), torch.from_numpy(labels)
