"""The display list: the shapes of a scene in the order in which they are painted, from the table to the front."""

import numpy as np

from hw7.data.plates.scene import MAIN, OTHER, PART_COLUMNS, Book, Difficulty, Scene, Uniforms, pick, turned, variation
from hw7.data.plates.tables import Array
from hw7.data.plates.textures import LEVELS, MIPS, TILE

WINDOWS = (0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)  # sides of the windows that are painted, in pictures
_COLOURS = [PART_COLUMNS.index(f"{channel}{number}") for number in range(3) for channel in "rgb"]
_TEXTURE = [PART_COLUMNS.index(name) for name in ("tile", "polar", "along", "across")]


def list_shapes(
    u: Uniforms, scene: Scene, view: dict[str, Array], book: Book, knobs: Difficulty, size: int
) -> dict[str, Array]:
    """Every visible part as a row of numbers to paint it by, image by image, back to front."""
    image, place, number, row = _visible_parts(u, scene, book, knobs)
    p = dict(zip(PART_COLUMNS, row.T, strict=True))
    at = Scene(*(value[image, place] for value in vars(scene).values()))
    v = {name: value[image] for name, value in view.items()}
    food, vary = at.kind != OTHER, variation(knobs)
    calm = np.where(at.kind == MAIN, 1 - 0.6 * knobs.confusion * u()[image], 1.0)  # less of what makes a shape special
    tint = 1 + vary * (0.14 * u.about(3) + 0.16 * u.about(1))[image]  # the picture's food
    own = u.about(10, scene.thing.shape[1])[image, :, place].T  # each thing's own

    a = p["length"] * at.scale * (1 + 0.12 * vary * own[0] * food)
    b = p["width"] * at.scale * (1 - 0.12 * vary * own[0] * food)
    matrix, offset, (light_x, light_y) = _own_coordinates(p, at, v, a, b)
    (m00, m01, m10, m11), (mx, my) = matrix, offset

    # The outline.
    bend = p["bend"] * calm * (1 + 0.5 * vary * own[1]) + 0.12 * vary * own[1] * food
    taper = np.clip(p["taper"] * calm + 0.1 * vary * own[2] * food, -0.9, 0.9)
    wobble = (p["wobble"] + 0.1 * (1 - calm)) * (0.7 + 0.6 * vary)
    hole = np.where(p["hole"] > 0, p["hole"] * calm * (1 + 0.15 * vary * own[3]), -9.0)
    ring = hole > 0

    # Relief and shadow. What the painter measures in pixels is given in pixels.
    pixel = v["unit"] * 2 / size
    rise = np.abs(p["height"]) * np.minimum(b + 0.1 * at.scale, 0.5)
    soft = 0.02 + 0.12 * rise
    rim = p["rim"] * b / pixel

    reach, blurred = 1 + wobble, soft + 0.25 * rise  # how far the part and its shadow extend
    extent_x = reach + blurred / a
    extent_y = (1 + np.abs(taper)) * (reach + blurred / b) + np.abs(bend) * (extent_x * extent_x - 0.5)
    side, left, top = _windows(matrix, offset, extent_x, extent_y, size)
    first_x, first_y = (2 * left + 1) / size - 1, (2 * top + 1) / size - 1

    fu, fv, level = _texture_scale(p, matrix, 1 + 0.3 * vary * own[4], size)
    texel = TILE >> level

    # Colours: the image's tint, the thing's own brightness.
    gain = np.where(food[:, None], tint, 0.5 + 0.5 * tint) * (1 + 0.08 * vary * own[5])[:, None]
    base, second, edge = (row[:, _COLOURS[3 * i : 3 * i + 3]] * gain for i in range(3))
    columns = {
        "x0": mx + m00 * first_x + m01 * first_y, "xi": m00 * 2 / size, "xj": m01 * 2 / size,
        "y0": my + m10 * first_x + m11 * first_y, "yi": m10 * 2 / size, "yj": m11 * 2 / size,
        "bend": bend, "taper": taper, "square": p["square"] * calm, "hole": hole,
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
        "image": image, "side": side, "left": left, "top": top, "polar": p["polar"] > 0,
        "layer": np.arange(len(image)) - np.searchsorted(image, image),
        "texel": texel, "offset": p["tile"].astype(int) * LEVELS[-1] + np.array(LEVELS)[level],
    }  # fmt: skip


