"""The scene: what stands where in a picture, as random numbers decide; float64, on the host."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from hw7 import HW7Error
from hw7.data.plates import tables
from hw7.data.plates.pretraining import pretraining_tables
from hw7.data.plates.tables import MOST_ITEMS, SPLITS, Array, Recipe, Things
from hw7.data.plates.textures import texture_atlas


@dataclass(frozen=True)
class Difficulty:
    """Knobs, each from 0 (easy) to 1 (hard)."""

    clutter: float = 0.5  # side dishes (of other classes too), garnish and cutlery
    occlusion: float = 0.3  # how often a napkin, a glass or a hand lies over the dish
    light: float = 0.5  # shading across the picture, vignette, exposure, colour cast
    noise: float = 0.3  # pixel noise; at 1 its standard deviation is about 0.1 of white
    variation: float = 0.5  # how much counts, sizes, colours, shapes and the camera vary within a recipe
    confusion: float = 0.4  # how often a dish wears the colours or texture of another, and how far shapes blur
    label_noise: float = 0.0  # share of training labels replaced by another class

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise HW7Error(f"difficulty: {field.name} is {value}, but must lie between 0 and 1")


def turned(turns: Array) -> tuple[Array, Array]:
    """Cosine and sine of an angle in turns, to 1e-9: the library's own differ in the last bit between machines."""
    quarter = np.floor(4 * turns + 0.5)
    a = (turns - quarter / 4) * (2 * np.pi)  # -pi/4 .. pi/4
    q = a * a
    c = 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56 * (1 - q / 90))))
    s = a * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110)))))
    k = quarter.astype(int) % 4
    return np.choose(k, (c, -s, -c, s)), np.choose(k, (s, c, -s, -c))


PART_COLUMNS = (
    *("length", "width", "x", "y", "turn", "rim", "height", "gloss", "opacity"),
    *("square", "bend", "taper", "wobble", "hole", "tile", "polar", "along", "across"),
    *(f"{channel}{number}" for number in range(3) for channel in "rgb"),
)


class Book:
    """The tables as arrays: the parts of every thing, and the recipes of one set of classes, class by class."""

    def __init__(self, foods: Things, classes: Mapping[str, tuple[Recipe, ...]]) -> None:
        things = {**foods, **tables.TABLES, **tables.DISHES, **tables.GARNISH, **tables.CUTLERY, **tables.OCCLUDERS}
        self.number = {name: i for i, name in enumerate(things)}
        self.foods = self.ids(foods)
        self.part_count = np.array([len(parts) for parts in things.values()])
        self.parts = np.zeros((len(things), self.part_count.max(), len(PART_COLUMNS)))
        tiles, _ = texture_atlas()
        for i, parts in enumerate(things.values()):
            for j, p in enumerate(parts):
                tile, *mapping = tables.TEXTURES[p.texture]
                rgb = [v / 255 for name in p.colours.split() for v in bytes.fromhex(tables.COLOURS[name])]
                self.parts[i, j] = (p.length, p.width, *p.at, p.turn, p.rim, p.height, p.gloss, p.opacity,
                                    *tables.SHAPES[p.shape], tiles.index(tile), *mapping, *rgb)  # fmt: skip
        self.recipe_count = np.array([len(recipes) for recipes in classes.values()])
        self.first_recipe = np.cumsum(self.recipe_count) - self.recipe_count
        recipes = list(chain(*classes.values()))
        self.dishes = np.stack([self.choice(recipe.dishes) for recipe in recipes])
        self.main = np.stack([self.choice(recipe.things) for recipe in recipes])
        self.base = np.array([self.number[recipe.base] if recipe.base else -1 for recipe in recipes])
        self.layout = np.array([tables.LAYOUTS.index(recipe.layout) for recipe in recipes])
        self.numbers = np.array([(*r.count, r.scale, r.spread, r.base_scale) for r in recipes])

    def ids(self, names: Iterable[str]) -> Array:
        return np.array([self.number[name] for name in names])

    def choice(self, names: str) -> Array:
        """The ids of 1 to 4 things, repeated: lists of 12, whatever their number, that keep the odds of each."""
        return np.resize(self.ids(names.split(", ")), 12)


