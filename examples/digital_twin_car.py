"""The car of the digital twin (examples/digital_twin.py): what it sees, and where it drives by that.

It sees the splats of the run through two `PhysicalCamera`s, side by side: depth of field, vignetting, noise.

The car knows its cameras, how they are mounted, the turns of its wheels, a gyroscope, and that the goal is a
magenta ball. Everything else it takes from its pictures: where the ball is, by its two places in them; what
stands on the ground, by stereo (OpenCV). It keeps a map of that, plans a path on it and follows the path.
"""

import math

import cv2  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from skimage.graph import route_through_array
from skimage.measure import label, regionprops

from cocogs.gaussians import Gaussians
from cocogs.io.camera_file import CameraFile, Noise, Sensor, Vignetting
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.render.simulate import photograph

CAMERA = CameraFile(
    Sensor(4.8, 3.6, 240, 180), focal_length_mm=4.0, f_number=2.0, focus_distance_m=0.3, shutter_s=0.01,
    iso=100.0, vignetting=Vignetting(((-0.3, 0.0, 0.0),)), noise=Noise(shot_gain=0.001, read_noise=0.003),
)  # fmt: skip
MOUNT, BASELINE, PITCH = (0.015, 0.075), 0.024, 0.22  # m before the axle and above the ground; m; radians
SAMPLES = 4  # points of the aperture
WHEEL, TRACK = 0.012, 0.034  # radius of the wheels, distance between them, m
SPEED, FASTEST = 0.1, 14.0  # m/s; a wheel, rad/s
CELL = 0.01  # m, of the map
LOW, HIGH, REACH = 0.014, 0.12, 0.4  # m: obstacles are between the heights, and trusted up to that distance
ROOM = 0.026  # m around the middle of the car
NEAR_GOAL = 0.1  # m, at which it has arrived
UNSEEN = 20  # of 255: darker is where the run holds nothing
UNKNOWN = 4.0  # extra cost of a path over ground that no picture showed


class Eyes:
    """The two cameras of the car."""

    def __init__(self, gaussians: Gaussians) -> None:
        self.gaussians, self.camera, self.taken = gaussians, PhysicalCamera(CAMERA), 0
        self.fx = float(self.camera.focal_px.detach())
        self.matcher = cv2.StereoSGBM.create(
            0, 64, 5, P1=200, P2=1600, uniquenessRatio=12, speckleWindowSize=60, speckleRange=2
        )

    def look(self, place: np.ndarray, turn: np.ndarray) -> list[torch.Tensor]:
        """Pictures, left then right, from the car's place and its axes (columns: ahead, left, up)."""
        ahead, left, up = turn.T
        middle = place + ahead * MOUNT[0] + up * MOUNT[1]
        forward = ahead * math.cos(PITCH) - up * math.sin(PITCH)
        axes = np.stack([-left, np.cross(forward, -left), forward])
        pictures = []
        for side in (1, -1):
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = axes, -axes @ (middle + side * left * BASELINE / 2)
            taken = photograph(self.gaussians, self.camera, torch.from_numpy(pose), SAMPLES, self.taken)
            pictures.append(taken.image)
            self.taken += 1
        return pictures

    def seen_from_car(self, x: np.ndarray, y: np.ndarray, disparity: np.ndarray) -> np.ndarray:
        """(..., 3) ahead, left and up, m, of places in the left picture whose place in the right is known."""
        z = self.fx * BASELINE / disparity
        right, down = (
            (x - CAMERA.sensor.width / 2) / self.fx * z,
            (y - CAMERA.sensor.height / 2) / self.fx * z,
        )
        ahead = MOUNT[0] + z * math.cos(PITCH) - down * math.sin(PITCH)
        return np.stack(
            [ahead, BASELINE / 2 - right, MOUNT[1] - z * math.sin(PITCH) - down * math.cos(PITCH)], -1
        )

    def points(self, pictures: list[torch.Tensor]) -> np.ndarray:
        """(P, 3) ahead, left and up of what stereo finds."""
        grey = [(picture.mean(0).numpy() * 255).astype(np.uint8) for picture in pictures]
        disparity = self.matcher.compute(*grey).astype(np.float32) / 16
        y, x = np.nonzero((disparity > 1) & (grey[0] > UNSEEN))
        return self.seen_from_car(x + 0.5, y + 0.5, disparity[y, x])

    def ball(self, pictures: list[torch.Tensor]) -> np.ndarray | None:
        """Ahead, left and up of the magenta ball; None unless both pictures show it whole."""
        found = []
        for picture in pictures:
            red, green, blue = picture.numpy()
            spots = regionprops(label((np.minimum(red, blue) > 0.45) & (np.minimum(red, blue) > 2 * green)))
            spots = [spot for spot in spots if spot.area >= 8 and _is_whole(spot.bbox, green.shape)]
            if not spots:
                return None
            found.append(max(spots, key=lambda spot: spot.area).centroid)
        (row, left), (_, right) = found
        return self.seen_from_car(left + 0.5, row + 0.5, left - right) if left - right > 0.5 else None


