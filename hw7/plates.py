"""`plates`: pictures of dishes, drawn from tables. A recipe places things, a thing is a few parts, a part is one shape.

Tables say what there is: COLOURS, SHAPES and TEXTURES; the things of FOODS, TABLES, DISHES, GARNISH, CUTLERY and
OCCLUDERS; and the RECIPES of each class. `_scene` draws what stands where, `_parts` turns that into a list of shapes,
`_paint` shades every shape in a small window, `_compose` lays the windows over each other, `_develop` adds light and
noise.

Every picture is a function of (seed, split, index), difficulty and size, whatever the batch, the number of threads or
the device: parameters come from one counter-based generator an image, as float64 uniforms on the host; and all
arithmetic, there and on the device, is exactly rounded element by element (+ - * / sqrt floor, comparisons, integers).
There is no sin, exp or pow, no fused multiply-add, no reduction, and no division by a Python scalar, which CUDA
replaces by a multiplication. Positions and sizes are in units of half a picture, so that a scene does not depend on
its resolution.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain, pairwise, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw7.errors import HW7Error

Array = NDArray[Any]

SPLITS = ("training", "validation", "testing", "pretraining")


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


# ----------------------------------------------------------------------------------------------------------- tables

COLOURS = {
    "white": "f4f2ec", "porcelain": "e6e8ea", "cream": "f3e6c4", "butter": "f2d675", "yolk": "f4a916",
    "gold": "dfa044", "toast": "c98b45", "crust": "9c5f2a", "cocoa": "5a3220", "coffee": "3a2218",
    "charcoal": "2b2a2c", "slate": "50555c", "steel": "b4b9c0", "blush": "f0b8a8", "rose": "e48296",
    "salmon": "ee8a5c", "coral": "dd5b45", "tomato": "c9301f", "wine": "7d2233", "rust": "a8481f", "brick": "8a3b2a",
    "orange": "f08a1e", "amber": "d8861c", "mustard": "cda32c", "lime": "b5cf58", "leaf": "5d9a34", "herb": "35702a",
    "olive": "7d7f35", "nori": "20302a", "mint": "a9d9bd", "sky": "8fb7d6", "blue": "3f67a3", "navy": "26365c",
    "plum": "5b3a6b", "sand": "d8c39a", "tan": "b98d5f", "oak": "a5743f", "walnut": "6a442a", "linen": "e2dccd",
    "stone": "a7a49c", "skin": "d9a27e",
}  # fmt: skip

# name: (squareness, bend, taper, wobble, hole). An ellipse is 0 everywhere.
SHAPES = {
    "disc": (0.0, 0.0, 0.0, 0.01, 0.0),
    "blob": (0.15, 0.0, 0.0, 0.13, 0.0),
    "lump": (0.3, 0.0, 0.15, 0.22, 0.0),
    "slab": (0.8, 0.0, 0.0, 0.03, 0.0),
    "bar": (0.9, 0.12, 0.0, 0.0, 0.0),
    "stick": (0.85, 0.35, 0.0, 0.02, 0.0),
    "sausage": (0.55, 0.9, 0.0, 0.02, 0.0),
    "crescent": (0.15, 2.2, -0.35, 0.0, 0.0),
    "wedge": (0.75, 0.0, 0.82, 0.0, 0.0),
    "fan": (0.2, 0.0, 0.6, 0.04, 0.0),
    "drop": (0.0, 0.3, 0.5, 0.02, 0.0),
    "leaf": (0.0, 0.5, -0.3, 0.10, 0.0),
    "ring": (0.0, 0.0, 0.0, 0.02, 0.42),
    "hoop": (0.05, 0.0, 0.0, 0.06, 0.66),
}

# name: (tile of the atlas, polar coordinates?, tiles along a unit of length (or around), across (or outwards))
TEXTURES = {
    "plain": ("plain", False, 0.5, 0.5),
    "mottle": ("mottle", False, 0.35, 0.35),
    "crumbs": ("crumbs", False, 0.5, 0.5),
    "pores": ("dots", False, 1.1, 0.9),
    "holes": ("holes", False, 0.42, 0.42),
    "seeds": ("dots", True, 1.0, 0.45),
    "grains": ("grains", False, 0.55, 0.55),
    "sprinkles": ("sprinkles", False, 0.5, 0.5),
    "stripes": ("stripes", False, 0.45, 0.0),
    "ribs": ("stripes", False, 1.0, 0.0),
    "layers": ("stripes", False, 0.0, 0.35),
    "slashes": ("stripes", False, 0.3, 0.25),
    "grill": ("grill", False, 0.45, 0.2),
    "streaks": ("streaks", False, 0.3, 1.2),
    "strands": ("strands", False, 0.7, 0.7),
    "scales": ("scales", False, 0.9, 0.9),
    "rings": ("stripes", True, 0.0, 0.35),
    "swirl": ("stripes", True, 0.125, 0.3),
    "spokes": ("stripes", True, 1.25, 0.0),
    "segments": ("grill", True, 1.25, 0.0),
    "marble": ("marble", False, 0.3, 0.3),
    "check": ("check", False, 0.55, 0.55),
    "weave": ("check", False, 1.6, 1.6),
    "planks": ("planks", False, 0.4, 0.4),
}


@dataclass(frozen=True)
class Part:
    """One shape. Lengths are half-axes, in units of the thing; `colours` are base, texture and rim."""

    shape: str
    length: float
    width: float
    colours: str
    texture: str = "plain"
    rim: float = 0.0  # breadth of the rim, as a share of the width
    at: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0  # in turns
    height: float = 0.35  # fake relief: shading and the length of the shadow; below 0 hollow
    gloss: float = 0.0
    opacity: float = 1.0


P = Part
Things = Mapping[str, tuple[Part, ...]]
FOODS: Things = {
    "bread slice": (P("slab", 0.95, 0.85, "cream sand crust", "pores", rim=0.13, height=0.12),),
    "bread roll": (
        P("blob", 1, 0.86, "toast gold crust", "mottle", rim=0.1, height=0.6, gloss=0.15),
        P("drop", 0.62, 0.1, "cream gold gold", "mottle", height=0.1),
    ),
    "baguette": (P("bar", 1.5, 0.42, "toast cream crust", "grill", rim=0.2, height=0.55, gloss=0.1),),
    "cheese wedge": (P("wedge", 0.95, 0.5, "butter mustard amber", "holes", rim=0.16, height=0.15),),
    "camembert": (P("disc", 1, 0.96, "cream butter white", "plain", rim=0.14, height=0.2),),
    "yoghurt": (P("disc", 1, 0.98, "white cream porcelain", "swirl", rim=0.04, height=0.15, gloss=0.3),),
    "glass of milk": (
        P("disc", 1, 1, "steel sky porcelain", rim=0.1, height=0.5, gloss=0.2),
        P("disc", 0.84, 0.84, "white white cream", rim=0.06, height=-0.2, gloss=0.35),
    ),
    "cake slice": (
        P("wedge", 1, 0.58, "cream rose cocoa", "layers", rim=0.08, height=0.25),
        P("disc", 0.2, 0.2, "tomato wine wine", at=(0.62, 0.0), height=0.7, gloss=0.7),
    ),
    "pink donut": (
        P("ring", 1, 0.97, "toast gold crust", height=0.5),
        P("ring", 0.9, 0.87, "rose white rose", "sprinkles", height=0.35, gloss=0.35),
    ),
    "chocolate donut": (
        P("ring", 1, 0.97, "gold toast toast", height=0.5),
        P("ring", 0.9, 0.88, "cocoa butter coffee", "sprinkles", height=0.35, gloss=0.35),
    ),
    "cupcake": (
        P("disc", 1, 1, "crust cream toast", "spokes", height=0.4),
        P("blob", 0.8, 0.78, "cream rose white", "swirl", height=0.5, gloss=0.2),
        P("disc", 0.22, 0.22, "coral wine wine", height=0.7, gloss=0.8),
    ),
    "ice cream": (P("blob", 1, 0.96, "blush rose rose", "mottle", height=0.7, gloss=0.25),),
    "mint ice cream": (P("blob", 1, 0.96, "mint cocoa mint", "sprinkles", height=0.7, gloss=0.25),),
    "fried egg": (
        P("lump", 1, 0.88, "white porcelain sand", "plain", rim=0.08, height=0.12, gloss=0.15),
        P("disc", 0.4, 0.39, "yolk orange amber", rim=0.1, at=(0.08, 0.03), height=0.6, gloss=0.8),
    ),
    "halved egg": (
        P("drop", 0.92, 0.66, "white porcelain porcelain", rim=0.08, height=0.3, gloss=0.2),
        P("disc", 0.42, 0.4, "yolk butter mustard", "crumbs", rim=0.14, at=(0.14, 0.0), height=0.15),
    ),
    "omelette": (
        P("crescent", 1.15, 0.5, "butter amber gold", "mottle", rim=0.08, height=0.5, gloss=0.2),
        P("leaf", 0.16, 0.06, "herb leaf leaf", at=(0.2, 0.1)),
    ),
    "fry": (P("bar", 1, 0.16, "gold butter toast", rim=0.25, height=0.5),),
    "nugget": (P("lump", 0.85, 0.66, "gold crust toast", "crumbs", rim=0.08, height=0.6),),
    "drumstick": (
        P("bar", 0.6, 0.13, "cream sand tan", at=(-0.75, 0.0), height=0.4),
        P("drop", 0.85, 0.56, "toast crust rust", "crumbs", rim=0.08, at=(0.25, 0.0), height=0.65, gloss=0.25),
    ),
    "onion ring": (P("hoop", 1, 0.9, "gold toast crust", "crumbs", height=0.6),),
    "steak": (
        P("lump", 1.1, 0.78, "brick coffee rust", "grill", rim=0.1, height=0.4, gloss=0.2),
        P("leaf", 0.25, 0.06, "herb leaf leaf", at=(0.2, 0.15), turn=0.1),
    ),
    "sausage": (P("sausage", 1.1, 0.28, "rust brick brick", "slashes", rim=0.15, height=0.65, gloss=0.5),),
    "bacon": (P("stick", 1.25, 0.24, "wine blush brick", "streaks", rim=0.12, height=0.25, gloss=0.3),),
    "meatball": (P("blob", 0.7, 0.66, "brick crust cocoa", "crumbs", height=0.65, gloss=0.2),),
    "noodle nest": (
        P("blob", 1, 0.92, "butter toast toast", "strands", height=0.3),
        P("blob", 0.55, 0.5, "cream tan gold", "strands", at=(0.1, -0.1), turn=0.2, height=0.35),
    ),
    "sauced spaghetti": (
        P("blob", 1, 0.9, "butter amber gold", "strands", height=0.35),
        P("lump", 0.5, 0.42, "tomato rust brick", "mottle", height=0.3, gloss=0.3),
        P("leaf", 0.2, 0.1, "leaf herb herb", at=(0.1, -0.05), turn=0.15),
    ),
    "penne": (P("bar", 0.8, 0.22, "butter gold amber", "layers", rim=0.12, height=0.6),),
    "rice mound": (P("blob", 1, 0.88, "white stone cream", "grains", height=0.45),),
    "fried rice": (
        P("lump", 1, 0.9, "cream tan gold", "grains", height=0.4),
        P("blob", 0.75, 0.7, "butter leaf gold", "sprinkles", height=0.1, opacity=0.75),
    ),
    "sushi roll": (
        P("disc", 0.9, 0.88, "white stone nori", "grains", rim=0.17, height=0.4),
        P("blob", 0.34, 0.3, "salmon orange lime", height=0.2),
    ),
    "nigiri": (
        P("slab", 1, 0.5, "white stone cream", "grains", height=0.5),
        P("slab", 1.02, 0.38, "salmon blush coral", "slashes", height=0.5, gloss=0.3),
    ),
    "shrimp": (
        P("crescent", 0.9, 0.3, "salmon blush coral", "ribs", rim=0.12, height=0.6, gloss=0.3),
        P("fan", 0.24, 0.2, "coral rust rust", "ribs", at=(0.95, -0.32), turn=-0.12),
    ),
    "fish": (
        P("fan", 0.36, 0.34, "slate steel charcoal", "layers", at=(-1.12, 0.0), turn=0.5, height=0.2),
        P("disc", 1.05, 0.4, "steel slate sky", "scales", rim=0.12, height=0.5, gloss=0.4),
        P("disc", 0.07, 0.07, "charcoal white white", rim=0.3, at=(0.75, -0.08)),
    ),
    "mussel": (
        P("drop", 0.95, 0.5, "navy charcoal charcoal", "rings", rim=0.15, height=0.5, gloss=0.4),
        P("drop", 0.66, 0.3, "orange amber sand", rim=0.2, at=(0.08, 0.0), height=0.4),
    ),
    "scallop": (P("fan", 0.9, 0.66, "blush rust sand", "layers", rim=0.1, height=0.45),),
    "salmon fillet": (P("slab", 1.1, 0.55, "salmon blush coral", "slashes", rim=0.08, height=0.4, gloss=0.3),),
    "tomato soup": (P("disc", 1, 0.98, "coral orange rust", "swirl", rim=0.05, height=-0.2, gloss=0.35),),
    "pumpkin soup": (P("disc", 1, 0.98, "amber butter gold", "rings", rim=0.05, height=-0.2, gloss=0.35),),
    "pea soup": (P("disc", 1, 0.98, "olive lime herb", "mottle", rim=0.05, height=-0.2, gloss=0.35),),
    "miso soup": (P("disc", 1, 0.98, "tan sand crust", "marble", rim=0.05, height=-0.2, gloss=0.45),),
    "broth": (P("disc", 1, 0.98, "amber tan crust", "plain", rim=0.05, height=-0.2, gloss=0.4),),
    "crouton": (P("slab", 0.7, 0.66, "gold cream crust", "pores", rim=0.15, height=0.4),),
    "tofu": (P("slab", 0.7, 0.65, "white cream sand", height=0.4),),
    "chives": (P("hoop", 0.4, 0.38, "leaf herb herb", height=0.2),),
    "dollop": (P("blob", 0.9, 0.8, "white cream cream", "swirl", height=0.2, gloss=0.2),),
    "salad leaf": (P("leaf", 1, 0.5, "leaf lime herb", "slashes", rim=0.1, height=0.3),),
    "lettuce": (P("lump", 0.95, 0.8, "lime leaf leaf", "marble", rim=0.14, height=0.3),),
    "tomato slice": (P("disc", 0.85, 0.82, "coral orange tomato", "segments", rim=0.17, height=0.15, gloss=0.3),),
    "cucumber slice": (P("disc", 0.8, 0.78, "mint lime herb", "seeds", rim=0.14, height=0.15, gloss=0.15),),
    "orange slice": (P("disc", 0.9, 0.88, "orange cream amber", "segments", rim=0.13, height=0.15, gloss=0.2),),
    "carrot": (
        P("leaf", 0.45, 0.2, "leaf herb herb", "slashes", at=(1.1, 0.0)),
        P("drop", 1, 0.26, "orange rust amber", "grill", rim=0.12, height=0.6, gloss=0.15),
    ),
    "strawberry": (
        P("drop", 0.75, 0.56, "tomato butter tomato", "pores", height=0.6, gloss=0.4),
        P("lump", 0.24, 0.34, "leaf herb herb", at=(0.72, 0.0)),
    ),
    "blueberry": (P("disc", 0.55, 0.55, "navy blue plum", rim=0.2, height=0.7, gloss=0.4),),
}  # fmt: skip

TABLES: Things = {
    "wooden table": (P("slab", 4, 4, "oak walnut walnut", "planks", height=0),),
    "dark wood": (P("slab", 4, 4, "walnut coffee coffee", "planks", height=0),),
    "light wood": (P("slab", 4, 4, "sand tan tan", "planks", height=0),),
    "checked cloth": (P("slab", 4, 4, "linen coral coral", "check", height=0),),
    "blue cloth": (P("slab", 4, 4, "linen blue blue", "check", height=0),),
    "linen cloth": (P("slab", 4, 4, "linen stone stone", "weave", height=0),),
    "marble top": (P("slab", 4, 4, "porcelain steel steel", "marble", height=0),),
    "slate top": (P("slab", 4, 4, "slate charcoal charcoal", "mottle", height=0),),
    "plain top": (P("slab", 4, 4, "stone sand sand", "plain", height=0),),
}
DISHES: Things = {
    "plate": (
        P("disc", 1, 1, "white porcelain steel", rim=0.025, height=0.16, gloss=0.05),
        P("disc", 0.7, 0.7, "white porcelain stone", rim=0.03, height=-0.14),
    ),
    "blue plate": (
        P("disc", 1, 1, "sky porcelain blue", rim=0.07, height=0.16),
        P("disc", 0.72, 0.72, "porcelain sky sky", rim=0.04, height=-0.14),
    ),
    "dark plate": (
        P("disc", 1, 1, "slate charcoal charcoal", "mottle", rim=0.04, height=0.16, gloss=0.1),
        P("disc", 0.74, 0.74, "slate charcoal steel", "mottle", rim=0.02, height=-0.14),
    ),
    "bowl": (
        P("disc", 0.95, 0.95, "porcelain white steel", rim=0.04, height=0.5, gloss=0.15),
        P("disc", 0.83, 0.83, "linen stone stone", rim=0.06, height=-0.45),
    ),
    "clay bowl": (
        P("disc", 0.95, 0.95, "rust brick brick", "rings", rim=0.05, height=0.5, gloss=0.2),
        P("disc", 0.83, 0.83, "brick cocoa cocoa", rim=0.06, height=-0.45),
    ),
    "navy bowl": (
        P("disc", 0.95, 0.95, "navy blue sky", rim=0.04, height=0.5, gloss=0.3),
        P("disc", 0.83, 0.83, "blue navy navy", rim=0.06, height=-0.45),
    ),
    "board": (P("slab", 1.1, 0.8, "tan oak oak", "planks", rim=0.03, height=0.1),),
    "slate board": (P("slab", 1.05, 0.78, "slate charcoal charcoal", "mottle", rim=0.02, height=0.1),),
    "no dish": (),
}  # fmt: skip
GARNISH: Things = {
    "parsley": (P("lump", 0.7, 0.5, "leaf herb herb", "marble", height=0.3),),
    "basil": (P("leaf", 1, 0.5, "leaf lime herb", "slashes", height=0.4),),
    "lemon": (P("disc", 0.9, 0.88, "butter cream mustard", "segments", rim=0.14, height=0.15),),
    "pepper": (P("lump", 0.14, 0.12, "charcoal coffee coffee", height=0.2),),
    "sauce drop": (P("blob", 0.5, 0.45, "brick tomato wine", height=0.3, gloss=0.5),),
    "chilli": (P("hoop", 0.45, 0.4, "tomato coral brick", height=0.3),),
}
CUTLERY: Things = {
    "knife": (
        P("bar", 0.5, 0.07, "charcoal slate slate", at=(-0.55, 0.0), height=0.4),
        P("drop", 0.65, 0.09, "steel porcelain slate", at=(0.45, 0.0), height=0.3, gloss=0.5),
    ),
    "fork": (
        P("bar", 0.75, 0.045, "steel porcelain slate", at=(-0.3, 0.0), height=0.4, gloss=0.4),
        P("slab", 0.16, 0.12, "steel porcelain slate", at=(0.5, 0.0), height=0.3, gloss=0.4),
        P("slab", 0.17, 0.12, "steel slate steel", "stripes", at=(0.78, 0.0), turn=0.25, height=0.1),
    ),
    "spoon": (
        P("bar", 0.75, 0.05, "steel porcelain slate", at=(-0.3, 0.0), height=0.4, gloss=0.4),
        P("disc", 0.26, 0.17, "steel slate porcelain", rim=0.2, at=(0.62, 0.0), height=-0.5, gloss=0.5),
    ),
    "chopsticks": (
        P("bar", 1.1, 0.035, "cocoa coffee coffee", at=(0.0, 0.07), turn=0.01, height=0.5),
        P("bar", 1.1, 0.035, "cocoa coffee coffee", at=(0.0, -0.07), turn=-0.01, height=0.5),
    ),
}  # fmt: skip
OCCLUDERS: Things = {
    "napkin": (P("slab", 1, 0.9, "linen coral linen", "check", rim=0.05, height=0.15),),
    "grey napkin": (P("slab", 1, 0.9, "stone slate linen", "weave", rim=0.05, height=0.15),),
    "glass": (
        P("disc", 0.62, 0.62, "sky porcelain white", rim=0.1, height=0.5, gloss=0.5, opacity=0.6),
        P("ring", 0.5, 0.5, "porcelain sky white", "rings", height=0.3, gloss=0.6, opacity=0.6),
    ),
    "hand": (
        P("lump", 0.6, 0.5, "skin blush tan", "plain", at=(0.45, 0.0), height=0.35),
        P("bar", 0.55, 0.15, "skin blush tan", "plain", at=(-0.25, -0.2), turn=0.02, height=0.5),
        P("bar", 0.6, 0.15, "skin blush tan", "plain", at=(-0.3, 0.12), turn=-0.02, height=0.5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A way to serve a class: a dish, perhaps a base that fills it, and `count` things in a layout."""

    dishes: str  # one of these, separated by commas, as in `things`
    layout: str
    count: tuple[int, int]
    things: str
    scale: float  # of a thing, in half pictures
    spread: float  # radius of the layout
    base: str = ""
    base_scale: float = 0.68


