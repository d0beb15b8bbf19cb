"""Chapter quantization: which step and zero point were used, what was rounded, which entries of a file are others.

quantize                     the finder of task 4.1; levels and scales name steps and zero points, rounding the rest
compress                     that of task 4.2; entries are those of a file, became says what became of their numbers,
                             names which of them collide
"""

from hw7.checks.diagnosis.frame import Finder
from hw7.checks.diagnosis.quantization.compress import compress_found
from hw7.checks.diagnosis.quantization.quantize import quantize_found

FINDERS: dict[Finder, tuple[str, ...]] = {  # with the calls whose answers each looks at
    quantize_found: ("quantize",),
    compress_found: ("compress",),
}
