"""A solution's own distillation step, as a step of the training loop."""

from pathlib import Path

import pytest
import torch
from tiny_training import (
    SIGNATURE,
    STEPS,
    VALIDATION,
    Killed,
    assert_same,
    contents,
    network,
    run,
    solution_with,
)
from torch import Tensor

from hw7 import HW7Error
from hw7.solution import load_solution
from hw7.training.steps import Distillation


def test_distillation_goes_through_the_solutions_step(tmp_path: Path) -> None:
    solution = solution_with(
        tmp_path / "own",
        f"import torch\ncalls = []\n{SIGNATURE}\n"
        "    calls.append((student, teacher, tuple(images.shape), len(labels), temperature, alpha))\n"
        "    student[5].bias.data.fill_(7.0)\n"
        "    return torch.tensor(2.5, requires_grad=True)\n",
    )
    net, teacher = network(), network(seed=1)
    result, weights = run(tmp_path / "out", net, step=Distillation(solution, teacher, 3.0, 0.25))
    calls = solution.losses.calls
    assert len(calls) == STEPS
    assert all(call[0] is net and call[4:] == (3.0, 0.25) for call in calls)
    images = VALIDATION.images.float() / 255
    torch.testing.assert_close(calls[0][1](images), teacher.eval()(images))  # its batch norm may be folded
    assert [call[2] for call in calls[:3]] == [(8, 3, 16, 16), (8, 3, 16, 16), (4, 3, 16, 16)]
    assert [row.loss for row in result.history] == [2.5] * 6
    assert weights["5.bias"].tolist() == [7, 7, 7]


def test_a_killed_distillation_ends_with_the_very_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solution = load_solution()
    step, real = Distillation(solution, network(seed=1)), solution.losses.distillation_step
    whole = run(tmp_path / "whole", step=step)
    done: list[int] = []

    def killed(*arguments: object) -> Tensor:
        done.append(1)
        if len(done) == 11:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(solution.losses, "distillation_step", killed)
        with pytest.raises(Killed):
            run(tmp_path / "killed", step=step)
    assert_same(whole, run(tmp_path / "killed", step=step))
    assert whole[0].history != run(tmp_path / "labels")[0].history


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("if len(images) == 8:\n        raise KeyError('T')", ["losses.py, line 3", "KeyError", "'T'"]),
        ("return helper(images)\ndef helper(x):\n    return x.nothing", ["losses.py, line 4", "AttributeError"]),
        (
            "import torch\n    torch.ones(2) @ torch.ones(3)",
            ["losses.py, line 3", "RuntimeError"],
        ),  # raised inside torch
        ("raise NotImplementedError('Task 2.2: one step')", ["not done yet", "Task 2.2: one step"]),
        ("return None", ["must return the loss", "None"]),
        ("return images.mean(dim=(1, 2, 3))", ["must return the loss", "shape []"]),
        ("return 0.5", ["must return the loss", "0.5"]),
    ],
    ids=["raises", "raises deeper", "raises in torch", "stub", "none", "batch", "float"],
)
def test_a_solution_that_fails_is_told_where(tmp_path: Path, body: str, says: list[str]) -> None:
    solution = solution_with(tmp_path / "my solution", f"{SIGNATURE}\n    {body}\n")
    with pytest.raises(HW7Error) as error:
        run(tmp_path / "out", step=Distillation(solution, network()))
    message = str(error.value)
    assert message.startswith("losses.distillation_step")
    assert [part for part in says if part not in message] == []
    assert "line" not in message or str(tmp_path / "my solution" / "solution" / "losses.py") in message
    assert contents(tmp_path / "out") == {}
