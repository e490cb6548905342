"""The schema of a run's YAML file, as every task shares it; a task adds its data and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from udc_robust.config_file import FileName, Strict, as_lists, told, twice_in
from udc_robust.errors import unknown_name
from udc_robust.grid.attack_schema import Eps
from udc_robust.grid.bands import with_bands
from udc_robust.grid.corruption_config import CorruptionConfig
from udc_robust.grid.metric_config import MetricConfig
from udc_robust.grid.presets import blocks, with_preset
from udc_robust.grid.published import PublishedConfig
from udc_robust.limits import Count, Device, Seed
from udc_robust.names import NONE
from udc_robust.networks.short_names import named_by_file


class RunConfig(Strict):
    """One run: data x networks x defences x attacks x eps.

    Attributes:
        draws: answers of a random defence that are judged.
        preset: attacks that stand before ``attacks`` under a name to quote, see `presets`; without attacks and
            corruptions: standard.
        validation: images on which strengths of defences with ``match`` are tuned; never those of ``data``.
        corruptions: threats that nobody aims, see `CorruptionConfig`; a run may have them and no attack.
        metrics: figures beside the task's own.
        published: papers whose figures the report shows beside victims of this run.
        save_images: keep all attacked images.
        gallery: images, evenly over each data block, whose pictures are kept for the report.
    """

    network_key: ClassVar[str] = ""
    short_forms: ClassVar[Mapping[str, str | None]] = {
        "defences": "kind", "attacks": "method", "eps": None, "metrics": "metric", "corruptions": "kind",
        "published": "system",
    }  # fmt: skip

    task: str
    name: FileName
    out: Path | None = None
    seed: Seed = 0
    device: Device = "cpu"
    batch_size: Count
    data: list[Any] = Field(min_length=1)
    validation: Any = None
    defences: list[Any] = Field(default_factory=lambda: ["none"], min_length=1, validate_default=True)
    draws: Count = 8
    preset: str | None = None
    attacks: list[Any] = Field(default_factory=list)
    eps: list[Eps] = Field(min_length=1)
    corruptions: list[CorruptionConfig] = Field(default_factory=list)
    metrics: list[MetricConfig] = Field(default_factory=list)
    published: list[PublishedConfig] = Field(default_factory=list)
    round_8_bit: bool = True
    save_images: bool = True
    gallery: Annotated[int, Field(ge=0)] = 4

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """``restorers: [nafnet_mini]`` and a single block of data are fine, and a preset stands for its attacks."""
        values = as_lists(values, {**RunConfig.short_forms, **cls.short_forms})
        if not isinstance(values, Mapping):
            return values
        blocks = [named_by_file(block) for block in values.get(cls.network_key) or []]
        networks = [str(block["name"]) for block in blocks if isinstance(block, Mapping) and "name" in block]
        return told(lambda: with_preset(with_bands(values), cls.model_fields["task"].default, networks))

    @property
    def all_defences(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and options of every defence: the files that they read by default are part of what was run."""
        return [(block.kind, block.options) for block in self.defences]

    @model_validator(mode="after")
    def _preset_as_it_is(self) -> RunConfig:
        """Whoever quotes a preset ran its attacks, and not others of their names."""
        if self.preset is not None:
            mine = {attack.name: attack for attack in self.attacks}
            for block in blocks(self.preset, self.task, [network.name for network in self.networks]):
                theirs = type(self.attacks[0]).model_validate(block)
                if mine[theirs.name] != theirs:
                    raise ValueError(f"preset {self.preset} has an attack {theirs.name!r}: give yours another name")
        return self

    @property
    def networks(self) -> Sequence[Any]:
        """The blocks of the networks under test."""
        return getattr(self, self.network_key)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        self._check_distinct()
        self._check_names()
        self._check_starts()
        _ = self.source_blocks
        linear = any(getattr(block, "domain", None) == "linear" for block in self.data)
        for attack in self.attacks:
            for eps in self.eps if attack.eps is None else attack.eps:
                if attack.norm == "linf" and eps > 1 and not linear:
                    raise ValueError(f"eps {eps:g} is over the range of an image [0,1]: did you mean {eps:g}/255?")
        return self

    def _check_distinct(self) -> None:
        """Labels tell blocks apart."""
        found = {"data": [block.label for block in self.data if block.label is not None]}
        found[self.network_key.removesuffix("s")] = [network.name for network in self.networks]
        found["defence"] = [defence.label for defence in self.defences]
        found["attack"] = [f"{attack.label} ({attack.norm})" for attack in self.attacks]
        found["corruption"] = self._corruption_titles()
        found["metric"] = [block.name or block.metric for block in self.metrics]
        for what, labels in found.items():
            if twice := twice_in(labels):
                raise ValueError(f"two {what} blocks are called {twice!r}: give them different names")

    def _corruption_titles(self) -> list[str]:
        if not self.corruptions:
            return []
        from udc_robust.grid.corrupting import cells_of  # loads torch

        return [cell.title for block in self.corruptions for cell in cells_of(block)]

    def _check_names(self) -> None:
        """Blocks that name other blocks must find them."""
        defences, networks = [d.label for d in self.defences], [n.name for n in self.networks]
        unmatched, one = [d.label for d in self.defences if d.match is None], self.network_key.removesuffix("s")
        named = [(f"defence of attack {a.label!r}", name, defences) for a in self.attacks for name in a.defences or []]
        for defence in self.defences:
            named += [(f"{one} of defence {defence.label!r}", name, networks) for name in defence.networks or []]
            if defence.match is not None:
                named.append((f"match of defence {defence.label!r}", defence.match, unmatched))
                if self.validation is None:
                    raise ValueError(
                        f"defence {defence.label!r} has `match`: give the `validation` images to tune it on"
                    )
        behind = [(d.label, d.networks or networks) for d in self.defences if d.kind != NONE]
        victims = [*networks, *(f"{label} + {name}" for label, names in behind for name in names)]
        named += [(f"victim of published {block.system!r}", block.victim, victims) for block in self.published]
        for what, name, known in named:
            if name not in known:
                raise ValueError(str(unknown_name(what, name, known)))

    def _check_starts(self) -> None:
        """An attack that begins at a transfer must find one of its sources, norm and budgets."""
        for attack in self.attacks:
            if attack.start is None:
                continue
            transfers = {
                other.label: other for other in self.attacks if other.is_transfer and other.norm == attack.norm
            }
            if attack.start not in transfers:
                raise ValueError(str(unknown_name(f"start of attack {attack.label!r}", attack.start, transfers)))
            mine, theirs = (
                ({source.name for source in one.sources or []}, set(self.eps if one.eps is None else one.eps))
                for one in (attack, transfers[attack.start])
            )
            if mine[0] != theirs[0] or not mine[1] <= theirs[1]:
                raise ValueError(
                    f"attack {attack.label!r} and its start {attack.start!r} need the same sources and eps"
                )

    @property
    def source_blocks(self) -> list[Any]:
        """The blocks of sources that are no networks under test, each once.

        Raises:
            ValueError: two networks of one name.
        """
        known = {network.name: network for network in self.networks}
        sources = [source for attack in self.attacks for source in attack.sources or []]
        sources.sort(key=lambda source: source.model_dump(exclude_defaults=True).keys() == {"name"})
        for source in sources:  # a name alone means the network that somebody else describes
            there = known.setdefault(source.name, source)
            if there != source and source.model_dump(exclude_defaults=True).keys() != {"name"}:
                raise ValueError(f"two networks are called {source.name!r}, one of them a source: rename one")
        return list(known.values())[len(self.networks) :]
