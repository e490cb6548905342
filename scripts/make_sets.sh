#!/usr/bin/env bash
# The simulated sets that trainings and studies use, from a folder of HDR panoramas: about five minutes on two cores.
# Example: scripts/make_sets.sh hdr     (a folder of panoramas, as `udc-robust fetch --out hdr` makes it)
set -euo pipefail
hdr=${1:?folder of HDR panoramas}
# Never trained on: attacked and judged on the first five, strengths and levels tuned on the other two.
test=(st_peters_square_night pmndrs_esplanade empty_warehouse_01 modern_buildings_2 venice_sunset)
tuning=(circus_arena vestibule)
family=(--psf phone --psf phone_turned --psf phone_counterturned --psf phone_fine --psf phone_coarse --psf phone_dense)

synth() { # name of the set, then options
  udc-robust synth "$hdr" --out "runs/$1" --licence CC0-1.0 "${@:2}"
}
only() { # --only or --exclude, then names: those of them that the folder has
  for name in "${@:2}"; do
    if compgen -G "$hdr/$name.*" >/dev/null; then echo "$1" "$name"; fi
  done
}

# shellcheck disable=SC2046
{
  synth sets/train --psf phone --per-source 16 $(only --exclude "${test[@]}" "${tuning[@]}")
  synth sets/validation --psf phone --per-source 6 $(only --only "${test[@]}" "${tuning[@]}")
  synth sets_family/train "${family[@]}" --per-source 16 $(only --exclude "${test[@]}" "${tuning[@]}")
  synth sets_family/validation "${family[@]}" --per-source 6 $(only --only "${test[@]}" "${tuning[@]}")
  synth sets/test --psf phone --per-source 2 $(only --only "${test[@]}")
  synth sets/other_display --psf phone_dense --per-source 2 $(only --only "${test[@]}")
  synth sets/tuning --psf phone --per-source 4 $(only --only "${tuning[@]}")
}
