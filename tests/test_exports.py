"""Cameras exported by other programs, written here in each program's own layout: what is read equals the
cameras that took the photos, and what cannot be read is one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import FOCAL, HEIGHT, WIDTH, make_cameras, write_photos
from scipy.spatial.transform import Rotation

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io import exports
from cocogs.io.source import Intrinsics, Source
from cocogs.scene import open_scene

COUNT = 4
CAMERAS = make_cameras(COUNT)
NAMES = [f"{index:03d}.png" for index in range(COUNT)]
LONGER = max(WIDTH, HEIGHT)
MIDDLE = (1.0, -1.0)  # px, of the principal point from the picture's middle
OPENGL = np.diag([1.0, -1.0, -1.0])


def rotation(camera: Camera) -> np.ndarray:
    """camera-from-world."""
    return camera.cam_from_world[:3, :3].numpy()


def numbers(values: object) -> str:
    return " ".join(repr(float(value)) for value in np.asarray(values).ravel())


def metashape(data: Path, terms: str = "", kind: str = "frame") -> None:
    """A chunk moved, turned and made ten times smaller against the world, as by georeferencing."""
    turn, scale, shift = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(), 10.0, np.array([1.0, 2.0, 3.0])
    cameras = ""
    for index, camera in enumerate(CAMERAS):
        pose = np.eye(4)
        pose[:3, :3] = turn.T @ rotation(camera).T
        pose[:3, 3] = turn.T @ (camera.position.numpy() - shift) / scale
        cameras += f'<camera id="{index}" sensor_id="0" component_id="0" label="{index:03d}"><transform>'
        cameras += f"{numbers(pose)}</transform></camera>"
    (data / "cameras.xml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="1.5.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="X" type="{kind}"><resolution width="{WIDTH}" height="{HEIGHT}"/>
<calibration type="{kind}" class="initial"><f>1</f></calibration>
<calibration type="{kind}" class="adjusted"><resolution width="{WIDTH}" height="{HEIGHT}"/><f>{FOCAL}</f>
<cx>{MIDDLE[0]}</cx><cy>{MIDDLE[1]}</cy>{terms}</calibration></sensor></sensors>
<components next_id="1"><component id="0"><transform><rotation>{numbers(turn)}</rotation>
<translation>{numbers(shift)}</translation><scale>{scale}</scale></transform></component></components>
<cameras next_id="9"><group id="0">{cameras}</group>
<camera id="8" sensor_id="0" label="not_aligned"/></cameras></chunk></document>"""
    )


