#!/usr/bin/env bash
# A channel that learns against a restorer, and that restorer told of it and of each fixed channel: an hour and a half on one core.
# Example: scripts/train_jammers.sh hdr mine.safetensors     (a folder of panoramas, a parent, overrides of the config)
set -euo pipefail
hdr=${1:?folder of HDR panoramas} parent=${2:-nafnet_mini_hardened}
names=()
train() { # name, channel, parent, then what differs from the config
  udc-robust finetune nafnet_mini_jammer train.sources="$hdr" name="$1" channel="$2" parent="$3" "${@:4}"
  names+=("runs/train/$1/$1.safetensors")
}
train jammer learnt "$parent" "${@:3}"
learnt=runs/train/jammer/jammer
train jammed "${learnt}_jammer.safetensors" "$learnt.safetensors" steps=1000 validate_every=500 "${@:3}"
for channel in blur fields signs bins; do
  train "jammed_$channel" "$channel" "$parent" steps=1200 validate_every=600 "${@:3}"
done
echo "udc-robust evaluate jammer attacks.4.channel=${learnt}_jammer.safetensors restorers='[$parent, $(IFS=,; echo "${names[*]}")]'"