def _is_whole(box: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a spot ends before the picture does: one that is cut off has its middle elsewhere."""
    return min(box[:2]) > 0 and box[2] < size[0] and box[3] < size[1]


class Driver:
    """What the car makes of its pictures. The origin is where it started: x to the right, y ahead."""

    def __init__(self, eyes: Eyes, side: float = 4.0) -> None:
        self.eyes, self.half = eyes, side / 2
        self.place, self.heading = np.zeros(2), math.pi / 2
        self.map = np.zeros((int(side / CELL), int(side / CELL)))
        self.goal: np.ndarray | None = None
        self.path = np.zeros((0, 2))

    def roll(self, left: float, right: float, turn: float) -> None:
        """Odometry, by how far (m) the wheels have rolled, and the car has turned (radians)."""
        self.heading += turn
        self.place += (left + right) / 2 * np.array([math.cos(self.heading), math.sin(self.heading)])

    def cells(self, places: np.ndarray) -> np.ndarray:
        return ((places + self.half) / CELL).astype(int).clip(0, len(self.map) - 1)

    def in_map(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) places in the car's frame of what lies ahead and left of it."""
        ahead = np.array([math.cos(self.heading), math.sin(self.heading)])
        return self.place + points[..., :1] * ahead + points[..., 1:2] * np.array([-ahead[1], ahead[0]])

    def see(self, pictures: list[torch.Tensor]) -> None:
        """Enter what the pictures show into the map, and plan a new path to the goal."""
        points = self.eyes.points(pictures)
        points = points[points[:, 0] < REACH]
        seen = self.cells(self.in_map(points))
        for high, change in ((False, -0.2), (True, 1.0)):
            chosen = seen[(points[:, 2] > LOW) & (points[:, 2] < HIGH) if high else points[:, 2] < LOW]
            cells, counts = np.unique(chosen, axis=0, return_counts=True)
            cells = cells[counts > 2]
            self.map[cells[:, 1], cells[:, 0]] += change
        self.map = self.map.clip(-1, 5)
        if (ball := self.eyes.ball(pictures)) is not None:
            place, weight = self.in_map(ball), 0.3
            self.goal = place if self.goal is None else (1 - weight) * self.goal + weight * place
        if self.goal is not None:
            self.plan()

    def plan(self) -> None:
        """The cheapest path: it costs most through what stands on the ground, and much close to it."""
        assert self.goal is not None
        blocked = (self.map > 1).astype(np.uint8)
        away = cv2.distanceTransform(1 - blocked, cv2.DIST_L2, 5) * CELL
        cost = (
            1 + 400 * (away < ROOM) + 4 * np.exp(-((away - ROOM).clip(0) / 0.02)) + UNKNOWN * (self.map == 0)
        )
        start, end = (tuple(self.cells(place)[::-1]) for place in (self.place, self.goal))
        route, _ = route_through_array(cost, start, end, geometric=True)
        self.path = np.array(route)[:, ::-1] * CELL - self.half

    def arrived(self) -> bool:
        return self.goal is not None and float(np.linalg.norm(self.goal - self.place)) < NEAR_GOAL

    def wheels(self) -> tuple[float, float]:
        """Speeds of the left and right wheel, rad/s: towards a point of the path, or turning while the goal
        has not been seen."""
        if self.goal is None:
            return -2.0, 2.0
        target = self.path[min(8, len(self.path) - 1)]
        away = target - self.place
        off = (math.atan2(away[1], away[0]) - self.heading + math.pi) % (2 * math.pi) - math.pi
        speed = SPEED * max(0.0, math.cos(off)) ** 2
        turn = float(np.clip(3 * off, -2.5, 2.5)) * TRACK / 2
        both = np.array([speed - turn, speed + turn]) / WHEEL
        left, right = both * min(1.0, FASTEST / max(np.abs(both).max(), 1e-9))
        return float(left), float(right)
