"""A textured mesh as a file: .glb (glTF 2.0, all in one file), .obj (with .mtl and .png), .ply (with .png).

Texture coordinates here are glTF's: (0, 0) is the texture's upper left corner. The texture holds the light of
the photos, so the material asks for no other light (KHR_materials_unlit).
"""

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

from cocogs.errors import InputError
from cocogs.io.atomic import replacing, write_text
from cocogs.io.pixels import write_png

ENDINGS = (".glb", ".obj", ".ply")
ARRAY, ELEMENT = 34962, 34963  # what a buffer view is for
FLOAT, UINT = 5126, 5125
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
LINEAR, LINEAR_MIPMAP, CLAMP = 9729, 9987, 33071


@dataclass(frozen=True)
class MeshFile:
    """A mesh as a file holds it.

    Args:
        vertices: (V, 3) float32.
        faces: (F, 3) corners' numbers, anticlockwise as seen from outside.
        texture: (H, W, 3) uint8, sRGB.
        coordinates: (V, 2) float32 in [0, 1], places in the texture.
        up: direction that is up in the coordinates of the vertices. A .glb turns it to +y for display, as
            glTF wants it, by its node's matrix; the vertices stay as they are.
    """

    vertices: np.ndarray
    faces: np.ndarray
    texture: np.ndarray
    coordinates: np.ndarray
    up: tuple[float, float, float]


def check_ending(path: Path) -> None:
    """Raises InputError for an ending that is not one of `ENDINGS`."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} must end in .glb, .obj or .ply: rename it.")


def write_mesh(path: Path, mesh: MeshFile) -> list[Path]:
    """Write a mesh in the format that the ending names, and what belongs to it beside it.

    Returns:
        The files written, `path` first.

    Raises:
        InputError: another ending, or a file that cannot be written.
    """
    check_ending(path)
    return {".glb": _write_glb, ".obj": _write_obj, ".ply": _write_ply}[path.suffix.lower()](path, mesh)


def _write_glb(path: Path, mesh: MeshFile) -> list[Path]:
    vertices = mesh.vertices.astype("<f4")
    binary, views = _packed(
        [
            (vertices.tobytes(), ARRAY),
            (mesh.faces.astype("<u4").tobytes(), ELEMENT),
            (mesh.coordinates.astype("<f4").tobytes(), ARRAY),
            (_png(mesh.texture), None),
        ]
    )
    accessors = [
        {"bufferView": 0, "componentType": FLOAT, "count": len(vertices), "type": "VEC3",
         "min": vertices.min(0).tolist(), "max": vertices.max(0).tolist()},
        {"bufferView": 1, "componentType": UINT, "count": mesh.faces.size, "type": "SCALAR"},
        {"bufferView": 2, "componentType": FLOAT, "count": len(vertices), "type": "VEC2"},
    ]  # fmt: skip
    attributes = {"POSITION": 0, "TEXCOORD_0": 2}
    surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0, "baseColorTexture": {"index": 0}}
    unlit = {"doubleSided": True, "extensions": {"KHR_materials_unlit": {}}}
    document = {
        "asset": {"version": "2.0", "generator": "cocogs"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP, "wrapS": CLAMP, "wrapT": CLAMP}],
        "textures": [{"source": 0, "sampler": 0}],
        "nodes": [{"mesh": 0, "matrix": _upright(mesh.up).T.flatten().tolist()}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": surface, **unlit}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
    chunks += struct.pack("<II", len(binary), BINARY_CHUNK) + binary
    with replacing(path) as temporary:
        temporary.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks)
    return [path]


def _packed(parts: Sequence[tuple[bytes, int | None]]) -> tuple[bytes, list[dict]]:
    """The parts one after the other, each at a multiple of 4 bytes, and glTF's views of them."""
    binary, views = b"", []
    for data, target in parts:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        if target is not None:
            views[-1]["target"] = target
        binary += data + bytes(-len(data) % 4)
    return binary, views


def _upright(up: Sequence[float]) -> np.ndarray:
    """(4, 4): the shortest turn that brings `up` to +y."""
    a = np.asarray(up) / np.linalg.norm(up)
    x, y, z = a
    turn = np.eye(4)
    if y < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0, 1.0])
    turn[:3, :3] = [
        [1 - x * x / (1 + y), -x, -x * z / (1 + y)], [x, y, z], [-x * z / (1 + y), -z, 1 - z * z / (1 + y)]
    ]  # fmt: skip
    return turn


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _write_texture(path: Path, mesh: MeshFile) -> Path:
    """NAME.png beside a mesh."""
    beside = path.with_suffix(".png")
    with replacing(beside) as temporary:
        write_png(temporary, mesh.texture)
    return beside


def _write_obj(path: Path, mesh: MeshFile) -> list[Path]:
    texture, material = _write_texture(path, mesh), path.with_suffix(".mtl")
    lines = [f"mtllib {material.name}", "usemtl photos"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vt {u:.7g} {1 - v:.7g}" for u, v in mesh.coordinates.tolist()]
    lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in (mesh.faces + 1).tolist()]
    unlit = ["newmtl photos", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "illum 0", f"map_Kd {texture.name}", ""]
    write_text(material, "\n".join(unlit))
    write_text(path, "\n".join([*lines, ""]))
    return [path, material, texture]


def _write_ply(path: Path, mesh: MeshFile) -> list[Path]:
    """Texture coordinates as the vertices' s and t, as MeshLab reads them."""
    texture = _write_texture(path, mesh)
    columns = {name: mesh.vertices[:, axis] for axis, name in enumerate("xyz")}
    columns |= {"s": mesh.coordinates[:, 0], "t": 1 - mesh.coordinates[:, 1]}
    vertices = np.empty(len(mesh.vertices), dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    faces = np.empty(len(mesh.faces), dtype=[("vertex_indices", "<i4", (3,))])
    faces["vertex_indices"] = mesh.faces
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    comments = [f"TextureFile {texture.name}"]
    with replacing(path) as temporary:
        PlyData(elements, byte_order="<", comments=comments).write(str(temporary))
    return [path, texture]
