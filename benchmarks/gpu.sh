#!/usr/bin/env bash
# Measures on one GPU what docs/results/gpu.md asks for, in one go of 9.5 minutes, and goes on where it was stopped.
#
#   benchmarks/gpu.sh [--toy] OUT [PART ...]
#
#   PART    tests environment pictures kernels rates full (default: these, in this order); and, where named,
#           compiled, and findings: the report's findings over seeds, which takes the place of `full`
#   OUT     gets log.txt, all that is said, as soon as it is said; and full.01 to full.07, the pack of `full`: 8 files
#           of at most 16 MB. benchmarks/gpu_page.py puts what is in it into docs/results/gpu.md
#   --toy   all of it on the CPU, in two minutes, at a size that measures nothing; without a GPU it is taken anyway
#
# The same command goes on, however it was stopped, and on another machine with nothing but OUT: a part for which the log
# says "== PART ended with code 0" is left out; `full` goes on from WORK/full or, where that is missing, from the pack.
# It needs no network and no installation, only a python3 with torch, torchvision and what hw7 itself imports.
# Environment variables, all with a default:
#
#   WORK=out            where runs, pictures and compiled kernels are kept
#   SECONDS_IN_ALL=570  what all parts together may take: `full` gets what the others left
#   PROFILE=full        the profile that the part `full` runs (`findings`: quick)
#   ONLY=, JOBS=        its --only and --jobs
#   SEEDS=, PRECISIONS= of `findings`: "0 1 2", "bfloat16 float32"
set -u
# Of the 570 seconds, the parts before `full` may take 285 in all, so that most is left for it whatever happens.
declare -A limits=([tests]=85 [environment]=10 [pictures]=30 [kernels]=45 [rates]=115 [compiled]=90)
ending=50 # seconds of `full` for its last epoch, page and pack

settings=() toy='' words=()
for word; do
    if [ "$word" = --toy ]; then toy=yes; else words+=("$word"); fi
