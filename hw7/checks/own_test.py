"""The test that students write for `kd_loss`: it must let the right loss pass, and fail for wrong ones.

The wrong losses are made of the student's own right one, by calling it with other arguments and spoiling what comes
back: so they need no answer of anybody else's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[..., Tensor]
LARGE = 100.0  # logits from which the unstable loss overflows, as exp does in float32


@dataclass(frozen=True)
class Trial:
    """What a test does. problem: "" if it lets the right loss pass, else the exception it raises. caught, missed: the
    wrong losses that it fails for, and those that it lets pass."""

    problem: str
    caught: tuple[str, ...]
    missed: tuple[str, ...]


def wrong_losses(right: Loss) -> dict[str, Loss]:
    """Losses that are wrong each in one way, by what is wrong."""

    def soft(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
        return alpha * right(s, t, y, temperature, 1.0)

    def hard(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
        return (1 - alpha) * right(s, t, y, temperature, 0.0)

    def unstable(s: Tensor, t: Tensor, *rest: float) -> Tensor:
        return right(s, t, *rest) * (torch.nan if max(s.abs().max(), t.abs().max()) > LARGE else 1.0)

    bodies: dict[str, Loss] = {
        "the divergence is averaged over the classes, too": lambda s, *a: soft(s, *a) / s.shape[1] + hard(s, *a),
        "the divergence lacks its factor": lambda s, t, y, T, a: soft(s, t, y, T, a) / T**2 + hard(s, t, y, T, a),
        "alpha weighs the other term": lambda s, t, y, T, a: right(s, t, y, T, 1 - a),
        "the divergence is the other way round": lambda s, t, y, T, a: soft(t, s, y, T, a) + hard(s, t, y, T, a),
        "it is summed over the batch": lambda s, *a: right(s, *a) * len(s),
        "the cross entropy is softened": lambda s, t, y, T, a: soft(s, t, y, T, a) + hard(s / T, t, y, T, a),
        "the temperature is always 20": lambda s, t, y, T, a: right(s, t, y, 20.0, a),
        "alpha is always 0.5": lambda s, t, y, T, a: right(s, t, y, T, 0.5),
        "the teacher is softened twice": lambda s, t, y, T, a: right(s, t / T, y, T, a),
        "every label is taken for 0": lambda s, t, y, T, a: right(s, t, 0 * y, T, a),
        "the labels are left out": soft,
        "the teacher is left out": hard,
        "it overflows for large logits": unstable,
        "gradients reach the teacher": lambda s, t, *a: right(s, t, *a) + t.sum() - t.detach().sum(),
        "no gradient reaches the student": lambda *a: right(*a).detach(),
    }

    return {name: _complete(body) for name, body in bodies.items()}


def _complete(body: Loss) -> Loss:
    def loss(
        student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 20.0, alpha: float = 0.5
    ) -> Tensor:
        return body(student_logits, teacher_logits, labels, temperature, alpha)

    return loss


def try_test(test: Callable[[Loss], object], right: Loss) -> Trial:
    """Runs a student's test on the right loss and on each wrong one. Whatever it raises counts as a failure.

    Raises NotImplementedError where the test is still a stub.
    """
    problem = ""
    try:
        test(right)
    except NotImplementedError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".rstrip(": ")
    caught, missed = list[str](), list[str]()
    for name, loss in wrong_losses(right).items():
        try:
            test(loss)
        except Exception:
            caught.append(name)
        else:
            missed.append(name)
    return Trial(problem, tuple(caught), tuple(missed))
