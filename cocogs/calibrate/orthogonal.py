"""The camera that makes orthogonal directions of vanishing points, by the likelihood of all segments.

Lengths are in units of the photo's longer side, from its middle; directions are (3,) in the camera's axes
(OpenCV).
"""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from cocogs.calibrate.segments import Segments
from cocogs.calibrate.vanishing import (
    FEWEST,
    belonging_by,
    find_points,
    gains,
    gains_and_weights,
    residuals,
    shares,
    slopes,
)

FOCAL_RANGE = (0.2, 6.0)  # longer sides
FOCAL_PRIOR = (-0.05, 0.7)  # mean and deviation of log f: 0.95 longer sides, a 28 to 35 mm lens
ROLL, PITCH = 10.0, 25.0  # degrees: deviations of how upright photos are held
CENTERED, CROPPED = 0.01, 0.12  # deviation of the principal point of whole and of cropped photos
TRIED = 14  # hypotheses that are refined
FRAMES = 3  # at most: the main one, and turned ones that share one of its axes
LEAST_YAW = 6.0  # degrees between frames
STEPS = 40  # of a refinement, at most
FRAME_PRICE = 10.0  # nats that another frame must explain
HALF_PRICE = 4.0  # nats more where one of its two directions has hardly any lines


@dataclass(frozen=True)
class Camera:
    """A pinhole camera before frames of orthogonal directions.

    Args:
        log_focal: log of the focal length.
        center: (2,) principal point.
        turn: (3, 3) columns are three orthogonal directions.
        yaws: (F,) radians by which other frames are turned about the upright one of the three.
    """

    log_focal: float
    center: np.ndarray
    turn: np.ndarray
    yaws: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def upright(self) -> int:
        """Which of the three is."""
        return int(np.abs(self.turn[1]).argmax())

    @property
    def matrix(self) -> np.ndarray:
        f = np.exp(self.log_focal)
        return np.array([[f, 0, self.center[0]], [0, f, self.center[1]], [0, 0, 1]])

    @property
    def directions(self) -> np.ndarray:
        """(3 + 2 F, 3) unit vectors: the three, then two of each other frame."""
        a, b = (self.turn[:, (self.upright + i) % 3] for i in (1, 2))
        more = [v for y in self.yaws for v in (np.cos(y) * a + np.sin(y) * b, np.cos(y) * b - np.sin(y) * a)]
        return np.array([*self.turn.T, *more])

    @property
    def points(self) -> np.ndarray:
        """(3 + 2 F, 3) homogeneous vanishing points."""
        return self.directions @ self.matrix.T

    def stepped(self, step: np.ndarray) -> "Camera":
        """Moved by (6 + F,): log focal, centre, rotation vector, yaws."""
        return Camera(
            self.log_focal + step[0],
            self.center + step[1:3],
            Rotation.from_rotvec(step[3:6]).as_matrix() @ self.turn,
            self.yaws + step[6:],
        )


@dataclass(frozen=True)
class Fit:
    """A camera that a refinement ended at.

    Args:
        camera: it.
        score: log likelihood of the lines relative to chance, plus log prior.
        covariance: (3, 3) of log focal and centre.
        per_line: by how much its vanishing points explain a line better than chance, nats.
        evidence: log of the likelihood integrated over all parameters, up to a constant.
    """

    camera: Camera
    score: float
    covariance: np.ndarray
    evidence: float
    per_line: float


def log_prior(camera: Camera, spread: float) -> float:
    """Of focal length, how the camera was held, and the principal point, which is in the middle but for
    `spread`."""
    mean, deviation = FOCAL_PRIOR
    centered = -0.5 * (camera.center @ camera.center) / spread**2 - 2 * np.log(spread)
    x, y, z = camera.turn[:, camera.upright]
    roll, pitch = np.degrees(np.arctan2(x * np.sign(y), abs(y))), np.degrees(np.arcsin(z))
    held = -0.5 * (roll / ROLL) ** 2 - 0.5 * (pitch / PITCH) ** 2
    return float(centered + held - 0.5 * ((camera.log_focal - mean) / deviation) ** 2)


