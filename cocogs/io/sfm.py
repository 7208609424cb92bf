"""Photos -> cameras and points: structure from motion with pycolmap.

Points for known cameras are in `cocogs.io.triangulation`; both share `cocogs.io.matching`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pycolmap
import torch
from PIL import Image

from cocogs.errors import InputError, counted, listed, reason_of
from cocogs.io import cached_model, colmap, sfm_checks
from cocogs.io.faces import Face
from cocogs.io.lens_estimate import LensEstimate
from cocogs.io.mapping import FEWEST_PHOTOS, place_cameras
from cocogs.io.matching import (
    Group,
    Job,
    enter_photos,
    extract_features,
    link,
    match_features,
    quiet,
    whole,
    write_mask,
)
from cocogs.io.pairs import choose_pairs
from cocogs.io.photos import (
    PhotoHeader,
    exif_for_copy,
    from_float,
    read_header,
    read_mask,
    read_photo,
    to_float,
)
from cocogs.io.prepare import Picture, fit_mask
from cocogs.io.progress import Progress, Say
from cocogs.io.rigs import face_groups, place_in_rig, rig_configs
from cocogs.io.sfm_lenses import start_lenses
from cocogs.io.source import Intrinsics, Shot, Source

NO_MASKS: Mapping[str, Path] = MappingProxyType({})
NO_LENSES: Mapping[str, LensEstimate] = MappingProxyType({})


@dataclass(frozen=True)
class _Input:
    """A picture that gets a camera: a photo, or a face of a panorama.

    Args:
        name: what it is called.
        path: its file.
        mask: its mask, where there is one.
        photo: the name of the photo or of the panorama.
        station: the number of the photo or panorama in name order.
        face: the face, where it is one.
        header: what its file says.
    """

    name: str
    path: Path
    mask: Path | None
    photo: str
    station: int
    face: Face | None
    header: PhotoHeader

    @property
    def plain(self) -> str:
        """Its file name in the work folder."""
        if self.face is not None:
            return place_in_rig(self.face, self.station)
        return f"{self.station:06d}{self.path.suffix.lower() if self.is_usable else '.jpg'}"

    @property
    def is_usable(self) -> bool:
        """pycolmap ignores the EXIF orientation, and does not read all files."""
        return self.header.orientation == 1 and self.header.is_plain


def reconstruct(
    folder: Path,
    names: list[str],
    cache: Path,
    seed: int,
    say: Say,
    settled: bool = False,
    masks: Mapping[str, Path] = NO_MASKS,
    sequential: bool = False,
    faces: Sequence[Face] = (),
    given: Mapping[str, LensEstimate] = NO_LENSES,
) -> Source:
    """Find the cameras of photos. Photos that cannot be placed are left out, and named.

    Which photos share a lens, and where it starts, says `cocogs.io.sfm_lenses`. Focal lengths and distortion
    are refined, principal points are not. An interrupted search goes on where it stopped, if the photos,
    masks, lenses and seed are the same.

    Args:
        folder: where the photos lie.
        names: file names in it, sorted.
        cache: folder for the result.
        seed: of the random sampling; the same photos and seed give the same cameras.
        say: receives progress.
        settled: take the cached model as it is, even if the photos have changed: a scene was trained with it.
        masks: mask files by the photos' names; features are only searched where a mask is white.
        sequential: the photos are frames of a video, in the order of `names`.
        faces: of the panoramas among `names`, which are not used themselves. The faces of one panorama get
            one centre.
        given: lenses of some of the photos, by name.

    Raises:
        InputError: too few photos, unreadable ones, crops, too few that show the same things, photos from one
            place only, or an impossible result.
    """
    model = cache / "sparse"
    if settled and model.is_dir():
        return _upright(colmap.read_model(model))
    _check_names(folder, names)
    inputs = _inputs(folder, names, masks, faces)
    lenses = start_lenses(folder, {one.name: one.header for one in inputs if one.face is None}, given)
    masked = {one.name: one.mask for one in inputs if one.mask is not None}
    stamp = cached_model.stamp({one.name: one.path for one in inputs}, masked, seed)
    stamp |= {"sequential": sequential, "lenses": [asdict(lens) for lens in lenses]}
    source = cached_model.read(model, stamp)
    if source is None:
        with cached_model.work_folder(cache, stamp) as work, quiet():
            job = Job(work, seed, say)
            _gather(inputs, job)
            plain = {one.name: one.plain for one in inputs}
            groups = [Group([plain[name] for name in one.names], one.lens, one.trusted) for one in lenses]
            models = _run(job, inputs, groups, folder, sequential)
            notes = _notes(models, {one.plain: one.photo for one in inputs})
            names_of = {number: name for name, number in plain.items()}
            cached_model.save(models[0], names_of, model, stamp, work, notes)
        source = colmap.read_model(model)
    placed = {one.name for one in inputs} & {shot.name for shot in source.shots}
    _report({one.photo for one in inputs if one.name in placed}, names, cached_model.read_notes(model), say)
    return _upright(source)


def _inputs(
    folder: Path, names: Sequence[str], masks: Mapping[str, Path], faces: Sequence[Face]
) -> list[_Input]:
    """What gets a camera, in the order of the photos' names."""
    faces_of = defaultdict(list)
    for face in faces:
        faces_of[face.panorama].append(face)
    inputs = []
    for station, name in enumerate(names):
        for face in faces_of[name]:
            header = read_header(face.path)
            inputs.append(_Input(face.name, face.path, face.mask, name, station, face, header))
        if not faces_of[name]:
            path = folder / name
            inputs.append(_Input(name, path, masks.get(name), name, station, None, read_header(path)))
    return inputs


