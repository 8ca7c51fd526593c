#!/bin/bash
# Train the paper's two generators by its protocol, in stretches, on a GPU that is available for
# minutes at a time and exchanges files with the data's machine as small parts.
#
#   paper.sh pack DATA PACK             prepare trainA and trainB and pack them in parts
#   paper.sh train PACK RUN NETWORK     on the GPU: train resnet9 or unet256 for up to MINUTES
#   paper.sh bring RUN PACK             on the GPU: pack the bundle and the log in parts
#   paper.sh unpack PACK FOLDER         join the parts into FOLDER/bundle or FOLDER/*.safetensors
#   paper.sh evaluate DATA REPORT BUNDLE...   make the paper's table, protocol "published"
#
# Environment: EPOCHS (200 as in the paper), BATCH (1 as in the paper), MINUTES of a stretch (9),
# PART (15M, size of a part), OPTIONS of `medtranslate train` (--set compile=true --set cuda_graph=true for a GPU;
# OPTIONS= tries it on a CPU), and MEDTRANSLATE, the command (medtranslate; "python3 -P -m
# medtranslate" where it is not installed).
# A repeated `train` resumes while the machine keeps RUN. On another machine, OPTIONS="...
# --init-from BUNDLE" restores weights and discriminators, but not Adam's moments.
# shellcheck disable=SC2086  # MEDTRANSLATE and OPTIONS are several words
set -euo pipefail

EPOCHS=${EPOCHS:-200} BATCH=${BATCH:-1} MINUTES=${MINUTES:-9} PART=${PART:-15M}
OPTIONS=${OPTIONS---set compile=true --set cuda_graph=true}
MEDTRANSLATE=${MEDTRANSLATE:-medtranslate}
root=$(cd "$(dirname "$0")/../../.." && pwd)
recipes=$root/transforms/whole-image

carry() { # FOLDER PACK: a folder as compressed parts, with their hashes
  mkdir -p "$2"
  tar -C "$1" -cf - . | xz -T0 -6 | split -b "$PART" - "$2/part-"
  (cd "$2" && sha256sum part-* >parts.sha256)
}

joined() { # PACK FOLDER
  (cd "$1" && sha256sum --check --quiet parts.sha256)
  mkdir -p "$2"
  cat "$1"/part-* | xz -d | tar -C "$2" -xf -
}

scratch() { # makes the folder $whole; not local, as the trap runs when every function is over
  whole=$(mktemp -d)
  trap 'rm -rf "$whole"' EXIT
}

pack() {
  scratch
  $MEDTRANSLATE data prepare "$1/trainA" -m ct -o "$whole/ct.safetensors" --recipes "$recipes"
  $MEDTRANSLATE data prepare "$1/trainB" -m mri -o "$whole/mri.safetensors" --recipes "$recipes" --force
  carry "$whole" "$2"
}

train() {
  local slices=$2/slices
  test -d "$slices" || joined "$1" "$slices"
  $MEDTRANSLATE train "$slices/ct.safetensors" "$slices/mri.safetensors" -o "$2/$3" --resume \
    --recipes "$recipes" --network "$3" --epochs "$EPOCHS" --batch-size "$BATCH" --name "paper_$3" \
    --max-minutes "$MINUTES" --set cadence.grid_steps=5000 --force $OPTIONS
}

bring() { # weights, discriminators, configs and the log; not Adam's moments
  scratch
  $MEDTRANSLATE bundle export "$1" -o "$whole/bundle"
  find "$1" -maxdepth 1 \( -name '*.csv' -o -name config.yaml \) -exec cp {} "$whole/" \;
  carry "$whole" "$2"
}

evaluate() {
  local data=$1 report=$2
  shift 2
  $MEDTRANSLATE evaluate "$@" --ct "$data/testA" --mri "$data/testB" --ct-reference "$data/trainA" \
    --mri-reference "$data/trainB" --protocol published -o "$report"
}

case ${1:-} in
pack | train | bring | evaluate) "$@" ;;
unpack) joined "$2" "$3" ;;
*) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
