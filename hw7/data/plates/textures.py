"""The texture atlas: grey tiles that repeat, each with its halved copies (a mipmap)."""

from functools import cache
from itertools import product

import numpy as np

from hw7.data.plates.tables import Array

TILE, MIPS = 256, 6
LEVELS = [sum((TILE >> i) ** 2 for i in range(level)) for level in range(MIPS + 1)]  # where each copy begins


def _smooth(ramp: Array) -> Array:
    return ramp * ramp * (3 - 2 * ramp)


def _wave(phase: Array) -> Array:
    """Between 0 and 1, with period 1: a triangle wave, rounded."""
    return _smooth(np.abs(2 * (phase - np.floor(phase)) - 1))


def _edge(value: Array, low: float, high: float) -> Array:
    """The smooth step from 0 below `low` to 1 above `high`."""
    return _smooth(np.clip((value - low) / (high - low), 0, 1))


@cache
def texture_atlas() -> tuple[tuple[str, ...], Array]:
    """Names and float32 [tile, texel]: periodic grey tiles, each with its halved copies behind it."""
    rng = np.random.Generator(np.random.Philox(key=11))
    x, y = np.meshgrid(np.arange(TILE) / TILE, np.arange(TILE) / TILE)

    def noise(across: int, down: int) -> Array:
        grid = rng.random((down, across))
        (i, u), (j, v) = (((c * n).astype(int), c * n % 1) for c, n in ((x, across), (y, down)))
        u, v = _smooth(u), _smooth(v)
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
    levels = [np.stack(list(tiles.values()))]
    while len(levels) < MIPS:
        t = levels[-1]
        levels.append((t[:, ::2, ::2] + t[:, 1::2, ::2] + t[:, ::2, 1::2] + t[:, 1::2, 1::2]) / 4)
    rows = np.concatenate([level.reshape(len(tiles), -1) for level in levels], axis=1)
    return tuple(tiles), rows.astype(np.float32)
