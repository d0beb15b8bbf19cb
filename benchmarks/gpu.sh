#!/usr/bin/env bash
# Measures on one GPU what docs/results/gpu.md asks for, in one go. Each part has its own time limit, and writes at once.
#
#   benchmarks/gpu.sh OUT [PART ...]          parts: environment tests pictures kernels rates compiled full (default: all these)
#                                           and findings: the report's findings over seeds, which takes the place of `full`
#
# It needs no network and no installation, only a python3 with torch, torchvision and what hw7 itself imports. Without a GPU
# it runs at toy size. `full` goes on from the folder WORK/full, and leaves it in OUT/full.tar.*, in parts of 16 MB, without
# what can be had again. Environment variables, all with a default:
#
#   WORK=out            where runs, pictures and compiled kernels are kept
#   SECONDS_IN_ALL=570  what all parts together may take: `full` gets what the others left
#   PATIENCE=1          how many times each part's own limit: for a slow machine
#   PROFILE=full        the profile that the part `full` runs (`findings`: quick)
#   ONLY=, JOBS=        its --only and --jobs
#   SEEDS=, PRECISIONS= of `findings`: "0 1 2", "bfloat16 float32"
set -u
cd "$(dirname "$0")/.."
out=$(realpath -m "$1")
shift
parts=${*:-environment tests pictures kernels rates compiled full}
in_all=${SECONDS_IN_ALL:-570}
work=$(realpath -m "${WORK:-out}")
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export HW7_CACHE=$work/cache TORCHINDUCTOR_CACHE_DIR=$work/inductor
mkdir -p "$out" "$work"

pictures=50000 profile=${PROFILE:-} size=128 files=512 images=4096
if ! python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    pictures=64 profile=smoke size=32 files=64 images=64
fi

measure() { # NAME SECONDS COMMAND...: runs it for so long at most, and keeps what it says
    local name=$1 limit=$(($2 * ${PATIENCE:-1}))
    shift 2
    echo "== $name, from $SECONDS s on: $*" | tee -a "$out/log.txt"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$out/log.txt" | tail -n 40
    local code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || echo "== $name ended with code $code" | tee -a "$out/log.txt"
}

for part in $parts; do
    case $part in
    environment)
        measure environment 40 python3 -c '
import importlib.metadata, platform, shutil, torch
cuda = torch.cuda.is_available()
print(platform.platform(), "Python", platform.python_version())
print(torch.cuda.get_device_name() if cuda else "no GPU", "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())
for name in ("torch", "torchvision", "numpy", "pillow", "triton", "kornia"):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "is not installed")
print("nvidia-cuda-mps-control:", shutil.which("nvidia-cuda-mps-control"))'
        ;;
    tests)
        measure tests 120 python3 -m pytest -q -rs -p no:cacheprovider -m "not slow" \
            tests/library/test_cuda_graph.py tests/library/test_augment.py tests/library/test_plates.py
        ;;
    pictures)
        measure pictures 80 python3 -c "
import time, torch
from hw7.data.plates.render import draw
cuda = torch.cuda.is_available()
device = 'cuda' if cuda else 'cpu'
draw('training', 256, $size, device=device)
start = time.perf_counter()
draw('training', $pictures, $size, device=device)
if cuda:
    torch.cuda.synchronize()
print(f'$pictures pictures of $size pixels: {time.perf_counter() - start:.2f} s')"
        ;;
    kernels)
        measure kernels 90 python3 benchmarks/kernels.py "$out/kernels.txt"
        grep -E 'a step in kernels|side by side' "$out/kernels.txt" | tee -a "$out/log.txt"
        ;;
    rates)
        measure rates 170 python3 benchmarks/training.py --size $size --images $images --files $files --repeats 2 \
            --out "$out/training-gpu.md"
        ;;
    compiled)
        measure compiled 90 python3 benchmarks/training.py --size $size --images $images --files 64 --repeats 2 \
            --only teacher --no-usual --compile --out "$out/training-gpu-compiled.md"
        ;;
    full)
        left=$((in_all - SECONDS - 15)) # the rest is for packing
        measure full $((left + 10)) python3 -c 'from hw7.cli import cli; cli()' reproduce --profile ${profile:-full} \
            --out "$work/full" ${ONLY:+--only "$ONLY"} ${JOBS:+--jobs "$JOBS"} \
            --minutes "$(python3 -c "print(($left - 10) / 60)")"
        # A teacher's checkpoint is 180 MB: that run begins anew. The pretrained weights have served once the teacher is done.
        drop=(--exclude='full/runs/*teacher*/checkpoint.pt' --exclude='full/runs/pretraining/checkpoint.pt')
        [ ! -e "$work/full/runs/teacher-pretrained/result.json" ] ||
            drop+=(--exclude='full/runs/pretraining/weights.safetensors')
        tar -C "$work" "${drop[@]}" -cf - full | split -b 16000000 - "$out/full.tar."
        ls -l "$out" | tee -a "$out/log.txt"
        ;;
    findings)
        left=$((in_all - SECONDS - 15))
        measure findings $((left + 10)) python3 benchmarks/findings.py --out "$work/findings" --seeds ${SEEDS:-0 1 2} \
            --profile ${profile:-quick} --precision ${PRECISIONS:-bfloat16 float32} ${ONLY:+--only "$ONLY"} \
            ${JOBS:+--jobs "$JOBS"} --minutes "$(python3 -c "print(($left - 10) / 60)")"
        for folder in "$work"/findings/*/; do
            [ ! -e "$folder/results.json" ] || cp "$folder/results.json" "$out/findings-$(basename "$folder").json"
        done
        ;;
    *)
        echo "there is no part $part" >&2
        exit 2
        ;;
    esac
done
echo "== done after $SECONDS s" | tee -a "$out/log.txt"