done
[ ${#words[@]} -gt 0 ] || { sed -n '2,/^set/ { /^#/ s/^# \{0,1\}//p }' "$0" >&2; exit 2; }
parts=("${words[@]:1}")
[ ${#parts[@]} -gt 0 ] || parts=(tests environment pictures kernels rates full)
for part in "${parts[@]}"; do
    [[ -n ${limits[$part]:-} || $part = full || $part = findings ]] || { echo "there is no part $part" >&2; exit 2; }
done
for name in SECONDS_IN_ALL PROFILE ONLY JOBS SEEDS PRECISIONS; do
    [ -z "${!name:-}" ] || settings+=("$name=${!name@Q}")
done
out=$(realpath -m "${words[0]}")
root=$(realpath "$(dirname "$0")/..")
work=$(realpath -m "${WORK:-$root/out}")
mkdir -p "$out" "$work" && cd "$root" || exit 2
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export HW7_CACHE=$work/cache TORCHINDUCTOR_CACHE_DIR=$work/inductor
[ -z "$toy" ] || export CUDA_VISIBLE_DEVICES=
machine=$(python3 -c '
import os, platform, time, torch
from importlib.metadata import version
device = libraries = ""
if torch.cuda.is_available():
    device = torch.cuda.get_device_name()
    libraries = f" (CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()})"
versions = f"Python {platform.python_version()}, torch {torch.__version__}{libraries}"
more = ", ".join(f"{name} {version(name)}" for name in ("torchvision", "numpy"))
cores, today = len(os.sched_getaffinity(0)), time.strftime("%d %B %Y", time.gmtime())
print(device or "no GPU", f"with {cores} CPU cores; {versions}, {more}; {today}", sep=", ")') || exit 1

in_all=${SECONDS_IN_ALL:-570} patience=1
mapfile -t tests < <(grep -l 'cuda.is_available' tests/library/*.py)
pictures=50000 size=128 files=512 images=4096 repeats=2 profile=full only=${ONLY:-} jobs=${JOBS:-}
if [[ $machine == "no GPU"* ]]; then
    toy=yes in_all=$((10 * in_all)) patience=10 # the limits are no measure of a CPU
    export OMP_NUM_THREADS=1                   # on a busy machine, two threads wait for each other
    tests=(tests/library/test_cuda_graph.py)
    pictures=64 size=32 files=4 images=8 repeats=1 profile=smoke only=${ONLY:-student-weak,plain-1mb} jobs=${JOBS:-1}
fi

say() { # a line of its own, whatever stands before it
    printf '\n== %s\n' "$*" | tee -a "$out/log.txt"
}

measure() { # PART SECONDS COMMAND...: runs it for so long at most, keeps what it says, and gives its exit code
    local part=$1 limit=$2
    shift 2
    say "$part, from $SECONDS s on, for at most $limit s: $*"
    # In the foreground: in the script's own process group, so that what ends the script leaves nothing behind.
    timeout --foreground --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$out/log.txt"
    local code=${PIPESTATUS[0]}
    say "$part ended with code $code"
    return "$code"
}

minutes() { # SECONDS: as hw7 takes them
    printf '%d.%02d' $(($1 / 60)) $(($1 % 60 * 100 / 60))
}

command=("${settings[@]}" benchmarks/gpu.sh ${toy:+--toy} OUT "${words[@]:1}")
say "run on $machine: ${command[*]}"
for part in "${parts[@]}"; do
    limit=$((${limits[$part]:-0} * patience))
    left=$((in_all - SECONDS))
    case $part in
    full | findings) ;;
    *) ! grep -qsx "== $part ended with code 0" "$out/log.txt" || continue ;;
    esac
    case $part in
    tests)
        measure tests $limit python3 -m pytest -q -rs -p no:cacheprovider -m "not slow" "${tests[@]}"
        ;;
    environment)
        measure environment $limit python3 -c '
import importlib.metadata, platform, shutil
print(platform.platform())
for name in ("torch", "torchvision", "numpy", "pillow", "triton", "kornia"):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "is not installed")
print("nvidia-cuda-mps-control:", shutil.which("nvidia-cuda-mps-control"))'
        ;;
    pictures)
        measure pictures $limit python3 -c "
import time, torch
from hw7.data.plates.render import draw
cuda = torch.cuda.is_available()
device = 'cuda' if cuda else 'cpu'
draw('training', min($pictures, 256), $size, device=device)
start = time.perf_counter()
draw('training', $pictures, $size, device=device)
if cuda:
    torch.cuda.synchronize()
print(f'{$pictures:,} pictures of $size pixels: {time.perf_counter() - start:.2f} s')"
        ;;
    kernels)
        measure kernels $limit python3 benchmarks/kernels.py
        ;;
    rates)
        measure rates $limit python3 benchmarks/training.py --size $size --images $images --files $files --repeats $repeats
        ;;
    compiled)
        measure compiled $limit python3 benchmarks/training.py --size $size --images $images --files 64 --repeats 2 \
            --only teacher --no-usual --compile
        ;;
    full)
        reproduce=(python3 -c 'from hw7.cli import cli; cli()' reproduce --profile "${PROFILE:-$profile}"
            ${only:+--only "$only"} --out "$work/full" --pack "$out/full")
        unpack=()
        [ -e "$work/full/identity.json" ] || [ ! -e "$out/full.01" ] || unpack=(--unpack "$out/full")
        measure full $((left > 40 ? left - 25 : 15)) "${reproduce[@]}" "${unpack[@]}" ${jobs:+--jobs "$jobs"} \
            --minutes "$(minutes $((left > ending ? left - ending : 0)))"
        case $? in
        0 | 75) ;; # done, or out of minutes: both are packed
        *) measure packing $((15 * patience)) "${reproduce[@]}" --minutes 0 ;;
        esac
        find "$out" -type f -printf '%9s bytes in %f\n' | sort -k4 | tee -a "$out/log.txt"
        ;;
    findings)
        read -ra seeds <<< "${SEEDS:-0 1 2}"
        read -ra precisions <<< "${PRECISIONS:-bfloat16 float32}"
        measure findings $((left > 20 ? left - 5 : 15)) python3 benchmarks/findings.py --out "$work/findings" \
            --profile "${PROFILE:-quick}" --seeds "${seeds[@]}" --precision "${precisions[@]}" \
            ${ONLY:+--only "$ONLY"} ${JOBS:+--jobs "$JOBS"} --minutes "$(minutes $((left > 25 ? left - 25 : 0)))"
        for folder in "$work"/findings/*/; do
            [ ! -e "$folder/results.json" ] || cp "$folder/results.json" "$out/findings-$(basename "$folder").json"
        done
        ;;
    esac
done
say "done after $SECONDS s"
