"""Truth scenes of which one object is moved after the photos: `make_truth_scene.py SCENE --edit`.

Such a scene holds, beside what every truth scene holds:

    edit.json               what moved, and how: a (4, 4) matrix in the world of truth.json
    edit/before/NNN.png     how much of each pixel the object fills, of every photo without defocus (grey)
    edit/after/NNN.png      the same of the test views after the move
    edit/images/NNN.png     the test views after the move, sharp
    edit/refocus/*.png      the same through the lens, focused as edit.json says
    edit/depth/NNN.npy      their depth, as in depth/
    edit/lamps_stay/NNN.png the test views after the move, sharp, under the lamps as they were

The object casts no shadow, neither in the photos nor after: only the camera sees it. So nothing of it is
baked into other things: no shadow, no light that it throws on them, no mirror image. What others do to it
stays: they hide it, light bounces from them onto it, and the sky reaches it past them. Only the lamps shine
through them onto it.

A move of splats takes the object's light along. To have a truth of just that, the object has lamps of its
own, as bright as those that light everything else, and in edit/images they move with it. In edit/lamps_stay
they do not: the object is lit as it really would be in its new place. The sky is even: one is enough.

A turned object shows sides that photos must have seen. So they are spread wider to the sides than those of
the scene without an edit (`TruthScene.edit_spread`); the test views are not. Give such scenes --views 36.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from truth_photos import PHOTOGRAPHED, Frame, Settings, Shot, plan_frames
from truth_scenes import SCENES

MOVED, LAMPS_STAY = "moved", "moved, lamps stay"
MASK_SAMPLES = 64  # rays per pixel


@dataclass(frozen=True)
class Edit:
    """A move over the ground of the scene made with --seed 0.

    Args:
        thing: the object's name in Blender.
        pivot: x, y in metres of the upright axis that it turns about.
        turn: degrees about that axis, counterclockwise as seen from above.
        move: metres along x, y, z.
    """

    thing: str
    pivot: tuple[float, float]
    turn: float
    move: tuple[float, float, float]

    def world_from_world(self) -> np.ndarray:
        """(4, 4) rigid transform from where a point of the object was to where it is."""
        c, s = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        transform, pivot = np.eye(4), np.array([*self.pivot, 0.0])
        transform[:2, :2] = [[c, -s], [s, c]]
        transform[:3, 3] = pivot + self.move - transform[:3, :3] @ pivot
        return transform


EDITS = {
    "tabletop": Edit("PEAS", (0.174, 0.153), 30.0, (0.016, 0.197, 0.0)),
    "corridor": Edit("PAINT", (-0.748, 5.8), -7.0, (0.4, -1.0, 0.0)),
}


# -------------------------------------------------------------------------------------------------- plans


def plan_edit(settings: Settings) -> dict:
    """What edit.json states; lengths in metres, and px where it says so."""
    edit = EDITS[settings.scene]
    return {
        "object": edit.thing,
        "turn_degrees": edit.turn,
        "move": list(edit.move),
        "world_from_world": edit.world_from_world().tolist(),
        "views": [frame.name for frame in test_frames(settings)],
        "refocus": plan_refocused(settings),
        "light": {
            "edit/images, edit/refocus": "the object's lamps move with it",
            "edit/lamps_stay": "the object's lamps stay",
        },
    }


def plan_refocused(settings: Settings) -> list[dict]:
    """Every test view twice: focused on the object's new place, and in turn on near and far depths."""
    scene, edit = SCENES[settings.scene], EDITS[settings.scene]
    place = edit.world_from_world() @ [*edit.pivot, 0.0, 1.0]
    result = []
    for k, frame in enumerate(test_frames(settings)):
        share = (0.15, 1.0)[k % 2]
        elsewhere = 1 / ((1 - share) / scene.near + share / scene.far)
        for distance in (float(frame.cam_from_world[2] @ place), elsewhere):
            rounded = round(distance, 3)
            name = f"{Path(frame.name).stem}_f{rounded:g}.png"
            lens = {"focus_distance": rounded, "aperture_scale": 1.0}
            result.append({"name": name, "view": frame.name, **lens})
    return result


