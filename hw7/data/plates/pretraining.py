"""Dishes to pretrain on: other classes, their things and recipes put together at random from the same tables."""

from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np

from hw7.data.plates import tables
from hw7.data.plates.tables import Part, Recipe, Things

PRETRAINING_CLASSES = tuple(f"dish {number:03d}" for number in range(120))


def pretraining_tables() -> tuple[Things, Mapping[str, tuple[Recipe, ...]]]:
    """Things and recipes of the pretraining classes; no two of all classes share a look (`looks_of`)."""
    rng = np.random.Generator(np.random.Philox(key=7))

    def pick(options: Iterable[str]) -> str:
        options = tuple(options)
        return options[int(rng.random() * len(options))]

    def part(size: float) -> Part:
        length, width, rim, height, gloss = rng.random(5)
        half_axes = size * (0.85 + 0.3 * length), size * (0.25 + 0.65 * width)
        colours = " ".join(pick(tables.COLOURS) for _ in range(3))
        return Part(pick(tables.SHAPES), *half_axes, colours, pick(tables.TEXTURES), rim=max(0, 0.3 * rim - 0.1),
                    height=0.1 + height / 2, gloss=max(0, gloss - 0.5))  # fmt: skip

    taken = set[tuple[str, ...]]().union(*(looks_of(r, tables.FOODS) for r in chain(*tables.RECIPES.values())))
    things: dict[str, tuple[Part, ...]] = {}
    recipes: dict[str, tuple[Recipe, ...]] = {}
    while len(recipes) < len(PRETRAINING_CLASSES):
        name, layout = PRETRAINING_CLASSES[len(recipes)], pick(tables.LAYOUTS)
        things[name] = tuple(part(size) for size in (1.0, 0.55, 0.25)[: 1 + int(rng.random() * 2.5)])
        most, scale = {"single": (2, 0.52), "pile": (13, 0.3)}.get(layout, (7, 0.34))
        dishes = ", ".join(pick(name for name in tables.DISHES if name != "no dish") for _ in range(2))
        recipe = Recipe(dishes, layout, ((most + 1) // 2, most), name, scale, 0.4)
        if taken.isdisjoint(looks := looks_of(recipe, things)):
            taken |= looks
            recipes[name] = (recipe,)
    return things, recipes


def looks_of(recipe: Recipe, things: Things) -> set[tuple[str, ...]]:
    """What a recipe looks like from afar: the shape and texture of its things, and their layout."""
    return {(things[name][0].shape, things[name][0].texture, recipe.layout) for name in recipe.things.split(", ")}