@cache
def recipe_book(pretraining: bool) -> Book:
    return Book(*pretraining_tables()) if pretraining else Book(tables.FOODS, tables.RECIPES)


class Uniforms:
    """[image, draw]: a row of uniform numbers an image, handed out in order."""

    COUNT = 600

    def __init__(self, seed: int, split: str, start: int, count: int) -> None:
        key = np.random.SeedSequence([SPLITS.index(split), seed]).generate_state(2, np.uint64)
        self.rows = np.stack([
            np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0])).random(self.COUNT)
            for index in range(start, start + count)
        ])  # fmt: skip
        self.used = 0

    def __call__(self, *shape: int) -> Array:
        """float64 [image, *shape], the next ones."""
        size = int(np.prod(shape, dtype=int))
        taken = self.rows[:, self.used : self.used + size]
        self.used += size
        return taken.reshape(len(taken), *shape)

    def about(self, *shape: int) -> Array:
        """The next ones, between -1 and 1."""
        return 2 * self(*shape) - 1


def variation(knobs: Difficulty) -> float:
    """How far to vary what varies: a quarter of the way even where the knob is 0, or a class were one picture."""
    return 0.25 + 0.75 * knobs.variation


def pick(options: Array, u: Array) -> Array:
    """One of the options (last axis) for each uniform number."""
    index = (u * options.shape[-1]).astype(int)
    return options[index] if options.ndim == 1 else np.take_along_axis(options, index, axis=-1)


def _arrange(layout: Array, n: Array, spread: Array, u: Array) -> tuple[Array, Array, Array]:
    """x, y and turn [image, item] of `n` items in each image's layout; u is [image, 5, item]."""
    i, n, lay = np.arange(u.shape[2]), np.maximum(n, 1), layout[:, None]
    spread = np.where(n > 1, spread, 0)
    around = (i + 0.3 * u[:, 0]) / n
    c, s = turned(around)  # the ring
    sc, ss = turned(i * 0.381966 + u[:, 0, :1])  # a sunflower's spiral
    out = spread * np.sqrt((i + 0.5) / n)
    line = 2 * spread / n * (i - (n - 1) / 2)
    columns = np.ceil(np.sqrt(n))
    step = 2 * spread / np.maximum(columns, 2)
    right = step * (i % columns - (columns - 1) / 2)
    down = step * (np.floor(i / columns) - (np.ceil(n / columns) - 1) / 2)
    tilt = 0.08 * (2 * u[:, 3] - 1)
    # In the order of LAYOUTS.
    x = np.choose(lay, (0.8 * spread * c, spread * c, line, right, out * sc, out * sc))
    y = np.choose(lay, (0.8 * spread * s, spread * s, 0 * line, down, out * ss, out * ss))
    turn = np.choose(lay, (u[:, 3], around + tilt, 0.25 + tilt / 2, tilt, u[:, 3], 0.4 * u[:, 3]))
    jitter = np.where(lay > 3, 0.11, 0.03)
    return x + jitter * (2 * u[:, 1] - 1), y + jitter * (2 * u[:, 2] - 1), turn


# Kinds of things: food that the label names; other food; and the rest.
MAIN, SIDE, OTHER = range(3)


@dataclass(frozen=True)
class Scene:
    """What stands where, back to front: [image, place] each, in half pictures and turns."""

    thing: Array
    x: Array
    y: Array
    turn: Array
    scale: Array
    present: Array
    kind: Array


