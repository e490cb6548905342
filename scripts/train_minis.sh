#!/usr/bin/env bash
# Everything that made the shipped checkpoints, in order: half a day on two cores. It resumes where it was stopped.
# Example: scripts/train_minis.sh hdr     (a folder of panoramas, as `udc-robust fetch --out hdr` makes it)
set -euo pipefail
scripts/make_sets.sh "${1:?folder of HDR panoramas}"
for name in nafnet_mini_{start,finish} discnet_mini_{start,middle,finish} udcunet_mini inverse_halftone_mini; do
  udc-robust train restorer "$name"
done
ship() { cp "runs/train/${2:-$1}/$1.safetensors" "runs/train/${2:-$1}/$1.md" checkpoints/; } # name, its folder
ship nafnet_mini nafnet_mini_finish
ship discnet_mini discnet_mini_finish
ship udcunet_mini
ship inverse_halftone_mini
ship_purifier() { rm -rf "checkpoints/$1" && cp -r "runs/train/$1/$1" checkpoints/; }
udc-robust train diffusion purifier_mini
ship_purifier purifier_mini
for name in nafnet_mini_{adversarial,both,purified,noise} discnet_mini_adversarial; do
  udc-robust finetune "$name"
  ship "$name"
done
udc-robust finetune purifier_mini_hardened
ship_purifier purifier_mini_hardened
# On fresh renders, which is where the hours go.
udc-robust finetune nafnet_mini_hardened train.sources="$1"
udc-robust interpolate nafnet_mini runs/train/nafnet_mini_hardened/nafnet_mini_hardened.safetensors \
  --images runs/sets/tuning/lq --gt runs/sets/tuning/gt --crop 128 --shares 0.8 --clean-budget 1 \
  --name nafnet_mini_hardened --out runs/mixed
cp runs/mixed/nafnet_mini_hardened.{safetensors,md} checkpoints/
for name in {nafnet_deep,discnet_mini,udcunet_mini}_hardened; do
  udc-robust finetune "$name" train.sources="$1"
  ship "$name"
done
# A channel that learnt against one of them, and the restorer that knows it.
udc-robust finetune nafnet_mini_jammer train.sources="$1"
jammer=runs/train/nafnet_mini_jammer/nafnet_mini_jammer
cp ${jammer}_jammer.safetensors checkpoints/channels/jammer_mini.safetensors
udc-robust finetune nafnet_mini_jammer train.sources="$1" name=nafnet_mini_jammed channel=jammer_mini parent=$jammer.safetensors steps=1000
ship nafnet_mini_jammed