def realityscan_table(data: Path, k4: float = 0) -> None:
    lines = ["#cameras 4", "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for name, camera in zip(NAMES, CAMERAS, strict=True):
        heading, pitch, roll = Rotation.from_matrix(rotation(camera).T @ OPENGL).as_euler("ZXY", degrees=True)
        f, px, py = (value * 36 / LONGER for value in (FOCAL, *MIDDLE))
        values = (*camera.position.tolist(), -heading, pitch, roll, f, px, py, 0, 0, 0, k4, 0, 0)
        lines.append(",".join([name, *map(repr, map(float, values))]))
    (data / "cameras.csv").write_text("\n".join(lines))


def realityscan_sidecars(data: Path, terms: str = "0 0 0 0 0 0") -> None:
    for name, camera in zip(NAMES, CAMERAS, strict=True):
        u, v = (value / LONGER for value in MIDDLE)
        (data / "images" / name).with_suffix(".xmp").write_text(
            f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#" xcr:Version="3"
 xcr:PosePrior="initial" xcr:DistortionModel="brown3" xcr:FocalLength35mm="{FOCAL * 36 / LONGER!r}"
 xcr:PrincipalPointU="{u!r}" xcr:PrincipalPointV="{v!r}">
<xcr:Rotation>{numbers(rotation(camera))}</xcr:Rotation>
<xcr:Position>{numbers(camera.position)}</xcr:Position>
<xcr:DistortionCoeficients>{terms}</xcr:DistortionCoeficients></rdf:Description></rdf:RDF></x:xmpmeta>"""
        )


def opensfm(data: Path, **lens: float | str) -> None:
    camera = {
        "projection_type": "brown",
        "width": WIDTH,
        "height": HEIGHT,
        **{f"focal_{axis}": FOCAL / LONGER for axis in "xy"},
        **{f"c_{axis}": value / LONGER for axis, value in zip("xy", MIDDLE, strict=True)},
        **dict.fromkeys(("k1", "k2", "k3", "p1", "p2"), 0.0),
        **lens,
    }
    shots = {
        name: {
            "rotation": Rotation.from_matrix(rotation(camera_)).as_rotvec().tolist(),
            "translation": camera_.cam_from_world[:3, 3].tolist(),
            "camera": "v2 x 0",
        }
        for name, camera_ in zip(NAMES, CAMERAS, strict=True)
    }
    points = {"1": {"coordinates": [0.1, 0.2, 4.0], "color": [255.0, 0.0, 51.0]}}
    parts = [{"cameras": {}, "shots": {}, "points": {}}]  # a second, smaller reconstruction
    parts.append({"cameras": {"v2 x 0": camera}, "shots": shots, "points": points})
    (data / "reconstruction.json").write_text(json.dumps(parts))


def openmvg(data: Path, kind: str = "pinhole", **terms: object) -> None:
    lens = {"width": WIDTH, "height": HEIGHT, "focal_length": FOCAL, **terms}
    lens["principal_point"] = [WIDTH / 2 + MIDDLE[0] - 0.5, HEIGHT / 2 + MIDDLE[1] - 0.5]
    wrapped = {"polymorphic_id": 2147483649, "polymorphic_name": kind, "ptr_wrapper": {"id": 2, "data": lens}}
    views, poses = [], []
    for index, (name, camera) in enumerate(zip(NAMES, CAMERAS, strict=True)):
        view = {"local_path": "", "filename": name, "width": WIDTH, "height": HEIGHT, "id_view": index}
        view |= {"id_intrinsic": 0, "id_pose": index}
        views.append({"key": index, "value": {"polymorphic_id": 1 << 30, "ptr_wrapper": {"data": view}}})
        place = {"rotation": rotation(camera).tolist(), "center": camera.position.tolist()}
        poses.append({"key": index, "value": place})
    structure = [{"key": 0, "value": {"X": [0.1, 0.2, 4.0], "observations": []}}]
    content = {"views": views, "intrinsics": [{"key": 0, "value": wrapped}], "extrinsics": poses}
    content = {"sfm_data_version": "0.3", "root_path": "/x", **content, "structure": structure}
    (data / "sfm_data.json").write_text(json.dumps(content))


def bundler(data: Path) -> None:
    """Bundler knows no principal point: the cameras that are read have theirs in the middle."""
    text = f"# Bundle file v0.3\n{COUNT + 1} 1\n"
    for camera in CAMERAS:
        turn, shift = OPENGL @ rotation(camera), OPENGL @ camera.cam_from_world[:3, 3].numpy()
        rows = "\n".join(numbers(row) for row in turn)
        text += f"{FOCAL!r} 0.02 -0.001\n{rows}\n{numbers(shift)}\n"
    text += "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n"  # a photo that was not placed
    text += "0.1 0.2 4\n255 0 51\n2 0 17 1.5 2.5 1 3 -4.5 0.5\n"
    (data / "bundle.out").write_text(text)
    names = [f"./images/{name} 0 {FOCAL}" for name in NAMES]
    (data / "list.txt").write_text("\n".join([*names, "lost.png"]) + "\n")


def polycam(data: Path) -> None:
    folder = data / "keyframes" / "corrected_cameras"
    folder.mkdir(parents=True)
    shutil.move(data / "images", data / "keyframes" / "corrected_images")
    for name, camera in zip(NAMES, CAMERAS, strict=True):
        pose = np.concatenate([rotation(camera).T @ OPENGL, camera.position.numpy()[:, None]], axis=1)
        said = {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        said |= {"fx": FOCAL, "fy": FOCAL, "cx": camera.cx, "cy": camera.cy, "width": WIDTH, "height": HEIGHT}
        (folder / name).with_suffix(".json").write_text(json.dumps(said))


def record3d(data: Path) -> None:
    shutil.move(data / "images", data / "rgb")
    for index, name in enumerate(NAMES):
        (data / "rgb" / name).rename(data / "rgb" / f"{index}.png")
    poses = [
        [*Rotation.from_matrix(rotation(camera).T @ OPENGL).as_quat().tolist(), *camera.position.tolist()]
        for camera in CAMERAS
    ]
    K = [FOCAL, 0, 0, 0, FOCAL, 0, CAMERAS[0].cx, CAMERAS[0].cy, 1]
    poses.append(poses[-1])  # a frame that was not exported
    (data / "metadata.json").write_text(
        json.dumps({"w": WIDTH, "h": HEIGHT, "fps": 60, "K": K, "poses": poses})
    )


WRITERS: dict[str, Callable[[Path], None]] = {
    "Metashape": metashape,
    "RealityScan table": realityscan_table,
    "RealityScan sidecars": realityscan_sidecars,
    "OpenSfM": opensfm,
    "OpenMVG": openmvg,
    "Bundler": bundler,
    "Polycam": polycam,
    "Record3D": record3d,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path / "data" / "images", CAMERAS)
    return tmp_path / "data"


def read(data: Path) -> Source:
    found = exports.find_export(data)
    assert found is not None
    return exports.read_export(*found, data)


@pytest.mark.parametrize("program", WRITERS)
def test_cameras_are_those_that_took_the_photos(
    program: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)
    WRITERS[program](data)
    said: list[str] = []
    scene = open_scene(data, tmp_path / "cache", say=said.append)
    assert len(scene.views) == COUNT
    assert any(line.startswith(f"Cameras from {program.split()[0]}: ") for line in said)
    for view, camera in zip(scene.views, CAMERAS, strict=True):
        torch.testing.assert_close(view.camera.cam_from_world, camera.cam_from_world, atol=1e-9, rtol=0)
        if program != "Bundler":  # whose lens is distorted, and has its middle in the picture's
            torch.testing.assert_close(view.camera.intrinsics, camera.intrinsics)
            assert (view.camera.width, view.camera.height) == (WIDTH, HEIGHT)
    if program in ("OpenSfM", "Bundler"):
        torch.testing.assert_close(scene.points, torch.tensor([[0.1, 0.2, 4.0]]))
        torch.testing.assert_close(scene.point_colors, torch.tensor([[1, 0, 0.2]]))


def lens_of(data: Path) -> Intrinsics:
    return read(data).shots[0].intrinsics


def test_distortion_is_opencv_s(data: Path) -> None:
    principal = (FOCAL, FOCAL, WIDTH / 2 + 1, HEIGHT / 2 - 1)
    metashape(data, "<k1>0.1</k1><k2>-0.02</k2><k3>0.003</k3><p1>4e-4</p1><p2>5e-5</p2><b1>2</b1>")
    assert lens_of(data).model == "FULL_OPENCV"
    expected = (FOCAL + 2, *principal[1:], 0.1, -0.02, 5e-5, 4e-4, 0.003, 0, 0, 0)
    assert lens_of(data).params == pytest.approx(expected)
    metashape(data, "<k1>0.1</k1><k4>0.02</k4>", "fisheye")
    assert lens_of(data) == Intrinsics("OPENCV_FISHEYE", WIDTH, HEIGHT, (*principal, 0.1, 0.0, 0.0, 0.02))
    (data / "cameras.xml").unlink()
    realityscan_sidecars(data, "0.1 -0.02 0 0 4e-4 5e-5")
    assert lens_of(data).model == "OPENCV"
    assert lens_of(data).params == pytest.approx((*principal, 0.1, -0.02, 4e-4, 5e-5))
    for sidecar in (data / "images").glob("*.xmp"):
        sidecar.unlink()
    opensfm(data, k1=0.1, p2=5e-5)
    assert lens_of(data).params == pytest.approx((*principal, 0.1, 0, 0, 5e-5))
    (data / "reconstruction.json").unlink()
    openmvg(data, "pinhole_brown_t2", disto_t2=[0.1, -0.02, 0.003, 4e-4, 5e-5])
    assert lens_of(data).params == pytest.approx((*principal, 0.1, -0.02, 5e-5, 4e-4, 0.003, 0, 0, 0))
    (data / "sfm_data.json").unlink()
    bundler(data)
    assert lens_of(data) == Intrinsics("RADIAL", WIDTH, HEIGHT, (FOCAL, WIDTH / 2, HEIGHT / 2, 0.02, -0.001))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda data: metashape(data, "<k4>0.1</k4>"), "has k4, which cannot be read: optimize"),
        (lambda data: metashape(data, "<b2>3</b2>"), "has b2, which cannot be read"),
        (lambda data: metashape(data, kind="spherical"), "camera of type spherical"),
        (lambda data: realityscan_table(data, k4=0.1), "fourth radial coefficient"),
        (lambda data: opensfm(data, projection_type="spherical"), r"lens of v2 x 0 \(spherical\)"),
        (lambda data: openmvg(data, "spherical"), "a lens of the kind 'spherical'"),
    ],
)
def test_lenses_that_cannot_be_read_are_named(
    write: Callable[[Path], None], message: str, data: Path
) -> None:
    write(data)
    with pytest.raises(InputError, match=message):
        read(data)


def test_lightroom_s_sidecars_are_none_of_realityscan_s(data: Path) -> None:
    (data / "images" / "000.xmp").write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')
    assert exports.find_export(data) is None


@pytest.mark.parametrize("program", WRITERS)
def test_damaged_files_are_one_sentence(program: str, data: Path) -> None:
    """Cut anywhere, and with bytes replaced: read, or refused in one sentence that names the file."""
    WRITERS[program](data)
    found = exports.find_export(data)
    assert found is not None
    path = found[1]
    if path.is_dir():
        path = min([*path.glob("*.json"), *path.glob("*.xmp")])
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        spoiled = bytearray(whole)
        if trial % 2:
            del spoiled[random.integers(len(whole) // 2, len(whole)) :]
        for place in random.integers(len(whole) // 8, len(spoiled), 3):
            spoiled[place] = random.choice(list(b"0-e9.NXn"))
        path.write_bytes(spoiled)
        try:
            exports.read_export(*found, data)
        except InputError as error:
            refused += 1
            assert str(data) in str(error) and "\n" not in str(error) and str(error).endswith(".")
    assert refused > 10


def _spoil(data: Path, file: str, before: str, after: str) -> None:
    text = (data / file).read_text()
    assert before in text
    (data / file).write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("write", "file", "before", "after", "reason"),
    [
        (opensfm, "reconstruction.json", "[255.0, 0.0, 51.0]", "[NaN, 0.0, 51.0]", "not finite"),
        (opensfm, "reconstruction.json", "[255.0, 0.0, 51.0]", "[255.0]", "not finite"),
        (opensfm, "reconstruction.json", "[0.1, 0.2, 4.0]", "4.0", "not finite"),
        (opensfm, "reconstruction.json", '"translation": [', '"translation": [1], "x": [', "shape"),
        (opensfm, "reconstruction.json", '"000.png"', '""', "the photo's name"),
        (opensfm, "reconstruction.json", '"000.png"', '"images/.."', "the photo's name"),
        (openmvg, "sfm_data.json", "[0.1, 0.2, 4.0]", "[0.1, 0.2]", "not finite"),
        (openmvg, "sfm_data.json", '"center": [', '"center": [1.0, ', "shape"),
        (openmvg, "sfm_data.json", '"000.png"', '""', "the photo's name"),
        (bundler, "bundle.out", "255 0 51", "nan 0 51", "not finite"),
        (metashape, "cameras.xml", 'label="001"', 'label=""', "the photo's name"),
        (metashape, "cameras.xml", "<scale>10.0", "<scale>0", "a scale of 0"),
        (metashape, "cameras.xml", "<scale>10.0", "<scale>-10", "a scale of -10"),
        (realityscan_table, "cameras.csv", "001.png", '"' + "9" * 200_000 + '"', "field larger"),
        (realityscan_table, "cameras.csv", ",0.0,0.0,0.0,0.0,0.0,0.0", ",nan,0,0,0,0,0", "lens of 000"),
    ],
)
def test_what_a_scene_cannot_have_is_refused(
    write: Callable[[Path], None], file: str, before: str, after: str, reason: str, data: Path
) -> None:
    write(data)
    _spoil(data, file, before, after)
    with pytest.raises(InputError, match=rf"{file} cannot be read as .*{reason}"):
        read(data)


def test_a_lens_of_too_few_or_too_many_numbers_is_refused(data: Path) -> None:
    openmvg(data, "fisheye", fisheye=[0.0] * 9)
    with pytest.raises(InputError, match="an impossible size or lens"):
        read(data)
    (data / "sfm_data.json").unlink()
    record3d(data)
    _spoil(data, "metadata.json", '"fps"', f'"perFrameIntrinsicCoeffs": {[[FOCAL, FOCAL]] * 5}, "fps"')
    with pytest.raises(InputError, match="an impossible size or lens"):
        read(data)


def test_the_first_chunk_with_aligned_cameras_is_read(data: Path) -> None:
    metashape(data)
    _spoil(data, "cameras.xml", "<chunk ", '<chunk><cameras><camera label="q"/></cameras></chunk><chunk ')
    assert len(read(data).shots) == COUNT


def test_folders_named_like_exports_are_passed_over(data: Path) -> None:
    for name in ("a.xml", "a.csv", "a.out", "images/a.xmp"):
        (data / name).mkdir()
    assert exports.find_export(data) is None


def test_names_that_fit_several_photos_are_not_called_absent(data: Path, tmp_path: Path) -> None:
    metashape(data)
    _spoil(data, "cameras.xml", 'label="001"', 'label="000.png"')
    with pytest.raises(InputError, match=r"several photos that the cameras may mean by 000, 000\.png, 002"):
        open_scene(data, tmp_path / "cache", say=lambda line: None)


def test_a_bundle_without_its_list_says_so(data: Path) -> None:
    bundler(data)
    (data / "list.txt").unlink()
    with pytest.raises(InputError, match=r"put Bundler's list\.txt beside it"):
        read(data)