def score(camera: Camera, segments: Segments, spread: float) -> float:
    """Log likelihood of the segments against chance, plus log prior."""
    gain = gains(camera.points, segments)
    part = shares(gain)
    return segments.worth * float(np.log(part[-1] + part[:-1] @ gain).sum()) + log_prior(camera, spread)


def belonging(camera: Camera, segments: Segments) -> np.ndarray:
    """(3 + 2 F, P) probability that each segment belongs to each direction."""
    return belonging_by(gains(camera.points, segments))


def refine(camera: Camera, segments: Segments, spread: float) -> Fit:
    """The likeliest camera nearby, by expectation and damped Gauss-Newton steps, with its covariance."""
    pull = np.zeros(6 + len(camera.yaws))
    pull[:3] = 1 / FOCAL_PRIOR[1], 1 / spread, 1 / spread
    best, damping = score(camera, segments, spread), 1e-4
    normal, slope = _equations(camera, segments, pull)
    for _ in range(STEPS):
        move = -np.linalg.solve(normal + np.diag(damping * np.diag(normal) + 1e-9), slope)
        move *= min(1.0, 0.3 / max(np.abs(move).max(), 1e-12))
        trial = camera.stepped(move)
        reached = score(trial, segments, spread)
        if reached > best:
            gained, camera, best, damping = reached - best, trial, reached, damping / 10
            normal, slope = _equations(camera, segments, pull)
            if gained < 1e-4:
                break
        elif damping > 1:
            break
        else:
            damping *= 30
    whole = np.linalg.inv(normal + 1e-9 * np.eye(len(pull)))
    evidence = best + 0.5 * np.linalg.slogdet(whole)[1] + 0.5 * len(pull) * np.log(2 * np.pi)
    lines = belonging_by(gains(camera.points, segments)).sum(1)[3:].reshape(-1, 2)
    price = FRAME_PRICE * len(lines) + HALF_PRICE * (lines.min(1) < FEWEST).sum()
    per_line = (best - log_prior(camera, spread)) / segments.worth / len(segments)
    return Fit(camera, best, whole[:3, :3], float(evidence - price), per_line)


