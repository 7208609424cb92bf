"""Files of meshes: what other programs read in them."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from cocogs.io.mesh_file import MeshFile, write_mesh


def mesh_file() -> MeshFile:
    vertices = np.array([[-1, -1, 3], [1, -1, 3], [1, 1, 3], [-1, 1, 3]], np.float32)
    faces, pixels = np.array([[0, 2, 1], [0, 3, 2]]), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    places = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    return MeshFile(vertices, faces, pixels, places, (0.0, -1.0, 0.0))


def test_glb_holds_the_mesh_its_texture_and_what_is_up(tmp_path: Path) -> None:
    mesh = mesh_file()
    assert write_mesh(tmp_path / "a.glb", mesh) == [tmp_path / "a.glb"]
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length, size, kind = struct.unpack("<4sIIII", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), 0x4E4F534A)
    document, binary = json.loads(data[20 : 20 + size]), data[28 + size :]
    assert document["buffers"][0]["byteLength"] == len(binary)

    def part(number: int) -> bytes:
        view = document["bufferViews"][number]
        return binary[view["byteOffset"] :][: view["byteLength"]]

    np.testing.assert_array_equal(np.frombuffer(part(0), "<f4").reshape(-1, 3), mesh.vertices)
    np.testing.assert_array_equal(np.frombuffer(part(1), "<u4").reshape(-1, 3), mesh.faces)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(part(3)))), mesh.texture)
    turn = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T[:3, :3]
    np.testing.assert_allclose(turn @ mesh.up, [0, 1, 0])
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_obj_and_ply_name_their_texture(tmp_path: Path) -> None:
    mesh = mesh_file()
    names = [path.name for path in write_mesh(tmp_path / "a.obj", mesh)]
    assert names == ["a.obj", "a.mtl", "a.png"] and "map_Kd a.png" in (tmp_path / "a.mtl").read_text()
    lines = (tmp_path / "a.obj").read_text().splitlines()
    assert "vt 0 1" in lines and "f 1/1 3/3 2/2" in lines and "v -1 -1 3" in lines
    assert [path.name for path in write_mesh(tmp_path / "b.ply", mesh)] == ["b.ply", "b.png"]
    ply = PlyData.read(tmp_path / "b.ply")
    assert ply.comments == ["TextureFile b.png"] and ply["vertex"]["t"][0] == 1
    np.testing.assert_array_equal(np.stack(ply["face"]["vertex_indices"]), mesh.faces)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), mesh.texture)
