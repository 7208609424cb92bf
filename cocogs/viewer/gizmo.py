"""A handle in the scene that is dragged and turned with the mouse, and outlines that hang on it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import viser
import viser.transforms
from jaxtyping import Float64
from torch import Tensor

from cocogs.viewer.space import ViewerSpace

SIZE = 90.0  # px
OUTLINE = (255, 170, 40)
CIRCLE = 48  # segments


@dataclass(frozen=True)
class Pose:
    """Where a gizmo stands: x -> rotation x + position leads from its axes to the scene's; scene units."""

    rotation: Float64[Tensor, "3 3"]
    position: Float64[Tensor, "3"]

    def since(self, rest: "Pose") -> tuple[Float64[Tensor, "3 3"], Float64[Tensor, "3"]]:
        """Rotation and translation that bring what stood at `rest` here."""
        rotation = self.rotation @ rest.rotation.T
        return rotation, self.position - rotation @ rest.position


class Gizmo:
    """A handle, hidden until it is put somewhere.

    Args:
        turns: it can be turned.
        moved: called while it is dragged, and with True when it is released.
    """

    def __init__(
        self, scene: viser.SceneApi, space: ViewerSpace, name: str, turns: bool,
        moved: Callable[[Pose, bool], None],
    ) -> None:  # fmt: skip
        self._scene, self._space, self._name = scene, space, f"/edit/{name}"
        self._outline: viser.LineSegmentsHandle | None = None
        self.was_put = False
        self._handle = scene.add_transform_controls(
            self._name, SIZE, fixed=True, depth_test=False, disable_rotations=not turns, visible=False
        )

        @self._handle.on_update
        async def _(event: viser.TransformControlsEvent) -> None:
            # In viser's own thread, for other threads may take the events in another order.
            if event.phase != "start":
                moved(self.pose, event.phase == "end")

    @property
    def pose(self) -> Pose:
        rotation = viser.transforms.SO3(np.array(self._handle.wxyz)).normalize().as_matrix()
        position = np.array(self._handle.position) / self._space.scale
        return Pose(torch.from_numpy(rotation).double(), torch.from_numpy(position).double())

    def put(self, pose: Pose) -> None:
        """Show it there."""
        self._handle.position = self._space.points(pose.position.numpy())
        self._handle.wxyz = viser.transforms.SO3.from_matrix(pose.rotation.numpy()).wxyz
        self._handle.visible = self.was_put = True

    def hide(self) -> None:
        self._handle.visible = False

    def outline(self, segments: np.ndarray) -> None:
        """Hang lines on it: (S, 2, 3), in its axes, scene units."""
        points = self._space.points(segments).astype(np.float32)
        if self._outline is None:
            self._outline = self._scene.add_line_segments(
                f"{self._name}/outline", points, OUTLINE, thickness=2.0, thickness_units="screen"
            )
        self._outline.points = points


def box_outline(size: Float64[Tensor, "3"]) -> np.ndarray:
    """(12, 2, 3) the edges of a box around the origin."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size.numpy() / 2
    edges = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    return corners[np.array(edges)]


def sphere_outline(radius: float) -> np.ndarray:
    """(S, 2, 3) three great circles around the origin."""
    angles = np.linspace(0, 2 * np.pi, CIRCLE + 1)
    circle = radius * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    segments = np.stack([circle[:-1], circle[1:]], axis=1)
    return np.concatenate([np.roll(segments, shift, axis=2) for shift in range(3)])
