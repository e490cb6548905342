#!/usr/bin/env bash
# The classifiers of `udc-robust classify sibling_study`, after `resnet20_clean` and `resnet20_hybrid`: six minutes each
# on one core. It resumes where it was stopped.
# Example: scripts/train_siblings.sh train=cifar10_train.npz validation=cifar10_test.npz
set -euo pipefail
sibling() { # name, mode, representation, then overrides
  udc-robust train classifier sibling "name=$1" "mode=$2" "transforms=[{kind: $3}]" "${@:4}"
  cp "runs/train/$1/$1".{safetensors,md} checkpoints/classifiers/
}
low='low_resolution, factor: 2' jpeg='jpeg, quality: 10'
sibling resnet20_original clean halftone "$@" # the halftone is only shown in its validation
sibling resnet20_low transformed "$low" "$@"
sibling resnet20_jpeg transformed "$jpeg" "$@"
sibling resnet20_halftone transformed halftone "$@"
sibling resnet20_hybrid_low hybrid "$low" "$@"
sibling resnet20_hybrid_jpeg hybrid "$jpeg" "$@"
