"""Finding, building and loading restorers: ours, basicsr's, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from udc_robust.errors import UserError, unknown_name
from udc_robust.files import shipped, shipped_weights
from udc_robust.names import Flips
from udc_robust.networks.user_code import build, network_builder
from udc_robust.networks.weights import facts_of, load_into, no_code, read_weights, without_prefix
from udc_robust.optics.domains import DOMAINS
from udc_robust.progress import note
from udc_robust.restorers.basicsr_bridge import NETWORKS, basicsr_network, own_network
from udc_robust.restorers.deconvolution import CLASSICAL
from udc_robust.restorers.mean_of import MeanOf
from udc_robust.restorers.restorer import Restorer as Restorer
from udc_robust.restorers.weight_norm_names import published_state_dict

WITHOUT_WEIGHTS: dict[str, type[nn.Module]] = {**CLASSICAL, "mean_of": MeanOf}
"""Restorers without a weights file of their own, by name."""

_CHANNELS = ("channels", "img_channel", "in_nc")
"""Where networks say how many channels their images have."""


@dataclass(frozen=True)
class RestorerSpec:
    """What the user says about a restorer.

    Attributes:
        network: a shipped checkpoint, a published network's config, a network of ours or of basicsr, or
            ``package.module:name`` / ``file.py:name`` (a class or a function); None: what ``name`` says.
        options: constructor arguments.
        weights: ``.pth`` or ``.safetensors``; files that we trained know their own network and options.
        domain: colour domain the network works in; None: what the network declares, or the data's own.
        flips: answer with the mean over the eight flips and quarter turns, or two of them, see `Restorer`.
    """

    name: str
    network: str | None = None
    options: Mapping[str, Any] | None = None
    weights: str | None = None
    domain: str | None = None
    flips: Flips = False


def shipped_checkpoints() -> dict[str, Path]:
    """Names and files of the checkpoints that come with the package."""
    return shipped_weights()


def published_networks() -> dict[str, Path]:
    """Names and configs of the published networks in their official sizes."""
    return {path.stem: path for path in sorted((shipped("configs") / "networks").glob("*.yaml"))}


def shipped_means() -> dict[str, Path]:
    """Names and configs of the means of shipped checkpoints, see `mean_of`."""
    return {path.stem: path for path in sorted(shipped("checkpoints").glob("*.yaml"))}


def described() -> dict[str, Path]:
    """What a config that ships describes whole, by name: published networks and means."""
    return {**published_networks(), **shipped_means()}


def restorer_names() -> list[str]:
    """Every name that a restorer can be called by, beside files and code of one's own."""
    return [*NETWORKS, *WITHOUT_WEIGHTS, *described(), *shipped_checkpoints()]


def _written_out(spec: RestorerSpec) -> RestorerSpec:
    """Fill in network and options where the user names a published network or a mean that ships."""
    path = described().get(spec.network or spec.name)
    if path is None:
        return spec
    facts = yaml.safe_load(path.read_text(encoding="utf-8"))
    return replace(spec, network=facts["network"], options={**facts["options"], **(spec.options or {})})


def find_network(name: str) -> Callable[..., nn.Module]:
    """Find a network class by our name or basicsr's; ``package.module:name`` and ``file.py:name`` may be functions.

    Raises:
        UserError: nothing of that name; the nearest known name is suggested.
    """
    if name in NETWORKS:
        return own_network(name)
    if name in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[name]
    if ":" in name or "." in name:
        return network_builder(name)
    try:
        return basicsr_network(name)
    except UserError:
        raise unknown_name("network", name, restorer_names()) from None


