"""What a set of photos can give, before training: what each photo has in focus, and what none has.

Distances are z-depths in scene units. Circles of confusion (CoC) are in px at training resolution. Everything
is found in the photos; of EXIF only ratios of f-numbers are used, the rest is compared with what was found.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io import folders
from cocogs.io.lens_file import Metres
from cocogs.io.photos import LensFacts, list_photos
from cocogs.measure.focal_lengths import PhotoFocal, compare_focal_lengths, contradictions
from cocogs.metres import FEWEST, OWN_LENS, SEARCHED_K, metres_by_exif, sentences
from cocogs.optics.evidence import Evidence, measure_photos
from cocogs.optics.lens import coc_diameter, depth_of_field
from cocogs.optics.search import IN_FOCUS, find_lens, variation
from cocogs.quantiles import quantiles
from cocogs.scene import Scene

LOST = 3.0
"""px; detail with at least this CoC in every photo cannot be recovered."""
DEPTH_STEPS = 24
"""Number of steps that the range of depths is divided into, even in 1/z."""
FEW = 5
"""A step of depth with fewer points than this is left open."""


@dataclass(frozen=True)
class PhotoFocus:
    """One photo.

    Args:
        focus_distance: scene units.
        near, far: depths between which the CoC is at most IN_FOCUS px; far None is infinity.
        blur: px; standard deviation of the blur in the sharpest tenth of its points; None without texture.
        too_blurred: `blur` is much larger than in the other photos.
        lens: EXIF's facts.
    """

    name: str
    focus_distance: float
    near: float
    far: float | None
    blur: float | None
    too_blurred: bool
    lens: LensFacts


@dataclass(frozen=True)
class DepthStep:
    """A range of depths: how many points lie there, how many photos have it in focus (median over the
    points), and the least CoC that a photo has there (median over the points), px."""

    near: float
    far: float
    points: int
    photos_in_focus: int | None
    least_coc: float | None

    @property
    def lost(self) -> bool:
        return self.least_coc is not None and self.least_coc >= LOST


@dataclass(frozen=True)
class ExifAgreement:
    """EXIF compared with what was found; None where EXIF does not tell.

    Args:
        focal_length: EXIF's focal length in px, divided by that of the cameras (median).
        f_numbers: the different f-numbers of the photos, sorted.
        focus_correlation: correlation between the focus distances found and EXIF's.
        metres: in a scene unit, by the lens found.
    """

    focal_length: float | None
    f_numbers: list[float]
    focus_correlation: float | None
    metres: Metres | None

    @property
    def sentence(self) -> str:
        """For the user; empty if EXIF tells nothing that can be compared."""
        facts = []
        if self.focal_length is not None:
            facts.append(f"its focal length is {self.focal_length:.2f} of the cameras'")
        if self.focus_correlation is not None:
            facts.append(f"its focus distances correlate by {self.focus_correlation:.2f} with those found")
        told = [f"EXIF: {', '.join(facts)}."] if facts else []
        if self.focal_length is not None and abs(self.focal_length - 1) > OWN_LENS:
            told.append("The photos are cropped, or were taken through another lens than EXIF tells.")
        if self.metres is not None:
            told.append(sentences(self.metres))
        return " ".join(told)


@dataclass(frozen=True)
class Inspection:
    """Everything found about a set.

    Args:
        K: px x scene unit, of the first photo.
        method: how the lens was found: photos "compared", "each alone", or "none" (no blur could be measured;
            focus distances are then little more than what autofocus would choose).
        unplaced: names of photos without a camera.
        glanced: how many of the photos were not read in full, but around some points.
        focal_lengths: the cameras', and beside them EXIF's and intrinsics.json's.
    """

    source: str
    K: float
    method: str
    variation: float
    photos: list[PhotoFocus]
    depths: list[DepthStep]
    unplaced: list[str]
    exif: ExifAgreement
    glanced: int = 0
    focal_lengths: list[PhotoFocal] = field(default_factory=list)

    @property
    def lost_ranges(self) -> list[tuple[float, float]]:
        """(near, far) of the depths that no photo has sharp; neighbouring steps are joined. Empty where
        no blur could be measured: focus and K then are guesses."""
        if self.method == "none":
            return []
        ranges: list[tuple[float, float]] = []
        previous_lost = False
        for step in self.depths:
            if step.lost:
                near = ranges.pop()[0] if previous_lost else step.near
                ranges.append((near, step.far))
            previous_lost = step.lost or (previous_lost and step.least_coc is None)
        return ranges

    @property
    def warnings(self) -> list[str]:
        """Sentences for the user; none if all is well."""
        lines = [
            f"No photo is sharp between {near:.3g} and {far:.3g} (scene units): what lies there cannot be "
            "recovered; add photos focused there, or with a smaller aperture."
            for near, far in self.lost_ranges
        ]
        if blurred := [photo.name for photo in self.photos if photo.too_blurred]:
            lines.append(f"Too blurred to be of use: {', '.join(blurred)}; leave them out.")
        if self.unplaced:
            lines.append(f"No camera was found for {', '.join(self.unplaced)}.")
        lines += contradictions(self.focal_lengths)
        if len(self.exif.f_numbers) > 1:
            numbers = ", ".join(f"f/{n:g}" for n in self.exif.f_numbers)
            lines.append(
                f"The photos were taken at {numbers}. Training takes the ratios of the apertures from EXIF; "
                "if EXIF is wrong, train with `per_photo_aperture`."
            )
        return lines

    @property
    def summary(self) -> list[str]:
        """The warnings, or a sentence that all is well."""
        if self.method == "none" and not self.warnings:
            return ["No blur could be measured: the photos are sharp, or too slightly blurred to tell."]
        return self.warnings or ["Every depth is sharp in at least one photo."]

    def to_json(self) -> str:
        document = {
            "schema": "cocogs-inspection/1",
            **asdict(self),
            "lost_ranges": self.lost_ranges,
            "warnings": self.warnings,
        }
        return json.dumps(document, indent=2)


def inspect_scene(scene: Scene) -> Inspection:
    """Find what the training photos of a scene have in focus.

    Raises:
        InputError: the scene has no points, or no photo sees one.
    """
    if scene.drawn:
        raise InputError(
            f"{scene.source} has cameras but no points, and none were found: give a COLMAP model or only the "
            "photos."
        )
    views = scene.train_views
    evidence, blurs = measure_photos(scene, every=True)
    focus, K, method = find_lens(evidence, blurs)
    Ks = evidence.K_per_photo(K)[:, 0]
    near, far = in_focus_range(focus, Ks)
    softest = sharpest_blurs(blurs)
    folder = folders.photo_folder(scene.source)
    found = [
        PhotoFocus(
            view.name,
            float(focus[v]),
            float(near[v]),
            None if math.isinf(far[v]) else float(far[v]),
            None if softest[v].isnan() else float(softest[v]),
            bool(softest[v] > 2 * softest.nanmedian().clamp_min(0.6)),
            view.lens,
        )
        for v, view in enumerate(views)
    ]
    names = {view.panorama or view.name for view in scene.views}
    unplaced = [name for name in list_photos(folder, names) if name not in names] if folder.is_dir() else []
    focal_lengths = compare_focal_lengths(scene)
    exif = compare_with_exif(found, focal_lengths, Ks, scene, method == "compared")
    steps = depth_steps(evidence, focus, K)
    glanced = 0 if evidence.compared is None else len(views) - len(evidence.compared)
    return Inspection(
        str(scene.source),
        K,
        method,
        variation(evidence),
        found,
        steps,
        unplaced,
        exif,
        glanced,
        focal_lengths,
    )


def in_focus_range(focus: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """(V,) nearest and farthest depth with a CoC of at most IN_FOCUS px; the farthest may be inf.

    Args:
        focus: (V,) focus distances, scene units.
        K: (V,) px x scene unit.
    """
    pairs = zip(focus.tolist(), K.tolist(), strict=True)
    ranges = [depth_of_field(z, max(k, 1e-9), IN_FOCUS) for z, k in pairs]
    near, far = torch.tensor(ranges).unbind(1)
    return near, far


def sharpest_blurs(blurs: Tensor) -> Tensor:
    """(V,) blur in px of the sharpest tenth of a photo's points; NaN if fewer than FEW are known."""
    tenth = torch.nanquantile(blurs, 0.1, dim=1)
    return torch.where((~blurs.isnan()).sum(1) >= FEW, tenth, math.nan)


