"""What a run tells before it begins."""

from __future__ import annotations

import torch

from udc_robust.config_file import check_config
from udc_robust.data.images import write_image
from udc_robust.grid.plan import loaded, opened
from udc_robust.grid.told import data_told, learnt_domains_told, left_out, networks_told
from udc_robust.grid.victims import build_victims
from udc_robust.tasks.restoration import RESTORATION
from udc_robust.tasks.restoration_schema import RestorationConfig


def _config(folder, **changes) -> RestorationConfig:
    write_image(folder / "photos" / "a.png", torch.rand(3, 40, 56))
    values = {
        "data": {"kind": "folder", "lq": str(folder / "photos")}, "restorers": "nafnet_mini", "lpips": None,
        "attacks": [{"method": "pgd", "access": ["blind", "surrogate", "adaptive"]}], "eps": "4/255", **changes,
    }  # fmt: skip
    return check_config(values, RestorationConfig, "test")


def test_domains_are_told_with_their_reasons(tmp_path) -> None:
    config = _config(tmp_path)
    sets = opened(RESTORATION, config)
    first, why = data_told(sets)
    assert first == (
        "data photos: 1 images, 40x56 px, domain srgb; no ground truth: damage is measured against the clean answer"
    )
    assert "without a tag are taken for sRGB; say `domain: tonemapped`" in why
    (network,) = networks_told(loaded(RESTORATION, config, sets))
    assert network.startswith(
        "network nafnet_mini: NAFNet, domain tonemapped (its weights say so); srgb images are con"
    )
    said = {"kind": "folder", "lq": str(tmp_path / "photos"), "domain": "tonemapped"}
    assert (
        list(data_told(opened(RESTORATION, _config(tmp_path, data=said))))[1]
        == "  domain tonemapped: as the config says"
    )


def test_accesses_that_a_defence_lacks_and_attacks_that_meet_none_are_told(tmp_path) -> None:
    attacks = [{"method": "pgd", "access": ["blind", "surrogate"], "defences": ["median"]}]
    config = _config(tmp_path, defences=["none", {"kind": "jpeg", "quality": 75}, "median"], attacks=attacks)
    networks = loaded(RESTORATION, config, opened(RESTORATION, config))["srgb"]
    jpeg, median = left_out(config, build_victims(config, list(networks.values()), {}, {}))
    assert median.startswith("defence median: no access surrogate (it has blind") and median.endswith("left out")
    assert jpeg == "defence jpeg: no attack is made on it"


def test_a_purifier_before_images_of_another_domain_is_told_once(tmp_path) -> None:
    defences = [{"kind": "purifier", "purifier": "purifier_mini"}, {"kind": "denoiser", "purifier": "purifier_mini"}]
    config = _config(tmp_path, defences=["none", *defences], restorers=["nafnet_mini", "discnet_mini"])

    def lines(domain: str) -> list[str]:
        said = {"kind": "folder", "lq": str(tmp_path / "photos"), "domain": domain}
        mine = config.model_copy(update={"data": _config(tmp_path, data=said).data})
        networks = loaded(RESTORATION, mine, opened(RESTORATION, mine))[domain]
        return list(learnt_domains_told(build_victims(mine, list(networks.values()), {}, {})))

    for line, name in zip(lines("srgb"), ("purifier", "denoiser"), strict=True):
        assert f"defence {name}: purifier purifier_mini learnt tonemapped images, but these are srgb" in line
    assert lines("tonemapped") == []