def _check_names(folder: Path, names: list[str]) -> None:
    if len(names) < FEWEST_PHOTOS:
        raise InputError(
            f"{folder} holds {counted(len(names), 'photo')}: give at least {FEWEST_PHOTOS} of the same "
            "scene, taken from different places."
        )
    # Python writes bytes that are not UTF-8 as lone surrogates; COLMAP's files cannot hold them.
    if strange := [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]:
        raise InputError(f"{folder} holds a photo whose name is not UTF-8, {strange[0]!r}: rename it.")


def _upright(source: Source) -> Source:
    """Our models are made from upright pictures."""
    return replace(source, shots=[replace(shot, upright=True) for shot in source.shots])


def _gather(inputs: Sequence[_Input], job: Job) -> None:
    """Put all photos upright into the work folder, numbered, and their masks.

    pycolmap cannot match files with spaces in their names. Every photo is decoded once, as a check.
    """
    progress = Progress("Checking photos", len(inputs), job.say, patience=2)
    for one in inputs:
        target = job.work / one.plain
        if not target.exists():  # else an interrupted run has put it there
            target.parent.mkdir(exist_ok=True)
            _put(one.path, target, one.is_usable)
        progress.add(1)
    for one in inputs:
        if one.mask is not None:
            write_mask(job, one.plain, _read_mask(one.path, one.header, one.mask))


def _put(photo: Path, target: Path, is_usable: bool) -> None:
    """A link to a photo that is usable as it is, or an upright JPEG of it."""
    pixels = read_photo(photo)
    if is_usable:
        link(photo, target)
        return
    exif = exif_for_copy(photo)  # from which pycolmap takes the place
    upright = from_float(to_float(pixels), np.dtype(np.uint8))
    with whole(target) as unfinished:
        Image.fromarray(upright).save(unfinished, quality=95, exif=exif)


def _read_mask(photo: Path, header: PhotoHeader, mask: Path) -> np.ndarray:
    """(H, W) bool, upright, of the photo's size.

    Raises:
        InputError: the mask is unreadable or of another size than the photo.
    """
    lens = Intrinsics("SIMPLE_PINHOLE", header.width, header.height, (1.0, 0.0, 0.0))
    fit_mask(Picture(photo, lens, True, header), Shot(photo.name, lens, torch.eye(4)), mask)
    return read_mask(mask)


