"""What training here is measured against: the usual pipeline of files and workers, and kornia's augmentation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hw7.data import augment
from hw7.solution import load_solution
from hw7.training.epoch import Passes


class Files(Dataset[tuple[Tensor, int]]):
    """JPEG files, decoded and augmented one by one, as in the course."""

    def __init__(self, folder: Path, size: int, strength: augment.Augmentation) -> None:
        from torchvision import transforms

        self.paths = sorted(folder.iterdir())
        self.transform = transforms.Compose([
            transforms.RandomCrop(size, padding=round(strength.padding * size)),
            transforms.RandomHorizontalFlip(strength.flip),
            transforms.RandomRotation(strength.rotation),
            transforms.ColorJitter(strength.brightness, strength.contrast, strength.saturation, strength.hue),
            transforms.RandomPerspective(strength.distortion, strength.perspective),
            transforms.ToTensor(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), int(self.paths[index].name.partition("_")[0])


def usual_pass(
    network: nn.Module, teacher: nn.Module | None, loader: DataLoader, device: torch.device
) -> Callable[[], float]:
    """A pass over the files in float32, one operation at a time, with a look at the loss in every step."""
    solution = load_solution()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def one_pass() -> float:
        total = 0.0
        network.train()
        if teacher:
            teacher.eval()
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            logits = network(images)
            if teacher:
                with torch.no_grad():
                    soft = teacher(images)
                loss = solution.losses.kd_loss(logits, soft, labels)
            else:
                loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    return one_pass


def kornia_augmentation(size: int, strength: augment.Augmentation) -> Callable[[Tensor], Tensor] | None:
    """float32 [N, 3, S, S] to the same, each sample by its own parameters; None where kornia is not installed."""
    try:
        from kornia import augmentation as kornia
    except ImportError:
        return None
    jitter = (strength.brightness, strength.contrast, strength.saturation, strength.hue)
    return kornia.AugmentationSequential(
        kornia.RandomCrop((size, size), padding=round(strength.padding * size)),
        kornia.RandomHorizontalFlip(p=strength.flip),
        kornia.RandomRotation(strength.rotation, p=1.0),
        kornia.ColorJitter(*jitter, p=1.0),
        kornia.RandomPerspective(strength.distortion, p=strength.perspective),
        data_keys=["input"],
    )


class KorniaPasses(Passes):
    """This project's loop, but for the augmentation."""

    def __init__(self, *arguments: Any, augmentation: Callable[[Tensor], Tensor]) -> None:
        super().__init__(*arguments, None)
        self.kornia = augmentation

    def inputs(self, images: Tensor, *_: Tensor) -> Tensor:
        return self.kornia(images.float() / 255)
