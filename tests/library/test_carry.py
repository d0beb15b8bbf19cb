"""A reproduction's folder that is packed, carried and unpacked: what travels, how, and that it goes on."""

import io
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import another_process_in
from tiny_reproduction import contents
from tiny_training import Killed
from torch import Tensor

from hw7 import HW7Error
from hw7.models import teacher_resnet18
from hw7.report import carry
from hw7.report.carry import ANEW, EXACTLY, LEFT_OUT, OPTIMIZER, ROUNDED, pack, unpack
from hw7.report.experiments import EXPERIMENTS
from hw7.support import parts
from hw7.support.files import load_checkpoint, load_weights, save_checkpoint, save_weights, write_json
from hw7.support.parts import read_parts
from hw7.training.precision import computing_in


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST", 40_000)


def made_up(folder: Path, done: tuple[str, ...], under_way: tuple[str, ...]) -> Path:
    """A folder whose networks are one convolution and a batch norm: bytes that no compression makes much fewer."""
    generator = torch.Generator().manual_seed(0)

    def weights(channels: int) -> dict[str, Tensor]:
        shapes = {"conv.weight": (channels, 9, 3, 3), "bn.weight": (channels,)}
        return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    write_json(folder / "identity.json", {"data": "plates"})
    for number, name in enumerate(done):
        write_json(folder / "runs" / name / "run.json", {"seconds": 1.0})
        write_json(folder / "runs" / name / "result.json", {"accuracy": 0.5})
        save_weights(folder / "runs" / name / "weights.safetensors", weights(80 + 10 * number), {"network": name})
    for number, name in enumerate(under_way):
        own, memory = weights(60 + 10 * number), {}
        for index, tensor in enumerate(own.values()):
            memory[index] = {"step": torch.tensor(7.0), "exp_avg": tensor / 3, "exp_avg_sq": tensor**2}
        state = {"network": own, "best": weights(60 + 10 * number), "optimizer": {"state": memory, "param_groups": []}}
        save_checkpoint(folder / "runs" / name / "checkpoint.pt", state | {"identity": {}, "best_epoch": 3})
    return folder


FIRST = ("pretraining", "teacher-pretrained", "student-cnn")  # of these, what is under way needs the second


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("made-up"), FIRST, ("student-e", "student-net"))


# ---- what is packed, and how -----------------------------------------------------------------------------------


def test_what_is_given_up_and_in_which_order(folder: Path, tmp_path: Path) -> None:
    """Packed into less and less, down to what does not fit."""
    seen: list[tuple[str, ...]] = []
    short = {EXACTLY: "=", OPTIMIZER: "o", ROUNDED: "~", LEFT_OUT: "-", ANEW: "x"}
    size = 0.3
    while True:
        try:
            packed = pack(folder, tmp_path / "pack", size, ["student-e", "student-net"])
        except HW7Error as error:
            least = re.search(r"--max-mb must be at least (\d+\.\d)", str(error))
            assert least
            pack(folder, tmp_path / "pack", float(least[1]))
            break
        assert sum(part.stat().st_size for part in packed.parts) == packed.size <= size * 1_000_000
        assert set(packed.parts) == set(tmp_path.glob("pack.*"))
        assert max(part.stat().st_size for part in packed.parts) <= parts.MOST
        ways = tuple(f"{name.split('/')[1]}{short[how]}" for name, how in packed.how.items())
        if not seen or seen[-1] != ways:
            seen.append(ways)
        size -= 0.004
    order = ["=" * 5, "==-==", "-=-==", "-=-=o", "-=-oo", "-=-o~", "-=-~~", "-~-~~", "-~-~x", "-~-xx"]
    files = [name.removesuffix("=") for name in seen[0]]
    assert files == ["pretraining", "student-cnn", "student-e", "student-net", "teacher-pretrained"]
    wanted = [
        tuple(f"{name}{how}" for name, how in zip(files, [ways[0], ways[2], ways[3], ways[4], ways[1]], strict=True))
        for ways in order
    ]
    assert seen == wanted


