"""The tables that pictures are drawn from: colours, shapes, textures, things, and the recipes of each class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

SPLITS = ("training", "validation", "testing", "pretraining")

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
    "disc":    (0.0, 0.0, 0.0, 0.01, 0.0),   "blob":     (0.15, 0.0, 0.0, 0.13, 0.0),
    "lump":    (0.3, 0.0, 0.15, 0.22, 0.0),  "slab":     (0.8, 0.0, 0.0, 0.03, 0.0),
    "bar":     (0.9, 0.12, 0.0, 0.0, 0.0),   "stick":    (0.85, 0.35, 0.0, 0.02, 0.0),
    "sausage": (0.55, 0.9, 0.0, 0.02, 0.0),  "crescent": (0.15, 2.2, -0.35, 0.0, 0.0),
    "wedge":   (0.75, 0.0, 0.82, 0.0, 0.0),  "fan":      (0.2, 0.0, 0.6, 0.04, 0.0),
    "drop":    (0.0, 0.3, 0.5, 0.02, 0.0),   "leaf":     (0.0, 0.5, -0.3, 0.10, 0.0),
    "ring":    (0.0, 0.0, 0.0, 0.02, 0.42),  "hoop":     (0.05, 0.0, 0.0, 0.06, 0.66),
}  # fmt: skip

# name: (tile of the atlas, polar coordinates?, tiles along a unit of length (or around), across (or outwards))
TEXTURES = {
    "plain":   ("plain", False, 0.5, 0.5),     "mottle":    ("mottle", False, 0.35, 0.35),
    "crumbs":  ("crumbs", False, 0.5, 0.5),    "pores":     ("dots", False, 1.1, 0.9),
    "holes":   ("holes", False, 0.42, 0.42),   "seeds":     ("dots", True, 1.0, 0.45),
    "grains":  ("grains", False, 0.55, 0.55),  "sprinkles": ("sprinkles", False, 0.5, 0.5),
    "stripes": ("stripes", False, 0.45, 0.0),  "ribs":      ("stripes", False, 1.0, 0.0),
    "layers":  ("stripes", False, 0.0, 0.35),  "slashes":   ("stripes", False, 0.3, 0.25),
    "grill":   ("grill", False, 0.45, 0.2),    "streaks":   ("streaks", False, 0.3, 1.2),
    "strands": ("strands", False, 0.7, 0.7),   "scales":    ("scales", False, 0.9, 0.9),
    "rings":   ("stripes", True, 0.0, 0.35),   "swirl":     ("stripes", True, 0.125, 0.3),
    "spokes":  ("stripes", True, 1.25, 0.0),   "segments":  ("grill", True, 1.25, 0.0),
    "marble":  ("marble", False, 0.3, 0.3),    "check":     ("check", False, 0.55, 0.55),
    "weave":   ("check", False, 1.6, 1.6),     "planks":    ("planks", False, 0.4, 0.4),
}  # fmt: skip


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
    "bread roll": (P("blob", 1, 0.86, "toast gold crust", "mottle", rim=0.1, height=0.6, gloss=0.15),
                   P("drop", 0.62, 0.1, "cream gold gold", "mottle", height=0.1)),
    "baguette": (P("bar", 1.5, 0.42, "toast cream crust", "grill", rim=0.2, height=0.55, gloss=0.1),),
    "cheese wedge": (P("wedge", 0.95, 0.5, "butter mustard amber", "holes", rim=0.16, height=0.15),),
    "camembert": (P("disc", 1, 0.96, "cream butter white", "plain", rim=0.14, height=0.2),),
    "yoghurt": (P("disc", 1, 0.98, "white cream porcelain", "swirl", rim=0.04, height=0.15, gloss=0.3),),
    "glass of milk": (P("disc", 1, 1, "steel sky porcelain", rim=0.1, height=0.5, gloss=0.2),
                      P("disc", 0.84, 0.84, "white white cream", rim=0.06, height=-0.2, gloss=0.35)),
    "cake slice": (P("wedge", 1, 0.58, "cream rose cocoa", "layers", rim=0.08, height=0.25),
                   P("disc", 0.2, 0.2, "tomato wine wine", at=(0.62, 0.0), height=0.7, gloss=0.7)),
    "pink donut": (P("ring", 1, 0.97, "toast gold crust", height=0.5),
                   P("ring", 0.9, 0.87, "rose white rose", "sprinkles", height=0.35, gloss=0.35)),
    "chocolate donut": (P("ring", 1, 0.97, "gold toast toast", height=0.5),
                        P("ring", 0.9, 0.88, "cocoa butter coffee", "sprinkles", height=0.35, gloss=0.35)),
    "cupcake": (P("disc", 1, 1, "crust cream toast", "spokes", height=0.4),
                P("blob", 0.8, 0.78, "cream rose white", "swirl", height=0.5, gloss=0.2),
                P("disc", 0.22, 0.22, "coral wine wine", height=0.7, gloss=0.8)),
    "ice cream": (P("blob", 1, 0.96, "blush rose rose", "mottle", height=0.7, gloss=0.25),),
    "mint ice cream": (P("blob", 1, 0.96, "mint cocoa mint", "sprinkles", height=0.7, gloss=0.25),),
    "fried egg": (P("lump", 1, 0.88, "white porcelain sand", "plain", rim=0.08, height=0.12, gloss=0.15),
                  P("disc", 0.4, 0.39, "yolk orange amber", rim=0.1, at=(0.08, 0.03), height=0.6, gloss=0.8)),
    "halved egg": (P("drop", 0.92, 0.66, "white porcelain porcelain", rim=0.08, height=0.3, gloss=0.2),
                   P("disc", 0.42, 0.4, "yolk butter mustard", "crumbs", rim=0.14, at=(0.14, 0.0), height=0.15)),
    "omelette": (P("crescent", 1.15, 0.5, "butter amber gold", "mottle", rim=0.08, height=0.5, gloss=0.2),
                 P("leaf", 0.16, 0.06, "herb leaf leaf", at=(0.2, 0.1))),
    "fry": (P("bar", 1, 0.16, "gold butter toast", rim=0.25, height=0.5),),
    "nugget": (P("lump", 0.85, 0.66, "gold crust toast", "crumbs", rim=0.08, height=0.6),),
    "drumstick": (
        P("bar", 0.6, 0.13, "cream sand tan", at=(-0.75, 0.0), height=0.4),
        P("drop", 0.85, 0.56, "toast crust rust", "crumbs", rim=0.08, at=(0.25, 0.0), height=0.65, gloss=0.25),
    ),
    "onion ring": (P("hoop", 1, 0.9, "gold toast crust", "crumbs", height=0.6),),
    "steak": (P("lump", 1.1, 0.78, "brick coffee rust", "grill", rim=0.1, height=0.4, gloss=0.2),
              P("leaf", 0.25, 0.06, "herb leaf leaf", at=(0.2, 0.15), turn=0.1)),
    "sausage": (P("sausage", 1.1, 0.28, "rust brick brick", "slashes", rim=0.15, height=0.65, gloss=0.5),),
    "bacon": (P("stick", 1.25, 0.24, "wine blush brick", "streaks", rim=0.12, height=0.25, gloss=0.3),),
    "meatball": (P("blob", 0.7, 0.66, "brick crust cocoa", "crumbs", height=0.65, gloss=0.2),),
    "noodle nest": (P("blob", 1, 0.92, "butter toast toast", "strands", height=0.3),
                    P("blob", 0.55, 0.5, "cream tan gold", "strands", at=(0.1, -0.1), turn=0.2, height=0.35)),
    "sauced spaghetti": (P("blob", 1, 0.9, "butter amber gold", "strands", height=0.35),
                         P("lump", 0.5, 0.42, "tomato rust brick", "mottle", height=0.3, gloss=0.3),
                         P("leaf", 0.2, 0.1, "leaf herb herb", at=(0.1, -0.05), turn=0.15)),
    "penne": (P("bar", 0.8, 0.22, "butter gold amber", "layers", rim=0.12, height=0.6),),
    "rice mound": (P("blob", 1, 0.88, "white stone cream", "grains", height=0.45),),
    "fried rice": (P("lump", 1, 0.9, "cream tan gold", "grains", height=0.4),
                   P("blob", 0.75, 0.7, "butter leaf gold", "sprinkles", height=0.1, opacity=0.75)),
    "sushi roll": (P("disc", 0.9, 0.88, "white stone nori", "grains", rim=0.17, height=0.4),
                   P("blob", 0.34, 0.3, "salmon orange lime", height=0.2)),
    "nigiri": (P("slab", 1, 0.5, "white stone cream", "grains", height=0.5),
               P("slab", 1.02, 0.38, "salmon blush coral", "slashes", height=0.5, gloss=0.3)),
    "shrimp": (P("crescent", 0.9, 0.3, "salmon blush coral", "ribs", rim=0.12, height=0.6, gloss=0.3),
               P("fan", 0.24, 0.2, "coral rust rust", "ribs", at=(0.95, -0.32), turn=-0.12)),
    "fish": (P("fan", 0.36, 0.34, "slate steel charcoal", "layers", at=(-1.12, 0.0), turn=0.5, height=0.2),
             P("disc", 1.05, 0.4, "steel slate sky", "scales", rim=0.12, height=0.5, gloss=0.4),
             P("disc", 0.07, 0.07, "charcoal white white", rim=0.3, at=(0.75, -0.08))),
    "mussel": (P("drop", 0.95, 0.5, "navy charcoal charcoal", "rings", rim=0.15, height=0.5, gloss=0.4),
               P("drop", 0.66, 0.3, "orange amber sand", rim=0.2, at=(0.08, 0.0), height=0.4)),
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
    "carrot": (P("leaf", 0.45, 0.2, "leaf herb herb", "slashes", at=(1.1, 0.0)),
               P("drop", 1, 0.26, "orange rust amber", "grill", rim=0.12, height=0.6, gloss=0.15)),
    "strawberry": (P("drop", 0.75, 0.56, "tomato butter tomato", "pores", height=0.6, gloss=0.4),
                   P("lump", 0.24, 0.34, "leaf herb herb", at=(0.72, 0.0))),
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
    "plate": (P("disc", 1, 1, "white porcelain steel", rim=0.025, height=0.16, gloss=0.05),
              P("disc", 0.7, 0.7, "white porcelain stone", rim=0.03, height=-0.14)),
    "blue plate": (P("disc", 1, 1, "sky porcelain blue", rim=0.07, height=0.16),
                   P("disc", 0.72, 0.72, "porcelain sky sky", rim=0.04, height=-0.14)),
    "dark plate": (P("disc", 1, 1, "slate charcoal charcoal", "mottle", rim=0.04, height=0.16, gloss=0.1),
                   P("disc", 0.74, 0.74, "slate charcoal steel", "mottle", rim=0.02, height=-0.14)),
    "bowl": (P("disc", 0.95, 0.95, "porcelain white steel", rim=0.04, height=0.5, gloss=0.15),
             P("disc", 0.83, 0.83, "linen stone stone", rim=0.06, height=-0.45)),
    "clay bowl": (P("disc", 0.95, 0.95, "rust brick brick", "rings", rim=0.05, height=0.5, gloss=0.2),
                  P("disc", 0.83, 0.83, "brick cocoa cocoa", rim=0.06, height=-0.45)),
    "navy bowl": (P("disc", 0.95, 0.95, "navy blue sky", rim=0.04, height=0.5, gloss=0.3),
                  P("disc", 0.83, 0.83, "blue navy navy", rim=0.06, height=-0.45)),
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
    "knife": (P("bar", 0.5, 0.07, "charcoal slate slate", at=(-0.55, 0.0), height=0.4),
              P("drop", 0.65, 0.09, "steel porcelain slate", at=(0.45, 0.0), height=0.3, gloss=0.5)),
    "fork": (P("bar", 0.75, 0.045, "steel porcelain slate", at=(-0.3, 0.0), height=0.4, gloss=0.4),
             P("slab", 0.16, 0.12, "steel porcelain slate", at=(0.5, 0.0), height=0.3, gloss=0.4),
             P("slab", 0.17, 0.12, "steel slate steel", "stripes", at=(0.78, 0.0), turn=0.25, height=0.1)),
    "spoon": (P("bar", 0.75, 0.05, "steel porcelain slate", at=(-0.3, 0.0), height=0.4, gloss=0.4),
              P("disc", 0.26, 0.17, "steel slate porcelain", rim=0.2, at=(0.62, 0.0), height=-0.5, gloss=0.5)),
    "chopsticks": (P("bar", 1.1, 0.035, "cocoa coffee coffee", at=(0.0, 0.07), turn=0.01, height=0.5),
                   P("bar", 1.1, 0.035, "cocoa coffee coffee", at=(0.0, -0.07), turn=-0.01, height=0.5)),
}  # fmt: skip

OCCLUDERS: Things = {
    "napkin": (P("slab", 1, 0.9, "linen coral linen", "check", rim=0.05, height=0.15),),
    "grey napkin": (P("slab", 1, 0.9, "stone slate linen", "weave", rim=0.05, height=0.15),),
    "glass": (P("disc", 0.62, 0.62, "sky porcelain white", rim=0.1, height=0.5, gloss=0.5, opacity=0.6),
              P("ring", 0.5, 0.5, "porcelain sky white", "rings", height=0.3, gloss=0.6, opacity=0.6)),
    "hand": (P("lump", 0.6, 0.5, "skin blush tan", "plain", at=(0.45, 0.0), height=0.35),
             P("bar", 0.55, 0.15, "skin blush tan", "plain", at=(-0.25, -0.2), turn=0.02, height=0.5),
             P("bar", 0.6, 0.15, "skin blush tan", "plain", at=(-0.3, 0.12), turn=-0.02, height=0.5)),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A way to serve a class: a dish, perhaps a base that fills it, and `count` things in a layout."""

    dishes: str  # one of these, separated by ", ", as in `things`
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
        R("board, no dish", "row", (1, 3), "baguette", 0.45, 0.35)),
    "Dairy product": (
        R("board, slate board, plate", "ring", (1, 5), "cheese wedge", 0.42, 0.36),
        R("bowl, navy bowl, clay bowl", "scattered", (2, 6), "blueberry, strawberry", 0.15, 0.32, "yoghurt"),
        R("no dish, board", "row", (1, 3), "glass of milk", 0.42, 0.55),
        R("board, plate", "single", (1, 2), "camembert", 0.44, 0.4)),
    "Dessert": (
        R("plate, blue plate, dark plate", "single", (1, 2), "cake slice", 0.55, 0.3),
        R("plate, board, no dish", "ring", (1, 5), "pink donut, chocolate donut", 0.34, 0.4),
        R("plate, no dish, slate board", "grid", (2, 6), "cupcake", 0.3, 0.6),
        R("bowl, blue plate", "pile", (2, 4), "ice cream, mint ice cream", 0.34, 0.26)),
    "Egg": (
        R("plate, dark plate, slate board", "scattered", (1, 3), "fried egg", 0.45, 0.34),
        R("plate, blue plate, board", "ring", (3, 6), "halved egg", 0.29, 0.4),
        R("plate, blue plate", "single", (1, 1), "omelette", 0.52, 0.1)),
    "Fried food": (
        R("plate, board, bowl", "pile", (9, 14), "fry", 0.42, 0.3),
        R("plate, slate board", "scattered", (3, 8), "nugget", 0.28, 0.4),
        R("plate, board, dark plate", "ring", (2, 5), "drumstick", 0.36, 0.36),
        R("plate, slate board", "scattered", (3, 7), "onion ring", 0.32, 0.4)),
    "Meat": (
        R("plate, board, dark plate", "single", (1, 2), "steak", 0.5, 0.2),
        R("plate, slate board", "row", (2, 5), "sausage", 0.44, 0.42),
        R("plate, board", "row", (2, 5), "bacon", 0.46, 0.42),
        R("plate, clay bowl", "scattered", (4, 8), "meatball", 0.29, 0.38)),
    "Noodles/Pasta": (
        R("bowl, clay bowl, navy bowl", "single", (1, 1), "noodle nest", 0.55, 0.08, "broth"),
        R("plate, blue plate, bowl", "single", (1, 1), "sauced spaghetti", 0.56, 0.08),
        R("plate, bowl, dark plate", "pile", (9, 14), "penne", 0.28, 0.36)),
    "Rice": (
        R("bowl, plate, navy bowl", "single", (1, 1), "rice mound", 0.55, 0.12),
        R("plate, clay bowl, dark plate", "single", (1, 1), "fried rice", 0.56, 0.12),
        R("board, slate board, plate", "grid", (3, 8), "sushi roll", 0.26, 0.6),
        R("board, slate board", "row", (2, 4), "nigiri", 0.38, 0.58)),
    "Seafood": (
        R("plate, dark plate, bowl", "ring", (3, 7), "shrimp", 0.33, 0.38),
        R("plate, board, blue plate", "row", (1, 2), "fish", 0.55, 0.3),
        R("plate, clay bowl", "scattered", (4, 9), "mussel, scallop", 0.28, 0.4),
        R("plate, dark plate", "single", (1, 2), "salmon fillet", 0.46, 0.26)),
    "Soup": (
        R("bowl, navy bowl, clay bowl", "scattered", (0, 5), "crouton, chives", 0.13, 0.36, "tomato soup"),
        R("bowl, clay bowl", "single", (1, 3), "dollop, chives", 0.22, 0.2, "pumpkin soup"),
        R("bowl, clay bowl", "scattered", (1, 6), "crouton, chives, dollop", 0.14, 0.38, "pea soup"),
        R("navy bowl, clay bowl, bowl", "scattered", (3, 8), "tofu, chives", 0.16, 0.38, "miso soup")),
    "Vegetable/Fruit": (
        R("bowl, plate", "pile", (8, 13), "salad leaf, lettuce, tomato slice", 0.3, 0.4),
        R("plate, board, blue plate", "ring", (4, 8), "tomato slice, cucumber slice, orange slice", 0.25, 0.42),
        R("board, plate, no dish", "row", (2, 5), "carrot", 0.42, 0.42),
        R("bowl, plate", "pile", (9, 14), "strawberry, blueberry", 0.24, 0.38)),
}  # fmt: skip

CLASSES: tuple[str, ...] = tuple(RECIPES)
LAYOUTS = ("single", "ring", "row", "grid", "scattered", "pile")
MOST_ITEMS = 14  # that a recipe places
