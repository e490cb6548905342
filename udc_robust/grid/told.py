"""What a run understood of its config, told before it begins: what is guessed in silence misleads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udc_robust.grid.cells import cells
from udc_robust.grid.images import Images
from udc_robust.grid.schema import RunConfig
from udc_robust.grid.sources import Networks, same_network
from udc_robust.grid.victims import Victim
from udc_robust.names import NONE


def data_told(sets: Sequence[Images]) -> Iterator[str]:
    """How many images of which size and domain, and why of that domain."""
    for images in sets:
        truth = "" if images.truth else "; no ground truth: damage is measured against the clean answer"
        smallest, largest = (f"{height}x{width}" for height, width in (min(images.sizes), max(images.sizes)))
        size = smallest if smallest == largest else f"{smallest} to {largest}"
        yield f"data {images.label}: {len(images.keys)} images, {size} px, domain {images.domain}{truth}"
        yield from (f"  {line}" for line in images.told)


def networks_told(networks: Networks) -> Iterator[str]:
    """Class and domain of each network, and why of that domain."""
    for domain, mine in networks.items():
        for network in mine.values():
            inner, why = getattr(network, "network_domain", domain), getattr(network, "domain_reason", "")
            light = f"domain {inner}" + (f" ({why})" if why else "")
            fed = "" if inner == domain else f"; {domain} images are converted for it and its answers back"
            trained = "" if network.trained else "; NOT TRAINED, its weights are random"
            yield f"network {network.name}: {type(network.network).__name__}, {light}{fed}{trained}"


def sources_told(config: RunConfig, networks: Networks, sources: Networks) -> Iterator[str]:
    """Class and domain of each source that is not under test, and which victims a source is left out for."""
    others = {
        domain: {name: network for name, network in mine.items() if name not in networks[domain]}
        for domain, mine in sources.items()
    }
    yield from (f"source, {line}" for line in networks_told(others))
    for attack in config.attacks:
        for domain, known in sources.items():
            named = [known[source.name] for source in attack.sources or []]
            for victim in networks[domain].values():
                rest = [source.name for source in named if not same_network(source, victim)]
                if len(rest) < len(named):
                    made = f"made on {' and '.join(rest)} alone" if rest else "not made: no network is its own source"
                    yield f"attack {attack.label} on {victim.name}: {made}"


def left_out(config: RunConfig, victims: Sequence[Victim]) -> Iterator[str]:
    """Accesses that are asked for and that a defence does not have, and defences that no attack is for."""
    for victim in {victim.defence_name: victim for victim in victims}.values():
        if victim.defence_name == NONE:
            continue
        asked = {way for attack in config.attacks for way in attack.access or () if _meets(attack, victim)}
        missing = sorted(asked - {"blind", "transfer", *victim.gradients})
        if missing:
            known = ", ".join(["blind", *victim.gradients])
            yield f"defence {victim.defence_name}: no access {', '.join(missing)} (it has {known}): left out"
        if not cells(config.attacks, config.eps, victim.block, victim.gradients, victim.random):
            yield f"defence {victim.defence_name}: no attack is made on it"


def learnt_domains_told(victims: Sequence[Victim]) -> Iterator[str]:
    """Purifiers before images of another domain than they learnt."""
    strange = {
        (victim.defence_name, victim.options.get("purifier"), victim.defence.learnt_domain, victim.network.domain): None
        for victim in victims
        if victim.defence is not None and victim.defence.learnt_domain not in (None, victim.network.domain)
    }
    for name, purifier, learnt, domain in strange:
        yield (
            f"defence {name}: purifier {purifier} learnt {learnt} images, but these are {domain}: it may do worse than "
            "one that was trained on such"
        )


def _meets(attack: object, victim: Victim) -> bool:
    listed = getattr(attack, "defences", None)
    return listed is None or victim.block.label in listed
