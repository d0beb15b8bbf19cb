"""The shapes: a scene as one list of shapes, from the table to the front."""

import numpy as np

from hw7.data.plates.scene import (
    COLOUR_COLUMNS,
    MAIN,
    OTHER,
    PART_COLUMNS,
    WINDOWS,
    Book,
    Difficulty,
    Scene,
    Uniforms,
    shape_rows,
    turned,
    variation,
)
from hw7.data.plates.tables import Array
from hw7.data.plates.textures import LEVELS, MIPS, TILE


def list_shapes(
    u: Uniforms, scene: Scene, view: dict[str, Array], book: Book, knobs: Difficulty, size: int
) -> dict[str, Array]:
    """Every visible part as a row of numbers for `_paint`, image by image, back to front."""
    image, place, number, row = shape_rows(u, scene, book, knobs)
    p = dict(zip(PART_COLUMNS, row.T, strict=True))
    kind, vary = scene.kind[image, place], variation(knobs)
    food = kind != OTHER
    calm = np.where(kind == MAIN, 1 - 0.6 * knobs.confusion * u()[image], 1.0)  # less of what makes a shape special
    tint = 1 + vary * (0.14 * u.about(3) + 0.16 * u.about(1))[image]  # the picture's food
    own = u.about(10, scene.thing.shape[1])[image, :, place].T  # each thing's own

    # Size, place and direction; the picture's coordinates become the part's: (x, y) = M p + m, the outline at |.| = 1.
    scale = scene.scale[image, place]
    a = p["length"] * scale * (1 + 0.12 * vary * own[0] * food)
    b = p["width"] * scale * (1 - 0.12 * vary * own[0] * food)
    c, s = turned(scene.turn[image, place])
    centre_x = scene.x[image, place] + scale * (c * p["x"] - s * p["y"])
    centre_y = scene.y[image, place] + scale * (s * p["x"] + c * p["y"])
    c, s = turned(scene.turn[image, place] + p["turn"])
    v = {name: value[image] for name, value in view.items()}
    m00, m01 = (c * v["c00"] + s * v["c10"]) / a, (c * v["c01"] + s * v["c11"]) / a
    m10, m11 = (c * v["c10"] - s * v["c00"]) / b, (c * v["c11"] - s * v["c01"]) / b
    dx, dy = v["tx"] - centre_x, v["ty"] - centre_y
    mx, my = (c * dx + s * dy) / a, (c * dy - s * dx) / b

    # The outline.
    bend = p["bend"] * calm * (1 + 0.5 * vary * own[1]) + 0.12 * vary * own[1] * food
    taper = np.clip(p["taper"] * calm + 0.1 * vary * own[2] * food, -0.9, 0.9)
    square = p["square"] * calm
    wobble = (p["wobble"] + 0.1 * (1 - calm)) * (0.7 + 0.6 * vary)
    hole = np.where(p["hole"] > 0, p["hole"] * calm * (1 + 0.15 * vary * own[3]), -9.0)
    ring = hole > 0

    # Light and shadow, in pixels where the shading works in pixels.
    pixel = v["unit"] * 2 / size
    light_x, light_y = c * v["lx"] + s * v["ly"], c * v["ly"] - s * v["lx"]
    rise = np.abs(p["height"]) * np.minimum(b + 0.1 * scale, 0.5)
    soft = 0.02 + 0.12 * rise
    rim = p["rim"] * b / pixel

    # The smallest window of the ladder that holds the part and its shadow.
    reach, blurred = 1 + wobble, soft + 0.25 * rise
    ex = reach + blurred / a
    ey = (1 + np.abs(taper)) * (reach + blurred / b) + np.abs(bend) * (ex * ex - 0.5)
    det = m00 * m11 - m01 * m10
    half_x, half_y = (np.abs(m11) * ex + np.abs(m01) * ey) / det, (np.abs(m10) * ex + np.abs(m00) * ey) / det
    at_x, at_y = (m01 * my - m11 * mx) / det, (m10 * mx - m00 * my) / det
    ladder = np.array([int(np.ceil(share * size)) for share in WINDOWS])
    side = ladder[np.minimum(np.searchsorted(ladder, np.maximum(half_x, half_y) * size + 2), len(ladder) - 1)]
    left, top = (np.clip(np.floor((at + 1) * size / 2 - side / 2), 0, size - side).astype(int) for at in (at_x, at_y))
    first_x, first_y = (2 * left + 1) / size - 1, (2 * top + 1) / size - 1

    # The texture, from the copy of its tile whose texels are about as large as a pixel.
    often = 1 + 0.3 * vary * own[4]
    polar = p["polar"] > 0
    fu = p["along"] * np.where(polar, 1.0, p["length"] * often)
    fv = p["across"] * np.where(polar, often, p["width"] * often)
    step_x, step_y = np.sqrt(m00 * m00 + m01 * m01), np.sqrt(m10 * m10 + m11 * m11)
    texels = TILE * np.maximum(fu * np.where(polar, 0.16 * np.maximum(step_x, step_y), step_x), fv * step_y) * 2 / size
    level = np.clip(np.frexp(texels * 1.4)[1] - 1, 0, MIPS - 1)
    texel = TILE >> level

    # Colours: the image's tint, the thing's own brightness.
    gain = np.where(food[:, None], tint, 0.5 + 0.5 * tint) * (1 + 0.08 * vary * own[5])[:, None]
    base, second, edge = (row[:, COLOUR_COLUMNS[3 * i : 3 * i + 3]] * gain for i in range(3))
    columns = {
        "x0": mx + m00 * first_x + m01 * first_y, "xi": m00 * 2 / size, "xj": m01 * 2 / size,
        "y0": my + m10 * first_x + m11 * first_y, "yi": m10 * 2 / size, "yj": m11 * 2 / size,
        "bend": bend, "taper": taper, "square": square, "hole": hole,
        "w3": 0.6 * wobble * own[6], "v3": 0.6 * wobble * own[7],
        "w5": 0.4 * wobble * own[8], "v5": 0.4 * wobble * own[9],
        "ia": pixel / a, "ib": pixel / b, "a": a / pixel, "b": b / pixel, "reach": reach,
        "mid": np.where(ring, (1 + hole) / 2, 0), "gain": np.where(ring, 2 / (1 - hole), 1),
        "gx": light_x * np.minimum(b / a, 1), "gy": light_y * np.minimum(a / b, 1),
        "hx": 0.4 * light_x, "hy": 0.4 * light_y,
        "height": p["height"], "gloss": p["gloss"], "opacity": p["opacity"],
        "lift": 0.25 * rise / pixel, "soft": pixel / soft, "shade": np.where(p["height"] == 0, 0, 0.55 * p["opacity"]),
        "rim": np.where(p["rim"] > 0, rim, -99), "rim_soft": 1 / np.maximum(1, 0.5 * rim),
        "fu": fu * texel, "fv": fv * texel, "ou": TILE * (1 + own[6] + 0.37 * number), "ov": TILE * (1 + own[7]),
        **{f"base{i}": base[:, i] for i in range(3)},
        **{f"more{i}": (second - base)[:, i] for i in range(3)},
        **{f"edge{i}": edge[:, i] for i in range(3)},
    }  # fmt: skip
    return {
        "columns": np.stack(list(columns.values()), axis=1).astype(np.float32), "names": np.array(list(columns)),
        "image": image, "side": side, "left": left, "top": top, "polar": polar,
        "layer": np.arange(len(image)) - np.searchsorted(image, image),
        "texel": texel, "offset": p["tile"].astype(int) * LEVELS[-1] + np.array(LEVELS)[level],
    }  # fmt: skip