def _equations(camera: Camera, segments: Segments, pull: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal matrix and slope of half the weighted squares of all residuals, with the priors' `pull`."""
    points = camera.points
    e = residuals(points, segments)
    gain, kept = gains_and_weights(e, segments)
    weights = segments.worth * belonging_by(gain) * kept
    e = np.where(weights > 0, e, 0)
    by_point = slopes(points, segments, e)
    by_step = np.stack([_by_step(camera, number) for number in range(len(points))])
    squares = np.einsum("vpi,vp,vpj->vij", by_point, weights, by_point)
    normal = np.einsum("vik,vij,vjl->kl", by_step, squares, by_step) + np.diag(pull**2)
    slope = np.einsum("vik,vpi,vp->k", by_step, by_point, weights * e)
    off = np.zeros(len(pull))
    off[0], off[1:3] = camera.log_focal - FOCAL_PRIOR[0], camera.center
    return normal, slope + pull**2 * off


def _by_step(camera: Camera, number: int) -> np.ndarray:
    """(3, 6 + F) derivative of a vanishing point by `Camera.stepped`'s steps."""
    matrix, direction = camera.matrix, camera.directions[number]
    out = np.zeros((3, 6 + len(camera.yaws)))
    out[:2, 0] = matrix[0, 0] * direction[:2]
    out[0, 1] = out[1, 2] = direction[2]
    out[:, 3:6] = matrix @ np.cross(np.eye(3), direction).T
    if number >= 3:  # a step of its yaw turns it about the upright axis
        out[:, 6 + (number - 3) // 2] = matrix @ np.cross(camera.turn[:, camera.upright], direction)
    return out


def hypotheses(points: np.ndarray) -> list[Camera]:
    """Cameras for which two or three of the vanishing points are orthogonal."""
    cameras = []
    for many in (3, 2):
        for group in itertools.combinations(range(len(points)), many):
            some = points[list(group)]
            for f, center in _solutions(some):
                back = (some - some[:, 2:] * [*center, 0]) / [f, f, 1]
                back /= np.linalg.norm(back, axis=1, keepdims=True)
                if many == 2:
                    back = np.vstack([back, np.cross(*back)])
                u, _, v = np.linalg.svd(back.T)
                turn = u @ v
                if np.abs((turn * back.T).sum(0)).min() > 0.9:
                    cameras.append(
                        Camera(float(np.log(f)), np.array(center), turn * np.sign(np.linalg.det(turn)))
                    )
    return cameras


def _solutions(points: np.ndarray) -> list[tuple[float, tuple[float, float]]]:
    """Focal lengths and principal points for which vanishing points (2 or 3, 3) are orthogonal: with the
    principal point in the middle for each pair, and where three points set it, there."""
    least, most = FOCAL_RANGE
    found = []
    pairs = list(itertools.combinations(points, 2))
    squares = [-(a[:2] @ b[:2]) / (a[2] * b[2]) for a, b in pairs if abs(a[2] * b[2]) > 1e-9]
    found += [(float(np.sqrt(s)), (0.0, 0.0)) for s in squares if least**2 < s < most**2]
    if len(points) == 3:
        # a w b = 0 with w = [1 0 -x; 0 1 -y; -x -y x^2 + y^2 + f^2]: linear in x, y and the last
        rows = np.array(
            [[a[0] * b[2] + a[2] * b[0], a[1] * b[2] + a[2] * b[1], -a[2] * b[2]] for a, b in pairs]
        )
        if abs(np.linalg.det(rows)) > 1e-9:
            x, y, last = np.linalg.solve(rows, [a[:2] @ b[:2] for a, b in pairs])
            square = last - x * x - y * y
            if least**2 < square < most**2 and max(abs(x), abs(y)) < 0.4:
                found.append((float(np.sqrt(square)), (float(x), float(y))))
    return found


def with_frames(fit: Fit, segments: Segments, spread: float) -> Fit:
    """The same camera with other frames that are upright, too, where these explain enough lines more."""
    grid = np.radians(np.arange(LEAST_YAW, 90 - LEAST_YAW + 0.1, 1.0))
    while len(fit.camera.yaws) < FRAMES - 1:
        belongs = belonging(fit.camera, segments)
        if belongs[fit.camera.upright].sum() < FEWEST:
            break
        free = 1 - belongs.sum(0)
        trial = replace(fit.camera, yaws=grid)
        gain = gains(trial.points[3:], segments).reshape(len(grid), 2, -1).sum(1)
        explained = segments.worth * np.log1p(0.1 * gain) @ free
        if explained.max() < FRAME_PRICE:
            break
        yaws = np.append(fit.camera.yaws, grid[explained.argmax()])
        more = refine(replace(fit.camera, yaws=yaws), segments, spread)
        apart = np.degrees(more.camera.yaws[:, None] - np.append(more.camera.yaws, 0))[
            ~np.eye(len(yaws), len(yaws) + 1, dtype=bool)
        ]
        if more.evidence < fit.evidence or np.abs((apart + 45) % 90 - 45).min() < LEAST_YAW:
            break
        fit = more
    return fit


def fits(segments: Segments, rng: np.random.Generator) -> list[Fit]:
    """Cameras that explain the segments, likeliest first, each by a prior for cropped photos."""
    points = find_points(segments, rng)
    cameras = hypotheses(points)
    scores = [score(camera, segments, CROPPED) for camera in cameras]
    order = np.argsort(scores)[::-1][:TRIED]
    refined = [refine(cameras[i], segments, CROPPED) for i in order]
    refined.sort(key=lambda fit: -fit.evidence)
    kept: list[Fit] = []
    for fit in refined:
        if all(abs(fit.camera.log_focal - k.camera.log_focal) > 0.02 for k in kept):
            kept.append(fit)
    grown = [with_frames(fit, segments, CROPPED) for fit in kept[:4]]
    return sorted(grown, key=lambda fit: -fit.evidence)
