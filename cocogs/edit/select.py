"""What the words of `select` choose: splats by place, looks, what photos show of them, masks and clicks."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.expression import Vocabulary, select_by
from cocogs.edit.floaters import floaters, seen_by
from cocogs.edit.ground import find_ground
from cocogs.edit.objects import object_at, object_in_masks
from cocogs.edit.preview import picture_of
from cocogs.edit.subject import Look, Subject
from cocogs.edits import Chosen, read_selection
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, colors_of
from cocogs.lengths import parse_length, parse_lengths
from cocogs.render.options import parse_point
from cocogs.render.refocusing import along_ray

ALIKE = 0.1  # distance of colours that count as one, where none is given

Mask = Bool[Tensor, " N"]
CutOut = Callable[[Tensor, float, float], Tensor]  # (3, H, W) and a point to (H, W): the thing there


def select(subject: Subject, text: str, cut_out: CutOut | None = None) -> Chosen:
    """The splats that an expression means (`cocogs.edit.expression`).

    Args:
        cut_out: understands clicks; None: the scene's depth does.

    Raises:
        InputError: it is none, or does not fit the scene, or means no splat.
    """
    with torch.no_grad():
        mask = select_by(text, vocabulary(subject, cut_out)).cpu()
    if not mask.any():
        raise InputError(f"`select` {text!r:.80} means no splat of {subject.target}: select more.")
    return Chosen(mask, text)


def vocabulary(subject: Subject, cut_out: CutOut | None = None) -> Vocabulary:
    """The words for a scene."""
    g = subject.gaussians
    means = g.means.detach()
    scales = g.scales.detach().exp()
    length = partial(parse_length, metres=subject.metres, place=subject.target)

    def number(field: str, text: str) -> float:
        if field in ("scale", "thickness", "x", "y", "z", "height", "distance"):
            return length(f"select {field}", text)
        try:
            return float(text)
        except ValueError as error:
            raise InputError(f"`select` compares {field} with a number, not {text!r:.40}.") from error

    return Vocabulary(
        words={
            "all": partial(_everything, g),
            "mask": partial(_by_masks, subject),
            "click": partial(_by_click, subject, cut_out),
            "box": partial(_in_box, subject),
            "sphere": partial(_in_sphere, subject),
            "color": partial(_by_color, subject),
            "floaters": lambda text: floaters(g, subject.cameras, _number("floaters", text, 1.0)),
            "file": lambda text: read_selection(Path(text), subject.edits).mask,
        },
        fields={
            "opacity": lambda: g.opacities.detach().sigmoid(),
            "scale": lambda: scales.amax(1),
            "thickness": lambda: scales.amin(1),
            "x": lambda: means[:, 0],
            "y": lambda: means[:, 1],
            "z": lambda: means[:, 2],
            "height": lambda: find_ground(subject).heights(means),
            "distance": lambda: (means - _middle(subject).to(means)).norm(dim=1),
            "photos": lambda: seen_by(g, subject.cameras).float(),
        },
        number=number,
        around={
            "grow": lambda mask, text: grown(g, mask, length("grow", text)),
            "shrink": lambda mask, text: ~grown(g, ~mask, length("shrink", text)),
        },
    )


def grown(gaussians: Gaussians, mask: Mask, distance: float) -> Mask:
    """The splats within `distance` (scene units) of a chosen one, centre to centre.

    Raises:
        InputError: the distance is not above 0.
    """
    from scipy.spatial import KDTree  # .3 s to load

    if not distance > 0:
        raise InputError(f"A selection grows and shrinks by a length above 0, not {distance:g}.")
    means = gaussians.means.detach().cpu().numpy()
    chosen = mask.cpu().numpy()
    if not chosen.any() or chosen.all():
        return mask.clone()
    nearest, _ = KDTree(means[chosen]).query(means[~chosen], distance_upper_bound=distance)
    result = mask.cpu().clone()
    result[~result] = torch.from_numpy(nearest <= distance)
    return result


# -------------------------------------------------------------------------------- words and their arguments


def _everything(gaussians: Gaussians, text: str) -> Mask:
    if text:
        raise InputError(f"`select` all means everything, and takes nothing after it, not {text!r:.40}.")
    return torch.ones(len(gaussians), dtype=torch.bool)


def _by_masks(subject: Subject, text: str) -> Mask:
    looks = [_place_in_photo("mask", part, subject) for part in re.split(r",(?=[^@]*@)", text)]
    masks = [(look.camera, look.mask(Path(file))) for file, look in looks]
    for (file, look), (_, mask) in zip(looks, masks, strict=True):
        if not (mask > 0.5).any():
            raise InputError(f"{file} marks nothing in {look.name}: paint the object white on black.")
    return object_in_masks(subject.gaussians, masks)


def _by_click(subject: Subject, cut_out: CutOut | None, text: str) -> Mask:
    place, look = _place_in_photo("click", text, subject)
    camera = look.camera
    x, y = parse_point("select click", place, camera.width, camera.height, look.name)
    if cut_out is None:
        return object_at(subject.gaussians, subject.cameras, camera, x, y)
    return object_in_masks(subject.gaussians, [(camera, cut_out(picture_of(subject, look), x, y))])


def _in_box(subject: Subject, text: str) -> Mask:
    corners = parse_lengths("select box", text, 6, subject.metres, subject.target)
    low, high = torch.tensor(corners).view(2, 3).sort(0).values
    return in_box(subject.gaussians, low, high)


def in_box(gaussians: Gaussians, low: Float[Tensor, "3"], high: Float[Tensor, "3"]) -> Mask:
    """Splats whose centres lie in a box along the axes."""
    means = gaussians.means.detach().cpu()
    return ((means >= low) & (means <= high)).all(1)


def _in_sphere(subject: Subject, text: str) -> Mask:
    x, y, z, radius = parse_lengths("select sphere", text, 4, subject.metres, subject.target)
    return in_sphere(subject.gaussians, torch.tensor([x, y, z]), radius)


def in_sphere(gaussians: Gaussians, center: Float[Tensor, "3"], radius: float) -> Mask:
    """Splats whose centres lie in a sphere."""
    return (gaussians.means.detach().cpu() - center).norm(dim=1) <= radius


def _by_color(subject: Subject, text: str) -> Mask:
    color, _, tolerance = text.partition("~")
    if color.startswith("#"):
        wanted = hex_color("select color", color)
    else:
        place, look = _place_in_photo("color", color, subject)
        camera = look.camera
        x, y = parse_point("select color", place, camera.width, camera.height, look.name)
        wanted = color_at(subject.gaussians, camera, x, y)
    return like_color(subject.gaussians, wanted, _number("color", tolerance, ALIKE))


def like_color(gaussians: Gaussians, color: Float[Tensor, "3"], tolerance: float = ALIKE) -> Mask:
    """Splats whose colour differs by at most `tolerance` (length of the difference in sRGB)."""
    return (colors_of(gaussians).cpu() - color.cpu()).norm(dim=1) <= tolerance


def color_at(gaussians: Gaussians, camera: Camera, x: float, y: float) -> Float[Tensor, "3"]:
    """The mean colour of the splats that are seen at a point of a picture, by what each shows.

    Raises:
        InputError: nothing is there.
    """
    _, shares, which = along_ray(gaussians, camera, x, y)
    if shares.sum() < 0.1:
        raise InputError(f"There is nothing at ({x:g}, {y:g}): choose another place.")
    return (shares[:, None] * colors_of(gaussians)[which]).sum(0) / shares.sum()


def hex_color(name: str, text: str) -> Float[Tensor, "3"]:
    """`#c04020` as sRGB in [0, 1]. Raises InputError for another text."""
    if re.fullmatch("#[0-9a-fA-F]{6}", text) is None:
        raise InputError(f"`{name}` takes a colour such as #c04020, not {text!r:.40}.")
    return torch.tensor([int(text[start : start + 2], 16) / 255 for start in (1, 3, 5)])


def _place_in_photo(word: str, text: str, subject: Subject) -> tuple[str, Look]:
    """`WHAT@PHOTO`: what comes before the last @, and the photo."""
    what, at, photo = text.rpartition("@")
    if not (at and what and photo):
        raise InputError(f"`select` takes {word}:{EXAMPLES[word]}, for example, not {word}:{text:.60}.")
    return what, subject.look(photo)


EXAMPLES = {"mask": "cup.png@003.png", "click": "410,220@003.png", "color": "410,220@003.png~0.1"}


def _number(word: str, text: str, otherwise: float) -> float:
    try:
        value = float(text) if text else otherwise
    except ValueError as error:
        raise InputError(f"`select` {word} takes a number, not {text!r:.40}.") from error
    if not 0 < value < 1e6:
        raise InputError(f"`select` {word} takes a number above 0, not {text}.")
    return value


def _middle(subject: Subject) -> Float[Tensor, "3"]:
    """The middle of the cameras, or of the splats where there are none."""
    if subject.looks:
        return torch.stack([camera.position for camera in subject.cameras]).mean(0)
    return subject.gaussians.means.detach().median(0).values