@pytest.mark.parametrize(
    ("done", "under_way", "only", "needed"),
    [
        (FIRST, (), (), {"pretraining": False, "teacher-pretrained": True, "student-cnn": False}),
        (FIRST, (), ("small-resnet18",), dict.fromkeys(FIRST, False)),  # which needs nobody
        (FIRST, ("student-e",), ("small-resnet18",), {"teacher-pretrained": True, "pretraining": False}),
        (("pretraining",), (), ("student-e",), {"pretraining": True}),
        (("student-net", "teacher-pretrained"), (), ("quantized-8",), {"student-net": True}),
        (tuple(EXPERIMENTS), (), (), dict.fromkeys(EXPERIMENTS, False)),
    ],
)  # fmt: skip
def test_weights_are_kept_for_what_needs_them(
    tmp_path: Path, done: tuple[str, ...], under_way: tuple[str, ...], only: tuple[str, ...], needed: dict[str, bool]
) -> None:
    """In so little room that only what is needed, rounded, travels; the records of all runs do."""
    made = made_up(tmp_path / "made up", done, under_way)
    with pytest.raises(HW7Error, match="at least"):
        pack(made, tmp_path / "pack", 0.0, only)
    kinds = {item.name: item.kind for item in carry._items(made, only)}
    assert {name: kinds[f"runs/{name}/weights.safetensors"] == "needed" for name in needed} == needed
    packed = pack(made, tmp_path / "pack", 9.9, only)
    unpack(tmp_path / "pack", tmp_path / "there")
    assert set(packed.how.values()) == {EXACTLY}
    assert contents(tmp_path / "there") == contents(made)


def test_a_run_that_is_not_measured_yet_and_finished_steps_are_needed(tmp_path: Path) -> None:
    made = made_up(tmp_path / "made up", ("student-net", "student-c"), ("prune-0.9",))
    (made / "runs" / "student-c" / "result.json").unlink()
    shutil.move(made / "runs" / "prune-0.9", made / "runs" / "step-02")
    shutil.move(made / "runs" / "step-02", made / "runs" / "prune-0.9" / "step-02")
    shutil.copytree(made / "runs" / "student-net", made / "runs" / "prune-0.9" / "step-01")
    for name in ("report.html", "pictures/sizes.svg", "runs/prune-0.9/.checkpoint.pt.123.part"):  # are not carried
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("made anew")
    kinds = {item.name.removeprefix("runs/"): item.kind for item in carry._items(made, ())}
    assert {name: kind for name, kind in kinds.items() if kind != "record"} == {
        "student-net/weights.safetensors": "needed",
        "student-c/weights.safetensors": "needed",
        "prune-0.9/step-01/weights.safetensors": "needed",
        "prune-0.9/step-02/checkpoint.pt": "checkpoint",
    }


def test_what_is_rounded_comes_back_in_float32_and_the_rest_exactly(folder: Path, tmp_path: Path) -> None:
    def bfloat16(tensor: Tensor) -> Tensor:
        return tensor.bfloat16().float()

    sizes = (number / 200 for number in range(60, 0, -1))
    ways = (pack(folder, tmp_path / "pack", size) for size in sizes)
    packed = next(each for each in ways if set(each.how.values()) == {LEFT_OUT, ROUNDED})
    assert unpack(tmp_path / "pack", tmp_path / "there").how == {k: v for k, v in packed.how.items() if v == ROUNDED}
    name = Path("runs", "teacher-pretrained", "weights.safetensors")
    (was, about), (now, about_now) = load_weights(folder / name), load_weights(tmp_path / "there" / name)
    assert about == about_now == {"network": "teacher-pretrained"}
    assert torch.equal(now["conv.weight"], bfloat16(was["conv.weight"]))
    assert torch.equal(now["bn.weight"], was["bn.weight"])
    name = Path("runs", "student-e", "checkpoint.pt")
    old, new = (load_checkpoint(root / name, "cpu") for root in (folder, tmp_path / "there"))
    for key in ("network", "best"):
        assert torch.equal(new[key]["conv.weight"], bfloat16(old[key]["conv.weight"]))
        assert torch.equal(new[key]["bn.weight"], old[key]["bn.weight"])
    for index, memory in old["optimizer"]["state"].items():
        there = new["optimizer"]["state"][index]
        assert torch.equal(there["step"], memory["step"])
        assert all(torch.equal(there[key], bfloat16(memory[key])) for key in ("exp_avg", "exp_avg_sq"))
        assert {tensor.dtype for tensor in there.values()} == {torch.float32}
    assert (new["identity"], new["best_epoch"]) == ({}, 3)
    assert not (tmp_path / "there" / "runs" / "pretraining" / "weights.safetensors").exists()
    assert (tmp_path / "there" / "runs" / "pretraining" / "result.json").exists()


def test_a_teacher_that_computes_in_bfloat16_says_the_very_same_with_rounded_weights() -> None:
    """Convolutions and linear layers round their weights anyway; a batch norm computes with its own in float32."""
    torch.manual_seed(0)
    network, rounded = teacher_resnet18(), teacher_resnet18()
    images = torch.rand(4, 3, 32, 32)
    network(images)  # batch norms with statistics that are not 0 and 1
    for tensor in network.parameters():
        tensor.data += 0.01 * torch.randn_like(tensor)
    rounded.load_state_dict(carry._each(network.state_dict(), carry._rounded(2)))
    networks = network.eval(), rounded.eval()
    with torch.no_grad():
        assert not torch.equal(network(images), rounded(images))
        with computing_in("bfloat16", *networks):
            assert torch.equal(network(images), rounded(images))


