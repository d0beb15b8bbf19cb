"""A test of your own, for `kd_loss`. `hw7 check own-test` tries it on your loss and on wrong ones."""

from collections.abc import Callable

import torch  # noqa: F401 (you will need it)
from torch import Tensor


def test_kd_loss(kd_loss: Callable[..., Tensor]) -> None:
    """Task own-test: returns for a right `kd_loss`, and fails (`assert`) for as many wrong ones as possible.

    Call it as the handout does: kd_loss(student_logits, teacher_logits, labels, temperature, alpha). What must hold for
    every input? Which input tells a right loss from a wrong one, and for which do the two agree?
    """
    raise NotImplementedError("Task own-test: test_kd_loss")
