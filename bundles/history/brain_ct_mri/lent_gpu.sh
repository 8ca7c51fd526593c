#!/bin/bash
# The next training on a GPU that is lent for minutes: structure from label maps with the contrast
# as an input, then real scans in the mix. Everything that takes no GPU is done beforehand.
#
#   lent_gpu.sh pack DATA LABELS PACK   prepare DATA/trainA, trainB and the label maps, in parts
#   lent_gpu.sh levers                  on the GPU: what each setting does to a step, in a minute
#   lent_gpu.sh probe PACK              on the GPU: how many pairs a second are rendered, by block
#   lent_gpu.sh structure PACK RUN      on the GPU: L1 on rendered pairs alone, into RUN/structure
#   lent_gpu.sh mixed PACK RUN          on the GPU: unpaired scans beside them, into RUN/mixed
#   lent_gpu.sh bring RUN OUT           on the GPU: bundles, losses and samples, without Adam's moments
#   lent_gpu.sh all PACK RUN OUT        on the GPU: levers, probe, structure, mixed, bring
#   lent_gpu.sh try DATA LABELS FOLDER  all of it on a CPU in minutes, with tiny networks
#
# Environment: MINUTES_STRUCTURE (4), MINUTES_MIXED (4), STEPS_STRUCTURE (6000), STEPS_MIXED (4000),
# BATCH (8, unpaired), RENDERED (16, rendered pairs a step), BLOCK (64, pairs rendered at once), INIT
# (a bundle to start from), CONTRASTS (a list for --contrasts), PART (15M), LEVERS, OPTIONS of
# `medtranslate train`, PYTHON (python3), and MEDTRANSLATE, the command ("python3 -P -m medtranslate"
# where it is not installed). A phase that stops at its minutes is saved; repeated, it resumes.
# shellcheck disable=SC2086  # MEDTRANSLATE and OPTIONS are several words
set -euo pipefail

MINUTES_STRUCTURE=${MINUTES_STRUCTURE:-4} MINUTES_MIXED=${MINUTES_MIXED:-4}
STEPS_STRUCTURE=${STEPS_STRUCTURE:-6000} STEPS_MIXED=${STEPS_MIXED:-4000}
BATCH=${BATCH:-8} RENDERED=${RENDERED:-16} BLOCK=${BLOCK:-64} PART=${PART:-15M}
INIT=${INIT:-} CONTRASTS=${CONTRASTS:-} EPOCHS=${EPOCHS:-20}
OPTIONS=${OPTIONS---precision bf16 --set cuda_graph=true --set network_arguments.blocks=9}
LEVERS=${LEVERS---device cuda --batch $BATCH --steps 10 --rounds 2 --seconds 60}
PYTHON=${PYTHON:-python3} MEDTRANSLATE=${MEDTRANSLATE:-medtranslate}
ROOT=$(cd "$(dirname "$0")/../../.." && pwd)