def _visible_parts(u: Uniforms, scene: Scene, book: Book, knobs: Difficulty) -> tuple[Array, Array, Array, Array]:
    """Image, place and number of every visible part, back to front, and what the tables say of it [part, column].

    Now and then all food that the label names wears the colours, or the texture, of some other food.
    """
    image, place = np.nonzero(scene.present)
    parts = book.part_count[scene.thing[image, place]]
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    image, place = np.repeat(image, parts), np.repeat(place, parts)
    donor = pick(book.foods, u())[image]
    row = book.parts[scene.thing[image, place], number]
    lent = book.parts[donor, np.minimum(number, book.part_count[donor] - 1)]
    for columns, often in ((_COLOURS, 0.7), (_TEXTURE, 0.5)):
        borrows = (u() < often * knobs.confusion)[image] & (scene.kind[image, place] == MAIN)
        row[np.ix_(borrows, columns)] = lent[np.ix_(borrows, columns)]
    return image, place, number, row


def _own_coordinates(
    p: dict[str, Array], at: Scene, v: dict[str, Array], a: Array, b: Array
) -> tuple[tuple[Array, ...], tuple[Array, Array], tuple[Array, Array]]:
    """(M by rows, m, light): a point q of the picture is M q + m to the part, whose outline is at |.| = 1."""
    c, s = turned(at.turn)
    centre_x = at.x + at.scale * (c * p["x"] - s * p["y"])
    centre_y = at.y + at.scale * (s * p["x"] + c * p["y"])
    c, s = turned(at.turn + p["turn"])
    m00, m01 = (c * v["c00"] + s * v["c10"]) / a, (c * v["c01"] + s * v["c11"]) / a
    m10, m11 = (c * v["c10"] - s * v["c00"]) / b, (c * v["c11"] - s * v["c01"]) / b
    dx, dy = v["tx"] - centre_x, v["ty"] - centre_y
    light = c * v["lx"] + s * v["ly"], c * v["ly"] - s * v["lx"]
    return (m00, m01, m10, m11), ((c * dx + s * dy) / a, (c * dy - s * dx) / b), light


def _windows(
    matrix: tuple[Array, ...], offset: tuple[Array, Array], extent_x: Array, extent_y: Array, size: int
) -> tuple[Array, Array, Array]:
    """Side, left and top, in pixels, of the smallest windows of the ladder that hold what extends so far."""
    (m00, m01, m10, m11), (mx, my) = matrix, offset
    det = m00 * m11 - m01 * m10
    half_x = (np.abs(m11) * extent_x + np.abs(m01) * extent_y) / det
    half_y = (np.abs(m10) * extent_x + np.abs(m00) * extent_y) / det
    centre = (m01 * my - m11 * mx) / det, (m10 * mx - m00 * my) / det
    ladder = np.array([int(np.ceil(share * size)) for share in WINDOWS])
    side = ladder[np.minimum(np.searchsorted(ladder, np.maximum(half_x, half_y) * size + 2), len(ladder) - 1)]
    left, top = (np.clip(np.floor((at + 1) * size / 2 - side / 2), 0, size - side).astype(int) for at in centre)
    return side, left, top


def _texture_scale(
    p: dict[str, Array], matrix: tuple[Array, ...], often: Array, size: int
) -> tuple[Array, Array, Array]:
    """Tiles along and across, and the level of the atlas: the copy of the tile whose texels are about a pixel large."""
    m00, m01, m10, m11 = matrix
    polar = p["polar"] > 0
    fu = p["along"] * np.where(polar, 1.0, p["length"] * often)
    fv = p["across"] * np.where(polar, often, p["width"] * often)
    step_x, step_y = np.sqrt(m00 * m00 + m01 * m01), np.sqrt(m10 * m10 + m11 * m11)
    texels = TILE * np.maximum(fu * np.where(polar, 0.16 * np.maximum(step_x, step_y), step_x), fv * step_y) * 2 / size
    return fu, fv, np.clip(np.frexp(texels * 1.4)[1] - 1, 0, MIPS - 1)
