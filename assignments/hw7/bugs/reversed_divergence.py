"""Bug 4: distillation runs, the loss falls, and the student learns to be sure where the teacher is not.

The teacher trusts two classes alike. One student does so, too, and spreads a little over the others; another one
believes in a single class. Run this file: it prints the divergence of both, which is to be smaller for the first.
Fix `divergence`; `pytest -m bugs` tells whether you have.
"""

import torch
from torch import Tensor


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of probabilities [N, C], all above 0; the mean over the batch, []."""
    return (student * (student.log() - teacher.log())).sum(dim=1).mean()


if __name__ == "__main__":
    teacher = torch.tensor([[0.495, 0.495, 0.005, 0.005]])
    students = {
        "spreads as the teacher does, and more": torch.tensor([[0.28, 0.28, 0.22, 0.22]]),
        "is sure of one class": torch.tensor([[0.97, 0.02, 0.005, 0.005]]),
    }
    for name, student in students.items():
        print(f"the student that {name}: {divergence(teacher, student):.3f}")