def test_frames(settings: Settings) -> list[Frame]:
    return [frame for frame in plan_frames(settings) if frame.focus_distance is None]


def plan_edited_shots(settings: Settings, out: Path) -> list[Shot]:
    """Everything in OUT/edit."""
    folder, frames = out / "edit", plan_frames(settings)
    by_name = {frame.name: frame for frame in frames}
    shots = []
    for frame in test_frames(settings):
        depth = folder / "depth" / f"{Path(frame.name).stem}.npy"
        shots.append(Shot(folder / "images" / frame.name, frame, None, depth, MOVED))
        shots.append(Shot(folder / "lamps_stay" / frame.name, frame, None, None, LAMPS_STAY))
        shots.append(Shot(folder / "after" / frame.name, frame, None, None, MOVED, mask=True))
    for wanted in plan_refocused(settings):
        path, frame = folder / "refocus" / wanted["name"], by_name[wanted["view"]]
        shots.append(Shot(path, frame, wanted["focus_distance"], None, MOVED))
    for frame in frames:
        shots.append(Shot(folder / "before" / frame.name, frame, None, None, PHOTOGRAPHED, mask=True))
    return shots


# ------------------------------------------------------------------------------------------------ Blender


def prepare_edit(settings: Settings) -> Callable[[Shot], None]:
    """Makes the object one that only the camera sees, with lamps of its own; returns what puts it, its lamps
    and the renderer into the state of a shot."""
    import bpy  # pyright: ignore[reportMissingImports]
    from mathutils import Matrix  # pyright: ignore[reportMissingImports]

    edit, scene = EDITS[settings.scene], bpy.context.scene
    thing = bpy.data.objects[edit.thing]
    others = [other for other in scene.objects if other.type == "MESH" and other != thing]
    check_place(edit, thing)
    for ray in ("shadow", "diffuse", "glossy", "transmission"):
        setattr(thing, f"visible_{ray}", False)
    own_lamps = give_lamps(thing, others)
    built = {moved: moved.matrix_world.copy() for moved in (thing, *own_lamps)}
    motion = Matrix(edit.world_from_world().tolist())

    def arrange(shot: Shot) -> None:
        thing.matrix_world = built[thing] if shot.state == PHOTOGRAPHED else motion @ built[thing]
        for lamp in own_lamps:
            lamp.matrix_world = motion @ built[lamp] if shot.state == MOVED else built[lamp]
        for other in others:
            other.is_holdout = shot.mask
        scene.render.film_transparent = shot.mask
        scene.cycles.use_denoising = not shot.mask
        scene.cycles.samples = MASK_SAMPLES if shot.mask else settings.samples
        scene.cycles.max_bounces = 0 if shot.mask else SCENES[settings.scene].bounces

    return arrange


def check_place(edit: Edit, thing) -> None:
    """The pivot is a constant, so that plans need no Blender: it must be where the object is."""
    import bpy  # pyright: ignore[reportMissingImports]

    bpy.context.view_layer.update()  # location becomes matrix_world
    if math.dist(thing.matrix_world.translation[:2], edit.pivot) > 0.001:
        raise SystemExit(f"{edit.thing} stands at {thing.matrix_world.translation[:2]}, not at {edit.pivot}.")


def give_lamps(thing, others: list) -> list:
    """Every lamp twice: the one that was there lights `others`, its twin the `thing` alone.

    Nothing stands in the twins' light, so that it is the same wherever the thing is. Returns the twins.
    """
    import bpy  # pyright: ignore[reportMissingImports]

    alone, rest = bpy.data.collections.new("object"), bpy.data.collections.new("all others")
    alone.objects.link(thing)
    for other in others:
        rest.objects.link(other)
    twins = []
    for lamp in [entry for entry in bpy.context.scene.objects if entry.type == "LIGHT"]:
        twin = lamp.copy()
        bpy.context.scene.collection.objects.link(twin)
        lamp.light_linking.receiver_collection = rest
        twin.light_linking.receiver_collection = alone
        twin.light_linking.blocker_collection = alone  # which casts no shadow
        twins.append(twin)
    return twins