def draw_scene(u: Uniforms, labels: Array, book: Book, knobs: Difficulty) -> Scene:
    """A scene for each label [image]: table, cutlery, dish, side dishes, main dish, garnish, and what lies over it."""
    groups: list[list[Array]] = []
    vary = variation(knobs)

    def put(kind: int, thing: Array, x: Any, y: Any, turn: Any, scale: Any, present: Any) -> None:
        groups.append([np.broadcast_to(v, thing.shape) for v in (thing, x, y, turn, scale, present, kind)])

    recipe = book.first_recipe[labels] + (u() * book.recipe_count[labels]).astype(int)
    low, high, scale, spread, base_scale = (column[:, None] for column in book.numbers[recipe].T)
    n = np.floor(low + (0.5 + 0.5 * vary * u.about(1)) * (high - low + 1))
    scale = scale * (1 + 0.22 * vary * u.about(1))

    put(OTHER, pick(book.ids(tables.TABLES), u(1)), u.about(1), u.about(1), u(1), 1.0, True)

    side = np.floor(4 * u(2)) / 4  # of the table
    (c, s), out = turned(side + 0.1 * (u(2) - 0.5)), 0.95 + 0.2 * u(2)
    cutlery = pick(book.ids(tables.CUTLERY), u(2))
    put(OTHER, cutlery, c * out, s * out, side + 0.25 + 0.04 * u.about(2), 0.75, u(2) < 0.7 * knobs.clutter)

    put(OTHER, pick(book.dishes[recipe], u(1)), 0.0, 0.0, u(1), 0.86 + 0.08 * vary * u.about(1), True)
    base = book.base[recipe][:, None]
    put(MAIN, base, 0.0, 0.0, u(1), base_scale, base >= 0)

    # Up to three side dishes of any food, each a few pieces near the rim, under the main one.
    (c, s), out = turned(u(3)), 0.55 + 0.4 * u(3)
    food, shown = pick(book.foods, u(3)), u(3) < 0.75 * knobs.clutter
    x, y, food, shown = (np.repeat(v, 3, axis=1) for v in (c * out, s * out, food, shown))
    x, y = x + 0.17 * u.about(9), y + 0.17 * u.about(9)
    put(SIDE, food, x, y, u(9), 0.16 + 0.1 * u(9), shown & (u(9) < 0.7))

    x, y, turn = _arrange(book.layout[recipe], n, spread * (1 + 0.12 * vary * u.about(1)), u(5, MOST_ITEMS))
    pieces = pick(book.main[recipe], u(MOST_ITEMS))
    put(MAIN, pieces, x, y, turn, scale * (1 + 0.2 * vary * u.about(MOST_ITEMS)), np.arange(MOST_ITEMS) < n)

    (c, s), out = turned(u(5)), 0.75 * np.sqrt(u(5))
    garnish = np.repeat(pick(book.ids(tables.GARNISH), u(1)), 5, axis=1)
    put(OTHER, garnish, c * out, s * out, u(5), 0.1 + 0.08 * u(5), (u(1) < 0.7 * knobs.clutter) & (u(5) < 0.7))

    angle = u(2)
    (c, s), out = turned(angle), 1.05 - 0.3 * u(2)
    over = pick(book.ids(tables.OCCLUDERS), u(2))
    often = knobs.occlusion * np.array([0.8, 0.4])
    put(OTHER, over, c * out, s * out, angle + 0.08 * u.about(2), 0.42 + 0.15 * u(2), u(2) < often)
    return Scene(*(np.concatenate(column, axis=1) for column in zip(*groups, strict=True)))


def camera(u: Uniforms, knobs: Difficulty) -> dict[str, Array]:
    """Camera and light, [image] each: scene = C p + t for a point p of the picture, both in [-1, 1]."""
    vary = variation(knobs)
    zoom, tilt = 1.02 + 0.2 * vary * u.about(), 1 + 0.3 * vary * u()
    c, s = turned(0.5 * vary * u.about())
    lc, ls = turned(u())
    return {
        "c00": zoom * c, "c01": -zoom * s * tilt, "tx": 0.16 * vary * u.about(),
        "c10": zoom * s, "c11": zoom * c * tilt, "ty": 0.16 * vary * u.about(),
        "unit": zoom * np.sqrt(tilt),  # scene length of half a picture
        "lx": c * lc - s * ls, "ly": s * lc + c * ls,  # where the light comes from, in the scene
    }  # fmt: skip