def build_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Construct a network by name.

    Raises:
        UserError: an unknown name, or options that its constructor does not take.
    """
    network = build(find_network(name), name, options)
    if getattr(network, "channels_last", False):  # never for networks of others, which may call `view`
        network.to(memory_format=torch.channels_last)
    return network


def load_restorer(spec: RestorerSpec, domain: str, device: str | torch.device = "cpu", seed: int = 0) -> Restorer:
    """Build a restorer for images of ``domain``.

    A network without weights gets random ones (from ``seed``) and is marked untrained.
    """
    spec = _written_out(spec)
    weights = spec.weights
    alike = shipped_checkpoints().get(spec.network or spec.name)
    if weights is None and alike is not None:
        weights = str(alike)
    if weights and (spec.network or spec.name) in WITHOUT_WEIGHTS:
        raise UserError(f"restorer {spec.name!r} has no weights: leave `weights` {weights} away, or set `network`")
    state, facts = _read(weights) if weights else (None, {})
    if spec.network is None and (spec.name in NETWORKS or spec.name in WITHOUT_WEIGHTS):
        spec = replace(spec, network=spec.name)
    if state is not None and spec.network is None and alike is None and "network" not in facts:
        spec = _recognised(spec, state)
        alike = shipped_checkpoints().get(spec.network or "")
    if alike is not None and "network" not in facts:  # bare weights of a network like the one that ships
        facts = {key: value for key, value in _read(str(alike))[1].items() if key in ("network", "options", "domain")}
    network_name = spec.network
    if spec.network is None or spec.network in shipped_checkpoints():
        network_name = no_code(facts["network"], str(weights)) if "network" in facts else None
    if network_name is None:
        raise unknown_name("restorer", spec.name, restorer_names())
    options = facts.get("options", {}) if spec.options is None else dict(spec.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(network_name, options)
    if state is not None:
        try:
            load_into(network, state, str(weights))
        except UserError as error:
            guess = looks_like(state)
            raise UserError(f"{error}; it looks like {guess!r}" if guess else str(error)) from error
    reason, network_domain = _domain_of(network, spec, facts, domain)
    weightless = bool(getattr(network, "weightless", False))
    origin = str(weights) if weights else network.origin if weightless else f"random weights, seed {seed}"
    made_from = vars(network) if isinstance(network, MeanOf) and state is None else facts
    restorer = Restorer(
        spec.name, network, domain=domain, network_domain=network_domain, trained=weightless or state is not None,
        origin=str(origin), architecture={"network": network_name, "options": options},
        parent=made_from.get("parent"), parent_sha256=made_from.get("parent_sha256"),
        ancestors=made_from.get("ancestors"), domain_reason=reason, flips=spec.flips, channel=made_from.get("channel"),
    )  # fmt: skip
    return restorer.to(device).eval()


def _domain_of(network: nn.Module, spec: RestorerSpec, facts: Mapping[str, Any], domain: str) -> tuple[str, str]:
    """Who says which colour domain a network works in, and which, before images of ``domain``.

    Raises:
        UserError: an unknown one, or RAW planes where the network takes pictures or the other way round.
    """
    if isinstance(network, MeanOf) and spec.domain not in (None, network.domain):
        raise UserError(f"restorer {spec.name!r}: leave `domain` away, the members of a mean know their own")
    sayings = {
        "as you say": spec.domain, "its weights say so": facts.get("domain"),
        "its class says so": getattr(network, "domain", None),
        "nobody says another, so that of the data; say `domain` of the restorer if it works in another": domain,
    }  # fmt: skip
    reason, network_domain = next((why, said) for why, said in sayings.items() if said)
    if network_domain not in DOMAINS:
        raise unknown_name("domain", str(network_domain), DOMAINS)
    if domain == "raw":
        reason, network_domain = "RAW planes convert to nothing else", "raw"
        if 4 not in (getattr(network, name, 3) for name in _CHANNELS):
            raise UserError(
                f"restorer {spec.name!r} declares no four channels, which RAW planes have: "
                "give its class `channels = 4`, or set `develop: true` of the data"
            )
    elif network_domain == "raw":
        raise UserError(f"restorer {spec.name!r} is for RAW planes: give it data of `kind: raw` with `develop: false`")
    return reason, network_domain


def _recognised(spec: RestorerSpec, state: Mapping[str, Tensor]) -> RestorerSpec:
    """The spec of weights that do not say which network they are of, by their names and shapes.

    Raises:
        UserError: they are of no published and no shipped network.
    """
    guess = looks_like(state)
    if guess is None:
        raise UserError(
            f"restorer {spec.name!r}: {spec.weights} does not say which network it is: set `network` (and `options`)"
        )
    note(f"{spec.weights}: taken for {guess} by its names and shapes; say `network` if it is another")
    return _written_out(replace(spec, network=guess))


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """The published or shipped network whose names and shapes a state dict has, or None."""
    recipes = {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in published_networks().items()}
    for name in shipped_checkpoints():
        facts = _network_facts(name)
        if all(facts["options"] != known["options"] for known in recipes.values()):  # variants of one network
            recipes[name] = facts
    for name, facts in recipes.items():
        with torch.device("meta"):
            theirs = build_network(facts["network"], facts["options"]).state_dict()
        for layout in (theirs, published_state_dict(theirs)):
            inner = without_prefix(state, layout.keys())
            if {key: tensor.shape for key, tensor in layout.items()} == {k: v.shape for k, v in inner.items()}:
                return name
    return None


def _network_facts(name: str) -> dict[str, Any]:
    """Network, options and domain of a shipped checkpoint: what other weights of its kind share with it."""
    facts = _read(str(shipped_checkpoints()[name]))[1]
    return {key: facts[key] for key in ("network", "options", "domain") if key in facts}


def parent_of_shipped(name: str) -> str | None:
    """What a shipped checkpoint was made from, of a mean its first member; None of others and of what has no parent."""
    if name in shipped_means():
        return str(yaml.safe_load(shipped_means()[name].read_text(encoding="utf-8"))["options"]["of"][0])
    path = shipped_checkpoints().get(name)
    return None if path is None else _read(str(path))[1].get("parent")


def _read(weights: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state, metadata = read_weights(weights)
    return state, facts_of(metadata, weights)
