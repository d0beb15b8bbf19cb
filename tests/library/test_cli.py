"""The `hw7` command as its users meet it: what it prints, what it leaves behind, and how it says no."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
import torch
from PIL import Image
from tiny_training import forbidden

from hw7 import __version__
from hw7.cli import app, options
from hw7.data.plates.source import PLATES_COUNTS
from hw7.models import StudentNet
from hw7.report.experiments import NETWORKS
from hw7.report.profiles import PROFILES
from hw7.solution import default_directory, load_solution
from hw7.support.files import load_weights, save_weights
from hw7.training.loop import OPTIMIZERS, SCHEDULES

COMMANDS = ("summary", "data", "train", "distill", "prune", "quantize", "reproduce", "doctor")
SMALL = ("--size", "32", "--device", "cpu")
QUICK = ("--limit", "22", "--epochs", "1", *SMALL)

Hw7 = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hw7(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hw7:
    """Runs `hw7 …` in this process: its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hw7", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            app()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(autouse=True)
def few_validation_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--limit` is for training images; 3,430 drawn for validation would take most of the time here."""
    for split, count in {"training": 66, "validation": 33, "testing": 22, "pretraining": 40}.items():
        monkeypatch.setitem(PLATES_COUNTS, split, count)


def cold(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


# ---- help ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(hw7: Hw7, command: str) -> None:
    code, out, err = hw7(command, "--help")
    assert code == 0
    assert err == ""
    assert f"hw7 {command}" in out
    assert "--help" in out
    assert hw7(command, "-h")[:2] == (0, out)


def test_help_lists_every_command(hw7: Hw7) -> None:
    code, out, _ = hw7("--help")
    assert code == 0
    assert [command for command in COMMANDS if f" {command} " not in out] == []


def test_version(hw7: Hw7) -> None:
    assert hw7("--version") == (0, f"hw7 {__version__}\n", "")


def test_the_help_names_what_there_is(hw7: Hw7) -> None:
    """It cannot ask for it: that would import torch."""
    assert re.split(", | or ", options.NETWORK_NAMES) == list(NETWORKS)
    assert list(options.OptimizerName) == list(OPTIMIZERS)
    assert list(options.ScheduleName) == list(SCHEDULES)
    for name in PROFILES:
        assert re.search(rf"\b{name} *[(,]", hw7("reproduce", "--help")[1]), name


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"], ["reproduce", "--help"], ["--version"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    """Quick, and there where torch is broken, which is what `hw7 doctor` is for."""
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it raises
        "from hw7.cli import app\n"
        "sys.argv[0] = 'hw7'\napp()\n"
    )
    done = cold(code, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hw7" in done.stdout


def test_the_installed_command() -> None:
    done = subprocess.run([Path(sys.executable).parent / "hw7", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"hw7 {__version__}\n")


# ---- summary ---------------------------------------------------------------------------------------------------


def test_summary_as_json(hw7: Hw7) -> None:
    code, out, _ = hw7("summary", "--json")
    summary = json.loads(out)
    assert code == 0
    assert list(summary["parameters"].values()) == [11_182_155, 1_454_603, 1_720_107, 274_763, 256_779]
    assert {rate: (len(steps), steps[0], steps[-1]) for rate, steps in summary["ladders"].items()} == {
        "0.975": (20, 245_444, 118_212),
        "0.95": (10, 236_066, 116_996),
        "0.9": (5, 216_518, 114_810),
    }
    assert summary["figures"]["q1.dwpw.parameters"] == {"printed": 1454603, "counted": 1454603, "verdict": "exact"}


def test_summary_with_layers(hw7: Hw7) -> None:
    code, out, _ = hw7("summary", "--layers", "student_net", "--size", 64)
    assert code == 0
    assert "11,182,155" in out
    layers = out[out.index("student_net on a 64 x 64 image") :]
    assert "256,779" in layers
    assert "64 x 64" in layers
    layers = json.loads(hw7("summary", "--layers", "student_net", "--json")[1])["layers"]
    assert sum(layer["parameters"] for layer in layers) == 256_779


@pytest.mark.parametrize(
    "words",
    [
        ("summary", "--layers", "student_nett"), ("summary", "--size", "8"),
        ("quantize", "w", "--bits", "9", "--out", "q"),
        ("distill", "final", "--teacher", "w", "--temperature", "0", "--out", "o"),
        ("distill", "final", "--teacher", "w", "--alpha", "1.5", "--out", "o"),
        ("quantize", "FILES/good.safetensors", "--data", "imagenet", "--out", "q"),
        ("train", "vgg", "--out", "o"), ("distill", "vgg", "--teacher", "FILES/good.safetensors", "--out", "o"),
        ("train", "final", "--from", "FILES/nothing.safetensors", "--out", "o"),
        ("train", "final", "--from", "FILES/good.safetensors", "--out", "o"),
        ("prune", "w", "--keep-rate", "1", "--out", "o"), ("data", "--limit", "20", "--size", "32", "--out", "full"),
        ("data", "--limit", "20", "--size", "32", "--sheet", "full/training/a.jpg/sheet.png"),
        ("quantize", "FILES/good.safetensors", "--data", "food11:gone", "--out", "q"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_before_anything_is_printed(
    hw7: Hw7, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Nor are images drawn, which takes half a minute, or on Food-11 minutes; but for those that cannot be written."""
    monkeypatch.chdir(tmp_path)
    if words[0] != "data":
        monkeypatch.setattr("hw7.data.plates.render.draw", forbidden)
    (tmp_path / "full" / "training").mkdir(parents=True)
    (tmp_path / "full" / "training" / "a.jpg").touch()
    code, out, err = hw7(*(word.replace("FILES", str(files)) for word in words))
    assert code in (1, 2)
    assert not (tmp_path / "q").exists()
    assert out == ""
    assert err


@pytest.mark.parametrize(
    "words",
    [
        ("train", "student_net", "--out", "note/run"), ("train", "student_net", "--from", "note", "--out", "run"),
        ("train", "student_net", "--split", "testing", "--out", "run"),
        ("distill", "final", "--teacher", "GOOD", "--out", "note"), ("prune", "GOOD", "--out", "note"),
        ("data", "--out", "note"), ("data", "--out", "note/pictures"),
        ("data", "--sheet", "note/a.png"), ("data", "--sheet", "."),
        ("quantize", "GOOD", "--data", "plates", "--out", "note/q"),
        ("quantize", "GOOD", "--data", "plates", "--out", "."),
        ("reproduce", "--out", "out", "--pack", "note/pack"),
    ],
)  # fmt: skip
def test_no_image_is_made_for_what_cannot_be_done(
    hw7: Hw7, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("hw7.cli.shared", "hw7.data.load"):
        monkeypatch.setattr(f"{module}.load_split", forbidden)
    (tmp_path / "note").write_text("a file")
    code, out, err = hw7(*(files / "good.safetensors" if word == "GOOD" else word for word in words))
    assert code in (1, 2)
    assert out == ""
    assert re.search("note|training|it is a folder", err)
    assert "Errno" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_nothing_is_unpacked_for_an_experiment_that_is_not_there(hw7: Hw7, tmp_path: Path) -> None:
    code, _, err = hw7("reproduce", "--out", tmp_path / "out", "--only", "student-z", "--unpack", tmp_path / "pack")
    assert code == 1
    assert "student-z" in err
    assert not (tmp_path / "out").exists()


# ---- data ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Food-11 has")  # this folder is small on purpose
def test_data(hw7: Hw7, tmp_path: Path) -> None:
    sheet, out = tmp_path / "new" / "sheet.png", tmp_path / "images"
    code, text, _ = hw7("data", "--limit", 220, "--size", 32, "--sheet", sheet, "--out", out)
    assert code == 0
    assert "220 images of 32 x 32 pixels" in text
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert image.height == 11 * 96 + 10 * 2
    assert len(list((out / "training").glob("*_*.jpg"))) == 220
    code, text, _ = hw7("data", "--data", f"food11:{out}", "--size", 32)
    assert code == 0
    assert "220 images" in text


# ---- one network through all commands --------------------------------------------------------------------------


def test_train_distill_prune_quantize(hw7: Hw7, tmp_path: Path) -> None:
    weights = "weights.safetensors"
    teacher, student, pruned = tmp_path / "teacher", tmp_path / "my student", tmp_path / "pruned"

    code, out, _ = hw7("train", "student_cnn", "--out", teacher, *QUICK)
    assert code == 0
    assert "1,720,107 parameters" in out

    code, out, _ = hw7("distill", "student_net", "--teacher", teacher / weights, "--out", student, *QUICK)
    assert code == 0
    assert "256,779 parameters" in out
    tensors, metadata = load_weights(student / weights)
    assert metadata == {"network": "student_net", "classes": "11", "size": "32", "data": "plates"}
    StudentNet.from_state_dict(tensors)

    options = ("--keep-rate", 0.9, "--steps", 2, "--teacher", teacher / weights)
    code, out, _ = hw7("prune", student / weights, "--out", pruned, *options, *QUICK)
    assert code == 0
    assert "216,518" in out
    assert "183,578" in out
    slim, metadata = load_weights(pruned / "step-02" / weights)
    assert StudentNet.from_state_dict(slim).widths == (16, 32, 64, 103, 207, 207, 207, 256)
    assert metadata["network"] == "student_net"

    sizes = {}
    for bits in (16, 8):
        packed = tmp_path / f"{bits}.safetensors"
        measured = ("--bits", bits, "--data", "plates", "--limit", 33)
        code, out, _ = hw7("quantize", pruned / "step-02" / weights, "--out", packed, *measured)
        assert code == 0
        assert f"{packed.stat().st_size:,} bytes at {bits} bits" in out
        assert "33 images" in out
        sizes[bits] = packed.stat().st_size
    # bytes: 2 and about 1 an entry, the scales and the header
    assert sizes[8] < 1.2 * 183_578 < 2 * 183_578 < sizes[16] < 2.1 * 183_578
    restored = load_solution().quantization.decompress(load_weights(tmp_path / "8.safetensors")[0])
    assert {name: tensor.shape for name, tensor in restored.items()} == {n: t.shape for n, t in slim.items()}

    # A pruned network may be pruned on, teach, and be gone on from.
    assert hw7("prune", pruned / "step-02" / weights, "--out", tmp_path / "more", "--steps", 1, *QUICK)[0] == 0
    assert (
        hw7("distill", "student_dw", "--teacher", pruned / "step-02" / weights, "--out", tmp_path / "dw", *QUICK)[0]
        == 0
    )


def test_a_pretrained_teacher(hw7: Hw7, tmp_path: Path) -> None:
    """From the pretraining classes to the eleven: the last layer is new."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert hw7("train", "teacher", "--split", "pretraining", "--out", first, *QUICK)[0] == 0
    assert load_weights(first / "weights.safetensors")[0]["fc.bias"].shape != (11,)
    assert hw7("train", "teacher", "--from", first / "weights.safetensors", "--out", second, *QUICK)[0] == 0
    assert load_weights(second / "weights.safetensors")[0]["fc.bias"].shape == (11,)


def test_train_again_changes_nothing(hw7: Hw7, tmp_path: Path) -> None:
    first = hw7("train", "student_dw", "--out", tmp_path, *QUICK)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert hw7("train", "student_dw", "--out", tmp_path, *QUICK)[:2] == first[:2]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_reproduce(hw7: Hw7, tmp_path: Path) -> None:
    options = ("--profile", "smoke", "--only", "student-c", "--device", "cpu", "--out", tmp_path)
    code, out, err = hw7("reproduce", *options)
    assert code == 0
    assert f"wrote {tmp_path / 'report.html'}" in out
    assert "done 1 of 1. c: student from scratch, cross entropy: accuracy 0." in err
    assert all((tmp_path / name).is_file() for name in ("results.json", "report.md", "report.html"))
    results = (tmp_path / "results.json").read_bytes()
    assert hw7("reproduce", *options)[0] == 0
    assert (tmp_path / "results.json").read_bytes() == results


# ---- mistakes --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that are good, that say nothing of themselves, that say something wrong, and that are none."""
    folder = tmp_path_factory.mktemp("files")
    state = StudentNet().state_dict()
    about = {"network": "student_net", "classes": "11", "size": "32", "data": "plates"}
    save_weights(folder / "good.safetensors", state, about)
    save_weights(folder / "silent.safetensors", state, {})
    save_weights(folder / "other.safetensors", {"weight": torch.zeros(3)}, about | {"network": "student_dw"})
    save_weights(folder / "strange.safetensors", {"weight": torch.zeros(3)}, about | {"network": "vgg"})
    save_weights(folder / "half said.safetensors", {"weight": torch.zeros(3)}, {"network": "student_dw"})
    dw = load_solution().models.student_dw().state_dict()
    save_weights(folder / "student_dw.safetensors", dw, about | {"network": "student_dw"})
    (folder / "broken.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:1000])
    (folder / "empty folder").mkdir()
    (folder / "no solution" / "solution").mkdir(parents=True)
    return folder


DISTILL = ("distill", "student_dw", "--out", "OUT", *QUICK, "--teacher")


def test_only_takes_a_list(hw7: Hw7, tmp_path: Path) -> None:
    options = ("--only", "student-c,student-x", "--profile", "smoke", "--device", "cpu", "--out", tmp_path / "out")
    code, _, err = hw7("reproduce", *options)
    assert code == 1
    assert "no experiment 'student-x'" in err


REPRODUCE = ("reproduce", "--out", "OUT", "--profile", "smoke", "--only", "student-c", "--device", "cpu")
MISTAKES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "unknown network": (("train", "vgg", "--out", "OUT", *QUICK), ["'vgg'", "student_dw"]),
    "unknown network to distill": (
        ("distill", "vgg", "--teacher", "FILES/good.safetensors", "--out", "OUT", *QUICK),
        ["'vgg'", "student_dw"],
    ),
    "unknown network to list": (("summary", "--layers", "vgg"), ["'vgg'", "student_dw"]),
    "unknown source": (("train", "student_dw", "--out", "OUT", "--data", "imagenet", *QUICK), ["'imagenet'", "plates"]),
    "unknown split": (("data", "--split", "train", "--out", "OUT"), ["'train'", "training"]),
    "no food11 folder": (
        ("train", "student_dw", "--out", "OUT", "--data", "food11:FILES/nothing here", *QUICK),
        ["nothing here", "training"],
    ),
    "empty food11 folder": (("data", "--data", "food11:FILES/empty folder", "--out", "OUT"), ["empty folder"]),
    "no fashion-mnist": (("data", "--data", "fashion-mnist:FILES", "--out", "OUT"), ["train-images-idx3-ubyte"]),
    "reproduce: unknown profile": ((*REPRODUCE, "--profile", "huge"), ["'huge'", "quick"]),
    "reproduce: unknown experiment": ((*REPRODUCE, "--only", "student-x"), ["'student-x'", "student-c"]),
    "reproduce: unknown source": ((*REPRODUCE, "--data", "imagenet"), ["'imagenet'", "plates"]),
    "reproduce: no food11 folder": ((*REPRODUCE, "--data", "food11:FILES/nothing here"), ["nothing here"]),
    "reproduce: unknown pretraining": ((*REPRODUCE, "--pretraining", "jft"), ["'jft'", "imagenet"]),
    "reproduce: no device": ((*REPRODUCE, "--device", "cuda:99"), ["cuda:99"]),
    "reproduce: no solution": ((*REPRODUCE, "--solution", "FILES/no solution"), ["solution/losses.py"]),
    "unknown device": (("train", "student_dw", "--out", "OUT", "--size", "32", "--device", "tpux"), ["--device tpux"]),
    "no solution": (("summary", "--solution", "FILES/nothing here"), ["nothing here", "solution/models.py"]),
    "no teacher file": ((*DISTILL, "FILES/nothing.safetensors"), ["there is no file"]),
    "a folder as teacher": ((*DISTILL, "FILES/empty folder"), ["empty folder"]),
    "broken teacher file": ((*DISTILL, "FILES/broken.safetensors"), ["broken.safetensors", "not a whole"]),
    "silent teacher file": ((*DISTILL, "FILES/silent.safetensors"), ["silent.safetensors", "which network"]),
    "teacher file of another network": ((*DISTILL, "FILES/other.safetensors"), ["other.safetensors", "another"]),
    "teacher file of an unknown network": ((*DISTILL, "FILES/strange.safetensors"), ["'vgg'"]),
    "teacher file without its classes": ((*DISTILL, "FILES/half said.safetensors"), ["half said.safetensors"]),
    "start from another network": (
        ("train", "student_dw", "--from", "FILES/good.safetensors", "--out", "OUT", *QUICK),
        ["good.safetensors", "another network"],
    ),
    "prune what cannot be pruned": (
        ("prune", "FILES/student_dw.safetensors", "--out", "OUT", *QUICK),
        ["student_dw.safetensors", "student_net"],
    ),
    "prune nothing": (("prune", "FILES/nothing.safetensors", "--out", "OUT", *QUICK), ["there is no file"]),
    "9 bits": (("quantize", "FILES/good.safetensors", "--bits", "9", "--out", "OUT"), ["--bits", "9"]),
    "1 bit": (("quantize", "FILES/good.safetensors", "--bits", "1", "--out", "OUT"), ["--bits", "1"]),
    "quantize nothing": (("quantize", "FILES/nothing.safetensors", "--out", "OUT"), ["there is no file"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(hw7: Hw7, files: Path, tmp_path: Path, arguments: tuple[str, ...], says: list[str]) -> None:
    """Exit code 1, one line that begins with hw7:, says what and where, and nothing is written."""
    spelled = [word.replace("FILES", str(files)).replace("OUT", str(tmp_path / "out")) for word in arguments]
    code, _, err = hw7(*spelled)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 1
    assert len(lines) == 1, err
    assert lines[0].startswith("hw7: ")
    assert [part for part in says if part not in err] == []
    written = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert written == []


def test_a_folder_in_use_is_told_before_anything_slow(tmp_path: Path) -> None:
    """Torch takes up to half a minute to import on a busy machine, and data must be read with it."""
    code = (
        "import sys\nfrom hw7.cli import app\nsys.argv[0] = 'hw7'\n"
        "try:\n    app()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    with filelock.FileLock(tmp_path / ".lock"):
        done = cold(code, "reproduce", "--profile", "smoke", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr == f"hw7: another hw7 is at work in {tmp_path}; wait for it, or choose another folder\n"
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []


@pytest.mark.slow
def test_a_mistake_in_a_new_process() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hw7", "data", "--data", "imagenet"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hw7: there is no data source 'imagenet'")
    assert done.stderr.count("\n") == 1


def test_a_distillation_by_other_code_in_the_same_folder_is_refused(hw7: Hw7, files: Path, tmp_path: Path) -> None:
    """A student who fixes a loss and trains again must not be shown the old result."""
    shutil.copytree(default_directory() / "solution", tmp_path / "mine" / "solution")
    out = tmp_path / "out"
    options = ("--teacher", files / "good.safetensors", "--solution", tmp_path / "mine", "--out", out, *QUICK)
    assert hw7("distill", "student_dw", *options)[0] == 0
    losses = tmp_path / "mine" / "solution" / "losses.py"
    losses.write_text(losses.read_text().replace("return loss.detach()", "return 2 * loss.detach()"))
    code, _, err = hw7("distill", "student_dw", *options)
    assert code == 1
    assert "holds another run" in err


@pytest.mark.parametrize(
    "again",
    [
        ("train", "student_dw"),
        ("distill", "student_dw", "--teacher", "student_dw.safetensors"),
        ("distill", "student_dw", "--teacher", "good.safetensors", "--temperature", "3"),
        ("distill", "student_dw", "--teacher", "good.safetensors", "--alpha", "0.1"),
        ("distill", "student_dw", "--teacher", "good.safetensors", "--from", "student_dw.safetensors"),
    ],
    ids=["no teacher", "another teacher", "temperature", "alpha", "start"],
)
def test_another_distillation_in_the_same_folder_is_refused(
    hw7: Hw7, files: Path, tmp_path: Path, again: tuple[str, ...]
) -> None:
    """Or the first one's weights would be taken for the second's."""
    assert hw7("distill", "student_dw", "--teacher", files / "good.safetensors", "--out", tmp_path, *QUICK)[0] == 0
    before = (tmp_path / "weights.safetensors").read_bytes()
    words = [files / word if word.endswith(".safetensors") else word for word in again]
    code, _, err = hw7(*words, "--out", tmp_path, *QUICK)
    assert code == 1
    assert "holds another run" in err
    assert (tmp_path / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["train", "student_dw"], ["frobnicate"], ["train", "student_dw", "--out", "x", "--epochs", "0"],
     ["train", "student_dw", "--out", "x", "--optimizer", "lion"], ["summary", "--size", "8"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_line_that_makes_no_sense(
    hw7: Hw7, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = hw7(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: hw7" in err
    assert list(tmp_path.iterdir()) == []


def test_a_stub_names_its_task(hw7: Hw7, files: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "solution"
    shutil.copytree(default_directory() / "solution", own)
    (own / "losses.py").write_text("def distillation_step(*_):\n    raise NotImplementedError('Task 2.2')\n")
    out = tmp_path / "out"
    options = ("--teacher", files / "good.safetensors", "--solution", tmp_path / "mine", "--out", out)
    code, _, err = hw7("distill", "student_dw", *options, *QUICK)
    assert code == 1
    assert "hw7: losses.distillation_step: not done yet: Task 2.2" in err
    assert not out.exists()


@pytest.mark.filterwarnings("ignore:.*Food-11 has")
def test_a_truncated_jpeg_is_named(hw7: Hw7, tmp_path: Path) -> None:
    for split in ("training", "validation"):
        hw7("data", "--split", split, "--limit", 220, "--size", 64, "--out", tmp_path / "images")
    broken = min((tmp_path / "images" / "training").glob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:500])
    options = ("--data", f"food11:{tmp_path / 'images'}", "--out", tmp_path / "out", *SMALL)
    code, _, err = hw7("train", "student_dw", *options)
    assert code == 1
    assert "hw7: " in err
    assert broken.name in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