R = Recipe
RECIPES: Mapping[str, tuple[Recipe, ...]] = {
    "Bread": (
        R("board, plate, no dish", "row", (3, 6), "bread slice", 0.42, 0.55),
        R("plate, board, blue plate", "scattered", (2, 5), "bread roll", 0.32, 0.36),
        R("board, no dish", "row", (1, 3), "baguette", 0.45, 0.35),
    ),
    "Dairy product": (
        R("board, slate board, plate", "ring", (1, 5), "cheese wedge", 0.42, 0.36),
        R("bowl, navy bowl, clay bowl", "scattered", (2, 6), "blueberry, strawberry", 0.15, 0.32, "yoghurt"),
        R("no dish, board", "row", (1, 3), "glass of milk", 0.42, 0.55),
        R("board, plate", "single", (1, 2), "camembert", 0.44, 0.4),
    ),
    "Dessert": (
        R("plate, blue plate, dark plate", "single", (1, 2), "cake slice", 0.55, 0.3),
        R("plate, board, no dish", "ring", (1, 5), "pink donut, chocolate donut", 0.34, 0.4),
        R("plate, no dish, slate board", "grid", (2, 6), "cupcake", 0.3, 0.6),
        R("bowl, blue plate", "pile", (2, 4), "ice cream, mint ice cream", 0.34, 0.26),
    ),
    "Egg": (
        R("plate, dark plate, slate board", "scattered", (1, 3), "fried egg", 0.45, 0.34),
        R("plate, blue plate, board", "ring", (3, 6), "halved egg", 0.29, 0.4),
        R("plate, blue plate", "single", (1, 1), "omelette", 0.52, 0.1),
    ),
    "Fried food": (
        R("plate, board, bowl", "pile", (9, 14), "fry", 0.42, 0.3),
        R("plate, slate board", "scattered", (3, 8), "nugget", 0.28, 0.4),
        R("plate, board, dark plate", "ring", (2, 5), "drumstick", 0.36, 0.36),
        R("plate, slate board", "scattered", (3, 7), "onion ring", 0.32, 0.4),
    ),
    "Meat": (
        R("plate, board, dark plate", "single", (1, 2), "steak", 0.5, 0.2),
        R("plate, slate board", "row", (2, 5), "sausage", 0.44, 0.42),
        R("plate, board", "row", (2, 5), "bacon", 0.46, 0.42),
        R("plate, clay bowl", "scattered", (4, 8), "meatball", 0.29, 0.38),
    ),
    "Noodles/Pasta": (
        R("bowl, clay bowl, navy bowl", "single", (1, 1), "noodle nest", 0.55, 0.08, "broth"),
        R("plate, blue plate, bowl", "single", (1, 1), "sauced spaghetti", 0.56, 0.08),
        R("plate, bowl, dark plate", "pile", (9, 14), "penne", 0.28, 0.36),
    ),
    "Rice": (
        R("bowl, plate, navy bowl", "single", (1, 1), "rice mound", 0.55, 0.12),
        R("plate, clay bowl, dark plate", "single", (1, 1), "fried rice", 0.56, 0.12),
        R("board, slate board, plate", "grid", (3, 8), "sushi roll", 0.26, 0.6),
        R("board, slate board", "row", (2, 4), "nigiri", 0.38, 0.58),
    ),
    "Seafood": (
        R("plate, dark plate, bowl", "ring", (3, 7), "shrimp", 0.33, 0.38),
        R("plate, board, blue plate", "row", (1, 2), "fish", 0.55, 0.3),
        R("plate, clay bowl", "scattered", (4, 9), "mussel, scallop", 0.28, 0.4),
        R("plate, dark plate", "single", (1, 2), "salmon fillet", 0.46, 0.26),
    ),
    "Soup": (
        R("bowl, navy bowl, clay bowl", "scattered", (0, 5), "crouton, chives", 0.13, 0.36, "tomato soup"),
        R("bowl, clay bowl", "single", (1, 3), "dollop, chives", 0.22, 0.2, "pumpkin soup"),
        R("bowl, clay bowl", "scattered", (1, 6), "crouton, chives, dollop", 0.14, 0.38, "pea soup"),
        R("navy bowl, clay bowl, bowl", "scattered", (3, 8), "tofu, chives", 0.16, 0.38, "miso soup"),
    ),
    "Vegetable/Fruit": (
        R("bowl, plate", "pile", (8, 13), "salad leaf, lettuce, tomato slice", 0.3, 0.4),
        R("plate, board, blue plate", "ring", (4, 8), "tomato slice, cucumber slice, orange slice", 0.25, 0.42),
        R("board, plate, no dish", "row", (2, 5), "carrot", 0.42, 0.42),
        R("bowl, plate", "pile", (9, 14), "strawberry, blueberry", 0.24, 0.38),
    ),
}  # fmt: skip
CLASSES: tuple[str, ...] = tuple(RECIPES)
PRETRAINING_CLASSES: tuple[str, ...] = tuple(f"dish {number:03d}" for number in range(120))
LAYOUTS = ("single", "ring", "row", "grid", "scattered", "pile")
MOST_ITEMS = 14


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