pack() { # DATA LABELS PACK
  mkdir -p "$3"
  local lists=()
  for list in fit-A fit-B; do
    if test -f "$1/$list.txt"; then lists+=(--include "$1/$list.txt"); fi
  done
  $MEDTRANSLATE data prepare "$1/trainA" -m ct -o "$3/ct.safetensors" "${lists[@]}"
  $MEDTRANSLATE data prepare "$1/trainB" -m mri -o "$3/mri.safetensors" "${lists[@]}" --force
  $MEDTRANSLATE data labels "$2" -o "$3/labels.npz"
  for file in ct mri; do xz -T0 -6 "$3/$file.safetensors"; done
  (cd "$3" && for file in *.xz *.npz; do split -b "$PART" "$file" "$file.part-"; rm "$file"; done
    sha256sum ./*.part-* >parts.sha256)
}

unpacked() { # PACK: the files, joined beside the parts
  test -f "$1/labels.npz" && return
  (cd "$1" && sha256sum --check --quiet parts.sha256
    for file in ct.safetensors.xz mri.safetensors.xz; do cat "$file".part-* | xz -d >"${file%.xz}"; done
    cat labels.npz.part-* >labels.part && mv labels.part labels.npz)
}

levers() {
  $PYTHON "$ROOT/benchmarks/training_step.py" --levers $LEVERS
}

probe() { # PACK
  unpacked "$1"
  $PYTHON - "$1/labels.npz" "$BLOCK" <<'PY'
import sys
import time
from pathlib import Path

import torch

from medtranslate.label_synthesis import LabelMaps, PairRenderer

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
maps = LabelMaps.read(Path(sys.argv[1]))
renderer = PairRenderer(maps.maps, maps.table, device=device)
largest = int(sys.argv[2])
for count in sorted({max(1, largest // 4), largest}):
    renderer.render(count, seed=0)
    start = time.perf_counter()
    float(renderer.render(count, seed=1).ct.sum())
    seconds = time.perf_counter() - start
    print(f"{device}: {count} pairs at once, {count / seconds:.1f} pairs/s", flush=True)
PY
}

trained() { # RUN MINUTES STEPS SOURCES... : 20 epochs, of which the second half lowers the rate
  local run=$1 minutes=$2 steps=$3
  shift 3
  $MEDTRANSLATE train -o "$run" --resume --network compact --epochs "$EPOCHS" --max-minutes "$minutes" \
    --batch-size "$BATCH" --set "steps_per_epoch=$(((steps + EPOCHS - 1) / EPOCHS))" \
    --set "contrasts=[t1, t1c, t2, flair, pd]" --set "rendered_batch_size=$RENDERED" \
    --set "rendered_block_size=$BLOCK" --set fluid_weight=3 --set cadence.checkpoint_minutes=2 \
    --set cadence.grid_steps=1000 --name brain_ct_mri $OPTIONS "$@"
}

structure() { # PACK RUN
  unpacked "$1"
  local init=()
  if test -n "$INIT"; then init=(--init-from "$INIT"); fi
  trained "$2/structure" "$MINUTES_STRUCTURE" "$STEPS_STRUCTURE" --labels "$1/labels.npz" "${init[@]}" \
    --set adversarial_weight=0 --set cycle_weight=0 --set learning_rate=4e-4
}

mixed() { # PACK RUN: nothing may hide in a cycle, so an MRI's weighs little and noise lies between
  unpacked "$1"
  local contrasts=()
  if test -n "$CONTRASTS"; then contrasts=(--contrasts "$CONTRASTS"); fi
  trained "$2/mixed" "$MINUTES_MIXED" "$STEPS_MIXED" "$1/ct.safetensors" "$1/mri.safetensors" --force \
    --labels "$1/labels.npz" --init-from "$2/structure" "${contrasts[@]}" --set identity_share=0 \
    --set cycle_weight=2 --set mri_cycle_share=0.2 --set intermediate_noise=0.08
}

bring() { # RUN OUT
  mkdir -p "$2"
  for phase in structure mixed; do
    test -d "$1/$phase" || continue
    $MEDTRANSLATE bundle export "$1/$phase" -o "$2/$phase" --name brain_ct_mri --model-version 1.0.0
    find "$1/$phase" -maxdepth 1 \( -name '*.csv' -o -name config.yaml -o -name data.json \
      -o -name run.html \) -exec cp {} "$2/$phase/" \;
    mkdir -p "$2/$phase/samples"
    find "$1/$phase/samples" -name '*.png' | sort | tail -2 | xargs -r -I{} cp {} "$2/$phase/samples/"
  done
}

all() { # PACK RUN OUT: what is done is brought, whatever comes of the rest
  run=$2 out=$3 # not local: the trap runs when every function is over
  trap 'bring "$run" "$out"' EXIT
  levers || true # figures alone: the training goes on
  probe "$1"
  structure "$1" "$2"
  mixed "$1" "$2"
}

try() { # DATA LABELS FOLDER
  export STEPS_STRUCTURE=4 STEPS_MIXED=4 BATCH=1 RENDERED=1 BLOCK=2 EPOCHS=2
  OPTIONS='--device cpu --precision float32 --set network_arguments.width=16 --set discriminator_width=8
    --set network_arguments.blocks=1 --set pool_size=2 --set cadence.grid_steps=0'
  LEVERS='--tiny --steps 1 --rounds 1'
  pack "$1" "$2" "$3/pack"
  all "$3/pack" "$3/run" "$3/out"
}

case ${1:-} in
pack | levers | probe | structure | mixed | bring | all | try) "$@" ;;
*) sed -n '2,23s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
