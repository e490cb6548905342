#!/usr/bin/env bash
# Further seeds of a recipe of hardening, for the large study: one training each, resumable.
# Example: scripts/train_seeds.sh nafnet_mini_adversarial 1 2     (prints the command of the study with them)
set -euo pipefail
recipe=${1:?name of a config of configs/finetune}
blocks=""
for seed in "${@:2}"; do
  udc-robust finetune "$recipe" name="${recipe}_seed$seed" seed="$seed"
  blocks+=", {name: ${recipe}_$seed, weights: runs/train/${recipe}_seed$seed/${recipe}_seed$seed.safetensors}"
done
echo "udc-robust evaluate large_study restorers=\"[nafnet_mini, nafnet_mini_noise, nafnet_mini_adversarial, nafnet_mini_hardened$blocks]\""
