"""Chapter models: where a wrong network departs from the right one, layer by layer.

departures      the finder; traces reads what the network was seen to run
layers, edits   a network as layers; two networks side by side
places, clauses, sentences   the same in words
"""

from hw7.checks.diagnosis.frame import Finder
from hw7.checks.diagnosis.models.departures import find_layers

FINDERS: dict[Finder, tuple[str, ...]] = {find_layers: ("network",)}  # with the calls whose answers each looks at
