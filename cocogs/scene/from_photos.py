"""Cameras of plain photos, and of panoramas, which are cut into faces first."""

from dataclasses import replace
from pathlib import Path

from cocogs.io import faces, folders, photos, sfm
from cocogs.io.progress import Say
from cocogs.io.sfm_lenses import given_lenses
from cocogs.io.source import Shot, Source
from cocogs.scene.split import named


def find_cameras(
    data: Path,
    cache: Path,
    seed: int,
    settled: bool,
    say: Say,
    is_video: bool,
    panoramas: bool,
    test: str | None,
) -> tuple[Source, folders.Pictures]:
    """Cameras by SfM, and the files of the photos or faces.

    Args:
        data, cache, seed, settled, say, panoramas, test: as for `open_scene`.
        is_video: the photos are frames of a video, in name order.

    Raises:
        InputError: there are no photos, `test` names one that is not there, or what `faces` and `sfm` raise.
    """
    folder = folders.photo_folder(data)
    names = photos.list_photos(folder)
    if not names:
        raise folders.no_photos(folder)
    masks = folders.find_masks(data, names)
    given = given_lenses((folder, data), say)
    found = faces.find_panoramas(folder, names, panoramas, say)
    if not found:
        if test is not None:  # a misspelt name is told now, not after minutes
            named({name: name for name in names}, test, data)
        source = sfm.reconstruct(
            folder, names, cache / "sfm", seed, say, settled, masks, is_video, given=given
        )
        return source, folders.Pictures(folder, 1, {shot.name: folder / shot.name for shot in source.shots})
    place = cache / "faces"
    cut = {face.name: face for face in faces.cut_panoramas(folder, found, masks, place, settled, say)}
    if taken := sorted(set(names) & cut.keys()):
        raise faces.taken_name(folder / taken[0], cut[taken[0]])
    say(f"{len(found)} of {len(names)} photos show all around: each is cut into six pictures in {place}.")
    source = sfm.reconstruct(
        folder, names, cache / "sfm", seed, say, settled, masks, is_video, list(cut.values()), given
    )

    def described(shot: Shot) -> Shot:
        face = cut.get(shot.name)
        if face is None:
            return replace(shot, mask=masks.get(shot.name))
        return replace(shot, mask=face.mask, panorama=face.panorama)

    paths = {
        shot.name: cut[shot.name].path if shot.name in cut else folder / shot.name for shot in source.shots
    }
    common = place / "images" if len(found) == len(names) else folder
    return replace(source, shots=list(map(described, source.shots))), folders.Pictures(common, 1, paths)
