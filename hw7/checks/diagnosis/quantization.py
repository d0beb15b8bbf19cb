"""Chapter quantization: what a wrong function does, found out from its answers."""

from hw7.checks.diagnosis import Finder
from hw7.checks.diagnosis.compress import compress_found
from hw7.checks.diagnosis.quantize import quantize_found

FINDERS: dict[Finder, tuple[str, ...]] = {  # with the calls whose answers each looks at
    quantize_found: ("quantize",),
    compress_found: ("compress",),
}
