#!/usr/bin/env bash
# The classifiers of `udc-robust classify sibling_study`, after `resnet20_clean`: five minutes each on one core. It
# resumes where it was stopped.
# Example: scripts/train_siblings.sh train=cifar10_train.npz validation=cifar10_test.npz
set -euo pipefail
low='{kind: low_resolution, factor: 2}' jpeg='{kind: jpeg, quality: 10}' dots='{kind: halftone}'
sibling() { # name, mode, representations, then overrides
  udc-robust train classifier sibling "name=resnet20_$1" "mode=$2" "transforms=[$3]" "${@:4}"
  cp "runs/train/resnet20_$1/resnet20_$1".{safetensors,md} checkpoints/classifiers/
}
sibling original clean "$low, $jpeg, $dots" "$@" # they are only shown in its validation
sibling low transformed "$low" "$@"
sibling jpeg transformed "$jpeg" "$@"
sibling halftone transformed "$dots" "$@"
sibling hybrid_low hybrid "$low" "$@"
sibling hybrid_jpeg hybrid "$jpeg" "$@"
sibling hybrid_halftone hybrid "$dots" "$@"