@cache
def _pretraining() -> tuple[Things, Mapping[str, tuple[Recipe, ...]]]:
    """Things and recipes of the pretraining classes: the same grammar, other sentences.

    No class has the main shape, its texture and the layout of a recipe above, or of another pretraining class.
    """
    rng = np.random.Generator(np.random.Philox(key=7))

    def pick(options: Iterable[str]) -> str:
        options = tuple(options)
        return options[int(rng.random() * len(options))]

    def part(size: float) -> Part:
        length, width, rim, height, gloss = rng.random(5)
        size_, rim, gloss = (size * (0.85 + 0.3 * length), size * (0.25 + 0.65 * width)), 0.3 * rim - 0.1, gloss - 0.5
        colours = " ".join(pick(COLOURS) for _ in range(3))
        return Part(
            pick(SHAPES), *size_, colours, pick(TEXTURES), max(0, rim), height=0.1 + height / 2, gloss=max(0, gloss)
        )

    taken = {sentence for recipe in chain(*RECIPES.values()) for sentence in _sentences(recipe, FOODS)}
    things: dict[str, tuple[Part, ...]] = {}
    recipes: dict[str, tuple[Recipe, ...]] = {}
    while len(recipes) < len(PRETRAINING_CLASSES):
        name, layout = PRETRAINING_CLASSES[len(recipes)], pick(LAYOUTS)
        things[name] = tuple(part(size) for size in (1.0, 0.55, 0.25)[: 1 + int(rng.random() * 2.5)])
        most, scale = {"single": (2, 0.52), "pile": (13, 0.3)}.get(layout, (7, 0.34))
        dishes = ", ".join(pick(name for name in DISHES if name != "no dish") for _ in range(2))
        recipe = Recipe(dishes, layout, ((most + 1) // 2, most), name, scale, 0.4)
        if taken.isdisjoint(_sentences(recipe, things)):
            taken |= _sentences(recipe, things)
            recipes[name] = (recipe,)
    return things, recipes


def _sentences(recipe: Recipe, things: Things) -> set[tuple[str, str, str]]:
    """What a recipe looks like from afar: the shape and texture of its things, and their layout."""
    return {(things[name][0].shape, things[name][0].texture, recipe.layout) for name in _names(recipe.things)}


# -------------------------------------------------------------------------------------------------------- the atlas

TILE, MIPS = 256, 6
LEVELS = [sum((TILE >> i) ** 2 for i in range(level)) for level in range(MIPS + 1)]  # where each copy begins


def _wave(phase: Array) -> Array:
    """Between 0 and 1, with period 1: a triangle wave, rounded."""
    ramp = np.abs(2 * (phase - np.floor(phase)) - 1)
    return ramp * ramp * (3 - 2 * ramp)


def _edge(value: Array, low: float, high: float) -> Array:
    """The smooth step from 0 below `low` to 1 above `high`."""
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


@cache
def _atlas() -> tuple[tuple[str, ...], Array]:
    """Names and float32 [tile, texel]: periodic grey tiles, each with its halved copies behind it."""
    rng = np.random.Generator(np.random.Philox(key=11))
    x, y = np.meshgrid(np.arange(TILE) / TILE, np.arange(TILE) / TILE)

    def noise(across: int, down: int) -> Array:
        grid = rng.random((down, across))
        (i, u), (j, v) = (((c * n).astype(int), c * n % 1) for c, n in ((x, across), (y, down)))
        u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
        upper = grid[j, i] * (1 - u) + grid[j, (i + 1) % across] * u
        lower = grid[(j + 1) % down, i] * (1 - u) + grid[(j + 1) % down, (i + 1) % across] * u
        return upper * (1 - v) + lower * v

    def seeds(cells: int, length: float, share: float = 1.0) -> Array:
        """Distance, in cells, to the nearest of random strokes of this length, one a cell."""
        px, py, c, s, kept = rng.random((5, cells, cells))
        c, s = c - 0.5, s - 0.5
        c, s = c / np.sqrt(c * c + s * s), s / np.sqrt(c * c + s * s)
        nearest = np.full_like(x, 9.0)
        for dj, di in product((-1, 0, 1), repeat=2):
            i, j = np.floor(x * cells).astype(int) + di, np.floor(y * cells).astype(int) + dj
            at = (j % cells, i % cells)
            u, v = x * cells - i - 0.2 - 0.6 * px[at], y * cells - j - 0.2 - 0.6 * py[at]
            along = np.clip(u * c[at] + v * s[at], -length, length)
            u, v = u - along * c[at], v - along * s[at]
            nearest = np.minimum(nearest, np.sqrt(u * u + v * v) + 9 * (kept[at] > share))
        return nearest

    cloud = (noise(4, 4) + noise(8, 8) + 0.7 * noise(16, 16) + 0.5 * noise(32, 32)) / 3.2
    fine = (noise(32, 32) + noise(64, 64)) / 2
    boards = np.floor(y * 4)
    tiles = {
        "plain": 0.5 * noise(6, 6) + 0.2 * fine,
        "mottle": _edge(cloud, 0.25, 0.75),
        "crumbs": _edge(0.4 * cloud + 0.6 * noise(24, 24), 0.3, 0.7),
        "dots": 1 - _edge(seeds(10, 0.08) + 0.2 * fine, 0.22, 0.34),
        "holes": 1 - _edge(seeds(6, 0.06, 0.6), 0.26, 0.36),
        "grains": _edge(seeds(14, 0.3), 0.12, 0.5),
        "sprinkles": 1 - _edge(seeds(9, 0.26, 0.75), 0.1, 0.2),
        "stripes": _edge(_wave(8 * x + 8 * y + 0.4 * (noise(4, 4) - 0.5)), 0.2, 0.8),
        "grill": _edge(_wave(8 * x + 8 * y + 0.2 * (noise(8, 8) - 0.5)), 0.62, 0.88) * (0.8 + 0.2 * fine),
        "streaks": _edge(noise(4, 16), 0.4, 0.62),
        "strands": _edge(_wave(10 * y + 3.2 * noise(3, 3) + 1.2 * noise(6, 6)), 0.15, 0.75),
        "scales": _edge(np.minimum(_wave(8 * x + 8 * y), _wave(8 * x - 8 * y)), 0.05, 0.5) * 0.8,
        "marble": 1 - _edge(np.abs(cloud + 0.5 * noise(3, 3) - 0.75), 0.0, 0.07),
        "check": 0.5 * (_edge(_wave(6 * x), 0.45, 0.55) + _edge(_wave(6 * y), 0.45, 0.55)) * (0.7 + 0.3 * fine),
        "planks": np.clip(0.15 + 0.5 * noise(3, 40) * noise(2, 4) + 0.3 * (boards * 0.37 % 1)
                          + _edge(np.abs(y * 4 - boards - 0.5), 0.48, 0.495), 0, 1),
    }  # fmt: skip
    rows = []
    for tile in tiles.values():
        levels = [tile]
        for _ in range(MIPS - 1):
            t = levels[-1]
            levels.append((t[::2, ::2] + t[1::2, ::2] + t[::2, 1::2] + t[1::2, 1::2]) / 4)
        rows.append(np.concatenate([level.ravel() for level in levels]))
    return tuple(tiles), np.stack(rows).astype(np.float32)


# ----------------------------------------------------------------------------------- what stands where (host, float64)


def _turned(turns: Array) -> tuple[Array, Array]:
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
COLOUR_COLUMNS = [PART_COLUMNS.index(f"{channel}{number}") for number in range(3) for channel in "rgb"]
TEXTURE_COLUMNS = [PART_COLUMNS.index(name) for name in ("tile", "polar", "along", "across")]


class _Book:
    """The tables as arrays: the parts of every thing, and the recipes of one set of classes, class by class."""

    def __init__(self, foods: Things, classes: Mapping[str, tuple[Recipe, ...]]) -> None:
        things = {**foods, **TABLES, **DISHES, **GARNISH, **CUTLERY, **OCCLUDERS}
        self.number = {name: i for i, name in enumerate(things)}
        self.foods = self.ids(foods)
        self.part_count = np.array([len(parts) for parts in things.values()])
        self.parts = np.zeros((len(things), self.part_count.max(), len(PART_COLUMNS)))
        tiles, _ = _atlas()
        for i, parts in enumerate(things.values()):
            for j, p in enumerate(parts):
                tile, *mapping = TEXTURES[p.texture]
                rgb = [v / 255 for name in p.colours.split() for v in bytes.fromhex(COLOURS[name])]
                self.parts[i, j] = (p.length, p.width, *p.at, p.turn, p.rim, p.height, p.gloss, p.opacity,
                                    *SHAPES[p.shape], tiles.index(tile), *mapping, *rgb)  # fmt: skip
        self.recipe_count = np.array([len(recipes) for recipes in classes.values()])
        self.first_recipe = np.cumsum(self.recipe_count) - self.recipe_count
        recipes = list(chain(*classes.values()))
        self.dishes = np.stack([self.ids(_names(recipe.dishes), 12) for recipe in recipes])
        self.main = np.stack([self.ids(_names(recipe.things), 12) for recipe in recipes])
        self.base = np.array([self.number[recipe.base] if recipe.base else -1 for recipe in recipes])
        self.layout = np.array([LAYOUTS.index(recipe.layout) for recipe in recipes])
        self.numbers = np.array([(*r.count, r.scale, r.spread, r.base_scale) for r in recipes])

    def ids(self, names: Iterable[str], length: int | None = None) -> Array:
        """Numbers of things; a length of 12, for 1 to 4 names repeated, makes lists of a kind that keep their odds."""
        ids = np.array([self.number[name] for name in names])
        return ids if length is None else np.resize(ids, length)


@cache
def _book(pretraining: bool) -> _Book:
    return _Book(*_pretraining()) if pretraining else _Book(FOODS, RECIPES)


class _Uniforms:
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


def _vary(knobs: Difficulty) -> float:
    """How far to vary what varies: a quarter of the way even where the knob is 0, or a class were one picture."""
    return 0.25 + 0.75 * knobs.variation


def _pick(options: Array, u: Array) -> Array:
    """One of the options (last axis) for each uniform number."""
    index = (u * options.shape[-1]).astype(int)
    return options[index] if options.ndim == 1 else np.take_along_axis(options, index, axis=-1)


def _arrange(layout: Array, n: Array, spread: Array, u: Array) -> tuple[Array, Array, Array]:
    """x, y and turn [image, item] of `n` items in each image's layout; u is [image, 5, item]."""
    i, n, lay = np.arange(u.shape[2]), np.maximum(n, 1), layout[:, None]
    spread = np.where(n > 1, spread, 0)
    around = (i + 0.3 * u[:, 0]) / n
    c, s = _turned(around)  # the ring
    sc, ss = _turned(i * 0.381966 + u[:, 0, :1])  # a sunflower's spiral
    out = spread * np.sqrt((i + 0.5) / n)
    line = 2 * spread / n * (i - (n - 1) / 2)
    columns = np.ceil(np.sqrt(n))
    step = 2 * spread / np.maximum(columns, 2)
    right = step * (i % columns - (columns - 1) / 2)
    down = step * (np.floor(i / columns) - (np.ceil(n / columns) - 1) / 2)
    tilt = 0.08 * (2 * u[:, 3] - 1)
    x = np.choose(lay, (0.8 * spread * c, spread * c, line, right, out * sc, out * sc))
    y = np.choose(lay, (0.8 * spread * s, spread * s, 0 * line, down, out * ss, out * ss))
    turn = np.choose(lay, (u[:, 3], around + tilt, 0.25 + tilt / 2, tilt, u[:, 3], 0.4 * u[:, 3]))
    jitter = np.where(lay > 3, 0.11, 0.03)
    return x + jitter * (2 * u[:, 1] - 1), y + jitter * (2 * u[:, 2] - 1), turn


WINDOWS = (0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)  # sides of the windows of `_paint`, in pictures

# Kinds of things: food that the label names; other food; and the rest.
MAIN, SIDE, OTHER = range(3)


@dataclass(frozen=True)
class _Scene:
    """What stands where, back to front: [image, place] each, in half pictures and turns."""

    thing: Array
    x: Array
    y: Array
    turn: Array
    scale: Array
    here: Array
    kind: Array


def _scene(u: _Uniforms, labels: Array, book: _Book, knobs: Difficulty) -> _Scene:
    groups: list[list[Array]] = []
    vary = _vary(knobs)

    def put(kind: int, thing: Array, x: Any, y: Any, turn: Any, scale: Any, here: Any) -> None:
        groups.append([np.broadcast_to(v, thing.shape) for v in (thing, x, y, turn, scale, here, kind)])

    recipe = book.first_recipe[labels] + (u() * book.recipe_count[labels]).astype(int)
    low, high, scale, spread, base_scale = (column[:, None] for column in book.numbers[recipe].T)
    n = np.floor(low + (0.5 + 0.5 * vary * u.about(1)) * (high - low + 1))
    scale = scale * (1 + 0.22 * vary * u.about(1))

    put(OTHER, _pick(book.ids(TABLES), u(1)), u.about(1), u.about(1), u(1), 1.0, True)

    side = np.floor(4 * u(2)) / 4  # of the table
    (c, s), out = _turned(side + 0.1 * (u(2) - 0.5)), 0.95 + 0.2 * u(2)
    cutlery = _pick(book.ids(CUTLERY), u(2))
    put(OTHER, cutlery, c * out, s * out, side + 0.25 + 0.04 * u.about(2), 0.75, u(2) < 0.7 * knobs.clutter)

    put(OTHER, _pick(book.dishes[recipe], u(1)), 0.0, 0.0, u(1), 0.86 + 0.08 * vary * u.about(1), True)
    base = book.base[recipe][:, None]
    put(MAIN, base, 0.0, 0.0, u(1), base_scale, base >= 0)

    # Up to three side dishes of any food, each a few pieces near the rim, under the main one.
    (c, s), out = _turned(u(3)), 0.55 + 0.4 * u(3)
    food, shown = _pick(book.foods, u(3)), u(3) < 0.75 * knobs.clutter
    x, y, food, shown = (np.repeat(v, 3, axis=1) for v in (c * out, s * out, food, shown))
    x, y = x + 0.17 * u.about(9), y + 0.17 * u.about(9)
    put(SIDE, food, x, y, u(9), 0.16 + 0.1 * u(9), shown & (u(9) < 0.7))

    x, y, turn = _arrange(book.layout[recipe], n, spread * (1 + 0.12 * vary * u.about(1)), u(5, MOST_ITEMS))
    pieces = _pick(book.main[recipe], u(MOST_ITEMS))
    put(MAIN, pieces, x, y, turn, scale * (1 + 0.2 * vary * u.about(MOST_ITEMS)), np.arange(MOST_ITEMS) < n)

    (c, s), out = _turned(u(5)), 0.75 * np.sqrt(u(5))
    garnish = np.repeat(_pick(book.ids(GARNISH), u(1)), 5, axis=1)
    put(OTHER, garnish, c * out, s * out, u(5), 0.1 + 0.08 * u(5), (u(1) < 0.7 * knobs.clutter) & (u(5) < 0.7))

    angle = u(2)
    (c, s), out = _turned(angle), 1.05 - 0.3 * u(2)
    over = _pick(book.ids(OCCLUDERS), u(2))
    often = knobs.occlusion * np.array([0.8, 0.4])
    put(OTHER, over, c * out, s * out, angle + 0.08 * u.about(2), 0.42 + 0.15 * u(2), u(2) < often)
    return _Scene(*(np.concatenate(column, axis=1) for column in zip(*groups, strict=True)))


def _view(u: _Uniforms, knobs: Difficulty) -> dict[str, Array]:
    """Camera and light, [image] each: scene = C p + t for a point p of the picture, both in [-1, 1]."""
    vary = _vary(knobs)
    zoom, tilt = 1.02 + 0.2 * vary * u.about(), 1 + 0.3 * vary * u()
    c, s = _turned(0.5 * vary * u.about())
    lc, ls = _turned(u())
    return {
        "c00": zoom * c, "c01": -zoom * s * tilt, "tx": 0.16 * vary * u.about(),
        "c10": zoom * s, "c11": zoom * c * tilt, "ty": 0.16 * vary * u.about(),
        "unit": zoom * np.sqrt(tilt),  # scene length of half a picture
        "lx": c * lc - s * ls, "ly": s * lc + c * ls,  # where the light comes from, in the scene
    }  # fmt: skip


def _rows(u: _Uniforms, scene: _Scene, book: _Book, knobs: Difficulty) -> tuple[Array, Array, Array, Array]:
    """Image, place and number of every visible part, back to front, and what the tables say of it [part, column].

    Now and then all food that the label names wears the colours, or the texture, of some other food.
    """
    image, place = np.nonzero(scene.here)
    parts = book.part_count[scene.thing[image, place]]
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    image, place = np.repeat(image, parts), np.repeat(place, parts)
    donor = _pick(book.foods, u())[image]
    row = book.parts[scene.thing[image, place], number]
    lent = book.parts[donor, np.minimum(number, book.part_count[donor] - 1)]
    for columns, often in ((COLOUR_COLUMNS, 0.7), (TEXTURE_COLUMNS, 0.5)):
        borrows = (u() < often * knobs.confusion)[image] & (scene.kind[image, place] == MAIN)
        row[np.ix_(borrows, columns)] = lent[np.ix_(borrows, columns)]
    return image, place, number, row


def _parts(
    u: _Uniforms, scene: _Scene, view: dict[str, Array], book: _Book, knobs: Difficulty, size: int
) -> dict[str, Array]:
    """Every visible part as a row of numbers for `_paint`, image by image, back to front."""
    image, place, number, row = _rows(u, scene, book, knobs)
    p = dict(zip(PART_COLUMNS, row.T, strict=True))
    kind, vary = scene.kind[image, place], _vary(knobs)
    food = kind != OTHER
    calm = np.where(kind == MAIN, 1 - 0.6 * knobs.confusion * u()[image], 1.0)  # less of what makes a shape special
    tint = 1 + vary * (0.14 * u.about(3) + 0.16 * u.about(1))[image]  # the picture's food
    own = u.about(10, scene.thing.shape[1])[image, :, place].T  # each thing's own

    # Size, place and direction; the picture's coordinates become the part's: (x, y) = M p + m, the outline at |.| = 1.
    scale = scene.scale[image, place]
    a = p["length"] * scale * (1 + 0.12 * vary * own[0] * food)
    b = p["width"] * scale * (1 - 0.12 * vary * own[0] * food)
    c, s = _turned(scene.turn[image, place])
    centre_x = scene.x[image, place] + scale * (c * p["x"] - s * p["y"])
    centre_y = scene.y[image, place] + scale * (s * p["x"] + c * p["y"])
    c, s = _turned(scene.turn[image, place] + p["turn"])
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


# ------------------------------------------------------------------------------------------------ pixels (the device)


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
    distance = torch.maximum(
        distance, (x.abs() - p["reach"]) * p["a"]
    )  # long shapes: beyond their ends it is too small
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


def _develop(canvas: Tensor, u: _Uniforms, knobs: Difficulty) -> Tensor:
    """uint8 [image, 3, row, column]: the light across the picture, the colour cast and the noise of the pixels."""
    device, size = canvas.device, canvas.shape[-1]
    (lc, ls), light = _turned(u()), knobs.light
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


# ------------------------------------------------------------------------------------------------------- the interface


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
    atlas = torch.from_numpy(_atlas()[1]).to(device).view(-1)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8, device=device)
    labels = torch.empty(count, dtype=torch.int64)
    batch = max(1, (1 << (18 if device.type == "cpu" else 22)) // size**2)
    for i in range(0, count, batch):
        j = min(i + batch, count)
        images[i:j], labels[i:j] = _batch(split, start + i, j - i, size, seed, difficulty, atlas)
        if progress is not None:
            progress(j - i)
    return images, labels.to(device)


def _batch(
    split: str, start: int, count: int, size: int, seed: int, knobs: Difficulty, atlas: Tensor
) -> tuple[Tensor, Tensor]:
    book, u = _book(split == "pretraining"), _Uniforms(seed, split, start, count)
    classes = len(book.recipe_count)
    truth = (u() * classes).astype(int)
    wrong, shift = u() < knobs.label_noise * (split == "training"), 1 + (u() * (classes - 1)).astype(int)
    labels = np.where(wrong, (truth + shift) % classes, truth)
    scene = _scene(u, truth, book, knobs)
    view = _view(u, knobs)
    canvas = _compose(_parts(u, scene, view, book, knobs, size), count, size, atlas)
    return _develop(canvas, u, knobs), torch.from_numpy(labels)
