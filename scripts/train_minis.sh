#!/usr/bin/env bash
# Everything that made the shipped checkpoints, in order: some hours on two cores. It resumes where it was stopped.
# Example: scripts/train_minis.sh hdr     (a folder of panoramas, as `udc-robust fetch --out hdr` makes it)
set -euo pipefail
hdr=${1:?folder of HDR panoramas}
test=(circus_arena st_peters_square_night pmndrs_esplanade empty_warehouse_01 modern_buildings_2 venice_sunset vestibule)
family=(--psf phone --psf phone_turned --psf phone_counterturned --psf phone_fine --psf phone_coarse --psf phone_dense)

only=() exclude=()  # the test panoramas are validated on and never trained on
for name in "${test[@]}"; do
  if compgen -G "$hdr/$name.*" >/dev/null; then only+=(--only "$name") exclude+=(--exclude "$name"); fi
done
for set in sets sets_family; do
  psf=(--psf phone)
  if [ "$set" = sets_family ]; then psf=("${family[@]}"); fi
  udc-robust synth "$hdr" --out "runs/$set/train" "${psf[@]}" --per-source 16 --licence CC0-1.0 "${exclude[@]}"
  udc-robust synth "$hdr" --out "runs/$set/validation" "${psf[@]}" --per-source 6 --licence CC0-1.0 "${only[@]}"
done
for name in nafnet_mini_start nafnet_mini discnet_mini_start discnet_mini_middle discnet_mini; do
  udc-robust train restorer "$name"
done
ship() { cp "runs/train/$1/$1.safetensors" "runs/train/$1/$1.md" checkpoints/; }
ship nafnet_mini
ship discnet_mini
udc-robust train diffusion purifier_mini
rm -rf checkpoints/purifier_mini
cp -r runs/train/purifier_mini/purifier_mini checkpoints/
for name in nafnet_mini_{adversarial,both,purified,noise} discnet_mini_adversarial; do
  udc-robust finetune "$name"
  ship "$name"
done