# ---- what may go wrong -----------------------------------------------------------------------------------------


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    pack(folder, tmp_path / "pack")
    return tmp_path / "pack"


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file: Path(f"{file}.03").unlink(), r"pack\.03 is missing .* one of \d+ parts"),
        (lambda file: damage(Path(f"{file}.02")), r"pack\.02 is damaged"),
        (lambda file: damage(Path(f"{file}.01")), r"pack\.01 is damaged"),
        (lambda file: Path(f"{file}.03").write_bytes(Path(f"{file}.02").read_bytes()), r"pack\.03 is damaged"),
        (lambda file: Path(f"{file}.01").write_bytes(b"hw7 ? ?" * 10_000), r"pack\.01 is missing or damaged"),
        (lambda file: Path(f"{file}.01").unlink(), r"pack\.01 is missing or damaged"),
    ],
    ids=["missing", "damaged", "the first damaged", "swapped", "the table", "the first missing"],
)
def test_a_part_that_is_not_right_is_named(
    packed: Path, tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    change(packed)
    with pytest.raises(HW7Error, match=says):
        unpack(packed, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_folder_that_holds_runs_is_left_alone(packed: Path, folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    with pytest.raises(HW7Error, match="holds runs already"):
        unpack(packed, folder)
    assert contents(folder) == before
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    unpack(packed, tmp_path / "empty")
    assert contents(tmp_path / "empty") == before


def test_a_folder_in_use(packed: Path, folder: Path, tmp_path: Path) -> None:
    for there, work in ((folder, lambda: pack(folder, packed)), (tmp_path, lambda: unpack(packed, tmp_path))):
        with another_process_in(there), pytest.raises(HW7Error, match="another hw7 is at work"):
            work()


def test_a_folder_that_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="holds no reproduction"):
        pack(tmp_path / "nothing", tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../evil.json", "/evil.json", "runs/../../evil", "runs\\..\\evil", "C:evil.json", "a"]
)
def test_no_file_leaves_the_folder(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("identity.json", "{}")
        archive.writestr(name, "{}")
    parts.write_parts(tmp_path / "pack", buffer.getvalue())
    before = set(tmp_path.rglob("*"))
    with pytest.raises(HW7Error, match="none of a reproduction's"):
        unpack(tmp_path / "pack", tmp_path / "there" / "out")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} <= before | {tmp_path / "there" / "out" / ".lock"}


def failing(call: Callable[..., Any], at: int, error: BaseException) -> Callable[..., Any]:
    """What fails when it is called for the `at`th time, before or, with an odd number, after it has done its work."""
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at // 2 + 1 and at % 2 == 0:
            raise error
        result = call(*arguments, **options)
        if calls == at // 2 + 1:
            raise error
        return result

    return wrapped


@pytest.mark.parametrize("error", [Killed(), HW7Error("cannot write: no space left on device")], ids=["kill", "disk"])
def test_a_pack_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file, old, new = tmp_path / "pack", b"old" * 40_000, b"new" * 50_000
    seen = set()
    for where, name in ((parts, "write_file"), (Path, "unlink")):
        for at in range(8):
            parts.write_parts(file, old)
            with monkeypatch.context() as patch:
                patch.setattr(where, name, failing(getattr(where, name), at, error))
                try:
                    parts.write_parts(file, new)
                except (Killed, HW7Error):
                    seen.add("ended")
            seen.add(read_parts(file)[1])
    assert seen == {"ended", old, new}
    (tmp_path / "pack.77").write_bytes(b"a part that SIGKILL left")
    assert read_parts(file)[1] in (old, new)
    parts.write_parts(file, new)
    assert set(tmp_path.iterdir()) == set(read_parts(file)[0])  # what a kill left is gone


def test_an_unpacking_that_is_killed_leaves_no_runs_or_all(
    packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for where, name in ((carry, "write_file"), (Path, "replace"), (shutil, "rmtree")):
        for at in range(6):
            there = tmp_path / f"there {name} {at}"
            with monkeypatch.context() as patch:
                patch.setattr(where, name, failing(getattr(where, name), at, Killed()))
                with suppress(Killed):  # where it is called so often
                    unpack(packed, there)
            whole = (there / "runs").exists()
            seen.add(whole)
            if not whole:
                unpack(packed, there)
            assert {name: data for name, data in contents(there).items() if name[0] != "."} == contents(folder)
    assert seen == {True, False}