def _run(
    job: Job, inputs: Sequence[_Input], groups: list[Group], folder: Path, sequential: bool
) -> list[pycolmap.Reconstruction]:
    """Features, matches, cameras; returns the models found, the one with the most photos first.

    Args:
        groups: of the photos that are no faces of panoramas.
    """
    faces = [(one.face, one.plain) for one in inputs if one.face is not None]
    groups = groups + face_groups(faces)
    names, stations = [one.plain for one in inputs], [one.station for one in inputs]
    count = stations[-1] + 1
    try:
        enter_photos(job, groups, rig_configs(face.size for face, _ in faces))
        extract_features(job, [name for group in groups for name in group.names])
        match_features(job, names, choose_pairs(job, names, sequential=sequential, stations=stations))
        if sfm_checks.turns_in_one_place(job):
            raise InputError(
                f"{folder}: the photos show hardly any parallax, as if the camera only turned in one place: "
                f"{sfm_checks.MOVE_SIDEWAYS}."
            )
        models = place_cameras(job, count)
    except (RuntimeError, ValueError, LookupError, MemoryError) as error:
        raise InputError(
            f"{folder}: finding the cameras failed ({reason_of(error)}): check the photos and free disk "
            "space."
        ) from error
    placed = models[0].num_reg_frames() if models else 0
    if placed < FEWEST_PHOTOS:
        few = f"only {placed}" if placed else "none"
        raise InputError(
            f"{folder}: {few} of {counted(count, 'photo')} could be placed: "
            "take more photos that overlap by two thirds, with texture in focus, moving sideways in between."
        )
    if problem := sfm_checks.impossible_lens(models[0]):
        raise InputError(
            f"{folder}: {placed} of {counted(count, 'photo')} were placed, but with an impossible lens "
            f"({problem}): mask what does not move with the scene, or take more photos that overlap by two "
            "thirds."
        )
    return models


def _notes(models: list[pycolmap.Reconstruction], names_of: Mapping[str, str]) -> dict:
    """What the report says beyond the model itself: photos of other models, and of other focal lengths.

    Args:
        names_of: the photos' names by the names in the models.
    """
    used, groups = _placed(models[0]), []
    for model in models[1:]:
        if apart := sorted({names_of[name] for name in _placed(model) - used}):
            groups.append(apart)
        used |= _placed(model)
    odd, usual = sfm_checks.odd_focal_lengths(models[0])
    zoomed = {names_of[name]: round(focal) for name, focal in sorted(odd.items())}
    return {"apart": groups, "zoomed": zoomed, "focal_length": round(usual)}


def _placed(model: pycolmap.Reconstruction) -> set[str]:
    return {model.images[number].name for number in model.reg_image_ids()}


def _report(placed: set[str], names: list[str], notes: dict, say: Say) -> None:
    """Say which photos have cameras, and why the others have none."""
    say(f"Cameras found for {len(placed)} of {len(names)} photos.")
    missing = [name for name in names if name not in placed]
    for group in notes.get("apart", []):
        missing = [name for name in missing if name not in group]
        say(
            f"{counted(len(group), 'photo')} form a separate group that overlaps too little with the rest "
            f"and will not be used; photos in between would join them: {listed(group, 10)}."
        )
    if missing:
        say(
            f"{counted(len(missing), 'photo')} could not be placed and will not be used (too blurred, or too "
            f"little in common with the others): {listed(missing, 10)}."
        )
    if zoomed := notes.get("zoomed"):
        say(
            f"{counted(len(zoomed), 'photo')} seem to be of another focal length (about "
            f"{_span(list(zoomed.values()))} px, the others {notes['focal_length']} px) and no EXIF tells "
            f"it, so positions may be far off; keep photos of one focal length: {listed(list(zoomed), 10)}."
        )


def _span(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"
