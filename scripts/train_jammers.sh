#!/usr/bin/env bash
# One restorer for each channel of the attacker's budget, and one beside a channel that learns: ceilings for its class.
# Example: scripts/train_jammers.sh nafnet_mini steps=500     (a parent, then overrides of configs/finetune/nafnet_mini_jammer)
set -euo pipefail
parent=${1:-nafnet_mini}
names=() attacks=()
for channel in blur fields signs bins learnt; do
  udc-robust finetune nafnet_mini_jammer name="jammer_$channel" parent="$parent" channel="$channel" "${@:2}"
  names+=("runs/train/jammer_$channel/jammer_$channel.safetensors")
done
echo "udc-robust evaluate jammer restorers='[$parent, nafnet_mini_adversarial, $(IFS=,; echo "${names[*]}")]'"
