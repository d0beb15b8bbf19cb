"""Chapter models: what a wrong function does, found out from its answers."""

from hw7.checks.diagnosis import Finder

FINDERS: dict[Finder, tuple[str, ...]] = {}  # with the calls whose answers each looks at
