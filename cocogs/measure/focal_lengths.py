"""Focal lengths of a scene's photos: the cameras', and beside them those of EXIF and intrinsics.json."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cocogs.camera import Camera
from cocogs.errors import counted
from cocogs.io import folders
from cocogs.io.exif_lens import lens_by_facts
from cocogs.io.lens_estimate import SIGMAS, Abstention, LensEstimate
from cocogs.io.sfm_lenses import given_lenses
from cocogs.scene import Scene

BY_CAMERAS = (
    0.01  # deviation of the cameras' own, as a part; SfM on photos of known truth (docs/intrinsics.md)
)


@dataclass(frozen=True)
class FocalSource:
    """What one source says of a photo's focal length.

    Args:
        source: "exif", or what intrinsics.json rests on.
        focal_px: px at training size; None where the source does not know.
        deviation_px: its standard deviation.
        off: from the cameras', in joint standard deviations; signed.
        basis: what it rests on, or why it does not know.
    """

    source: str
    focal_px: float | None
    deviation_px: float | None
    off: float | None
    basis: str

    @property
    def disagrees(self) -> bool:
        return self.off is not None and abs(self.off) > SIGMAS


@dataclass(frozen=True)
class PhotoFocal:
    """One photo.

    Args:
        name: of the photo.
        focal_px: of its camera, by SfM or by the dataset; px at training size.
        sources: the others.
    """

    name: str
    focal_px: float
    sources: tuple[FocalSource, ...]


def compare_focal_lengths(scene: Scene) -> list[PhotoFocal]:
    """Of the training photos, in their order.

    Raises:
        InputError: intrinsics.json is damaged.
    """
    given = given_lenses((folders.photo_folder(scene.source), scene.source), lambda line: None)
    found = []
    for view in scene.train_views:
        size = view.camera.width, view.camera.height
        answers: list[LensEstimate | Abstention] = [lens_by_facts(view.lens, size)]
        if view.name in given:
            answers.append(given[view.name])
        sources = tuple(_source(answer, view.camera) for answer in answers)
        found.append(PhotoFocal(view.name, view.camera.fx, sources))
    return found


def _source(answer: LensEstimate | Abstention, camera: Camera) -> FocalSource:
    if isinstance(answer, Abstention):
        return FocalSource(answer.source, None, None, None, answer.reason)
    scale = camera.width / answer.size[0]
    focal, deviation = scale * answer.focal[0], scale * answer.focal_deviation[0]
    # A source may not say how sure it is; a lens given as exact still differs a little from what SfM finds.
    joint = math.hypot(deviation, BY_CAMERAS * camera.fx)
    off = (focal - camera.fx) / joint if math.isfinite(joint) else 0.0
    known = deviation if math.isfinite(deviation) else None
    return FocalSource(answer.source, focal, known, off, answer.basis)


def contradictions(photos: Sequence[PhotoFocal]) -> list[str]:
    """A sentence for each source that contradicts the cameras."""
    told: dict[str, list[tuple[PhotoFocal, FocalSource]]] = {}
    for photo in photos:
        for source in photo.sources:
            if source.disagrees:
                told.setdefault(source.source, []).append((photo, source))
    lines = []
    for name, pairs in told.items():
        photo, source = pairs[0]
        who = "EXIF" if name == "exif" else f"intrinsics.json ({name})"
        lines.append(
            f"{who} and the cameras disagree about the focal length of {counted(len(pairs), 'photo')} by "
            f"more than {SIGMAS:g} standard deviations ({photo.name}: {source.focal_px:.0f} px, the camera "
            f"has {photo.focal_px:.0f}): the photos were cropped, or the cameras are wrong."
        )
    return lines


def focal_table(photos: Sequence[PhotoFocal]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: a row for each source of each photo."""
    heads = ["photo", "camera's, px", "source", "its focal length, px", "off, deviations", "it rests on"]
    rows = []
    for photo in photos:
        for source in photo.sources:
            length, off = "", ""
            if source.focal_px is not None and source.off is not None:
                spread = "" if source.deviation_px is None else f" ± {source.deviation_px:.0f}"
                length, off = f"{source.focal_px:.0f}{spread}", f"{source.off:+.1f}"
            rows.append([photo.name, f"{photo.focal_px:.0f}", source.source, length, off, source.basis])
    return heads, rows