def depth_steps(evidence: Evidence, focus: Tensor, K: float) -> list[DepthStep]:
    """Coverage by depth, from near to far. A point counts at the median of its depths in the photos."""
    coc = coc_diameter(evidence.depths, focus[:, None], evidence.K_per_photo(K)).abs()
    seen = (~coc.isnan()).sum(0) > 0
    least = coc.nan_to_num(math.inf).amin(0)
    in_focus = (coc <= IN_FOCUS).sum(0)
    inverse = 1 / evidence.depths.nanmedian(0).values
    low, high = quantiles(inverse, 0.01, 0.99).tolist()
    if high - low < 1e-6 * high:  # all at one depth
        low, high = 0.99 * low, 1.01 * high
    borders = torch.linspace(high, low, DEPTH_STEPS + 1)
    steps = []
    for high, low in pairwise(borders.tolist()):
        here = seen & (inverse <= high) & (inverse >= low)
        count = int(here.sum())
        known = count >= FEW
        steps.append(
            DepthStep(
                1 / high,
                1 / low,
                count,
                int(in_focus[here].median()) if known else None,
                float(least[here].median()) if known else None,
            )
        )
    return steps


def compare_with_exif(
    photos: list[PhotoFocus],
    focal_lengths: list[PhotoFocal],
    Ks: Float[Tensor, " V"],
    scene: Scene,
    told: bool,
) -> ExifAgreement:
    """How well EXIF and what was found agree.

    Args:
        photos, focal_lengths: in the order of the scene's training views.
        Ks: as found, px x scene unit.
        told: whether the photos tell K, by their differences.
    """
    cameras = [view.camera for view in scene.train_views]
    facts, focus = [p.lens for p in photos], [p.focus_distance for p in photos]
    by_exif = [source for photo in focal_lengths for source in photo.sources if source.source == "exif"]
    ratios = [
        one.focal_px / camera.fx
        for one, camera in zip(by_exif, cameras, strict=True)
        if one.focal_px is not None
    ]
    f_numbers = sorted({one.f_number for one in facts if one.f_number})
    pairs = [(z, one.focus_distance) for z, one in zip(focus, facts, strict=True) if one.focus_distance]
    correlation = None
    if len(pairs) >= FEWEST:
        ours, theirs = np.array(pairs).T
        if ours.std() > 0 and theirs.std() > 0:
            correlation = float(np.corrcoef(ours, theirs)[0, 1])
    diameters = [K / camera.fx for K, camera in zip(Ks.tolist(), cameras, strict=True)]
    metres = metres_by_exif(facts, focus, diameters, told, SEARCHED_K)
    return ExifAgreement(float(np.median(ratios)) if ratios else None, f_numbers, correlation, metres)
