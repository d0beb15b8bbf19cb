"""Importing torchvision, even where its compiled operators do not fit the torch beside them.

A torchvision built for CUDA beside a CPU-only torch cannot load its operators, and `import torchvision` then dies with
"operator torchvision::nms does not exist", because it describes operators that nobody declared. Nothing here needs
those operators, so the two missing schemas are declared and the import is tried again. Where the operators do load,
nothing is done.
"""

import sys

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _import_torchvision() -> None:
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", _BOXES)
        import torchvision  # noqa: F401


_import_torchvision()

from torchvision.models import ResNet, ResNet18_Weights, resnet18  # noqa: E402
from torchvision.utils import make_grid  # noqa: E402

__all__ = ["ResNet", "ResNet18_Weights", "make_grid", "resnet18"]
