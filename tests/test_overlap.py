"""Some photos chosen out of many."""

import torch
from tiny_run import tiny_camera

from cocogs.scene.overlap import covering, partners, seen_by


def test_seen_is_what_lies_in_a_picture() -> None:
    camera = tiny_camera(4)
    ahead = camera.unproject(
        torch.tensor([[24.0, 18.0], [-2.0, 18.0]]).double(), torch.tensor([4.0, 4.0]).double()
    )
    behind = camera.unproject(torch.tensor([[24.0, 18.0]]).double(), torch.tensor([-4.0]).double())
    points = torch.cat([ahead, behind]).float()
    assert seen_by([camera, camera], points).tolist() == [[True, False, False]] * 2


def test_few_photos_show_all_points_about_equally_often() -> None:
    """200 photos on a line, each showing 10 of 100 points; most of them crowd at one end."""
    generator = torch.Generator().manual_seed(0)
    first = (90 * torch.rand(200, generator=generator) ** 4).long()
    first[0], first[1] = 0, 90
    places = torch.arange(100)
    seen = (places >= first[:, None]) & (places < first[:, None] + 10)
    chosen = covering(seen, 40)
    assert chosen == sorted(set(chosen)) and len(chosen) == 40
    times, at_random = seen[chosen].sum(0), seen[:40].sum(0)
    assert times[:90].min() >= 2 > at_random[:90].min(), "others to compare with, almost everywhere"
    assert times.max() <= 12 < at_random.max()
    assert covering(seen, 500) == list(range(200))


def test_partners_share_the_most_points() -> None:
    places = torch.arange(60)
    seen = (places >= 5 * torch.arange(10)[:, None]) & (places < 5 * torch.arange(10)[:, None] + 12)
    assert sorted(partners(seen, 4, 2)) == [3, 5]
    assert len(partners(seen, 0, 99)) == 9
