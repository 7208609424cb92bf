"""The presets, and every number that shapes a training run. One sentence under each field."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cocogs.errors import InputError, check_number

LARGEST = 2**31 - 1  # of a whole number; COLMAP takes no larger seed


def within(default: Any, **limits: float) -> Any:
    """A field whose numbers lie in a range, given in the words of `check_number`; see `limits_of`."""
    return field(default=default, metadata=limits)


def weight(default: float) -> Any:
    """A field that is a learning rate, a price, a threshold: not below 0, and small enough for float32."""
    return within(default, least=0, most=1e9)


def share(default: float) -> Any:
    """A field that is a part of a whole."""
    return within(default, least=0, most=1)


def count(default: int | None, least: int = 1, most: int = LARGEST) -> Any:
    """A field that is a whole number."""
    return within(default, least=least, most=most, whole=True)


@dataclass(frozen=True)
class Ablation:
    """Parts of the paper's model to leave out, as in its Table 3."""

    coc: bool = False
    """Offsets no longer grow with the circle of confusion."""
    direction: bool = False
    """Fixed, evenly spread directions instead of learned ones."""
    beta: bool = False
    """Every copy sits on the rim of the circle: beta = 1."""
    aperture: bool = False
    """The aperture K stays at its start value."""
    cnn: bool = False
    """The renders are averaged instead of blended by the CNN."""


@dataclass(frozen=True)
class ModelConfig:
    """How a photo is formed from the base Gaussians."""

    lens: Literal["pinhole", "widened", "sampled", "paper"] = "widened"
    """Its class is in optics/lens_models: none; one blurred render; M renders; as published."""
    copies: int = count(3, most=63)
    """M, the CoC copies per Gaussian (sampled and paper). At most 64 sets are drawn; `paper` has M + 1."""
    per_photo_aperture: bool = False
    """Learn an aperture for every photo instead of one for the camera."""
    antialiased: bool = False
    """Pixels average over what they cover, instead of widening every splat as 3DGS and the paper do."""
    photometric: bool = False
    """Learn exposure and white balance of every photo, vignetting and response of every camera."""
    ablation: Ablation = field(default_factory=Ablation)
    """Parts of the model to leave out (paper)."""


@dataclass(frozen=True)
class OptimConfig:
    """Learning rates are Adam's; rates of positions scale with the scene."""

    iterations: int = count(4500)
    """Photos that training sees, the same one again and again; all that changes in a run goes by them."""
    seen_at_least: int = count(0, least=0)
    """Where there are many photos, `iterations` grow until every one is seen so many times."""
    batch: int = count(1)
    """Photos of a step; rates follow (train/rates.py)."""
    ssim_weight: float = share(0.2)
    """Share lambda of D-SSIM in the loss."""
    means: float = weight(1.6e-4)
    """Positions, in units of the scene extent; falls exponentially to 1 % of it."""
    scales: float = weight(5e-3)
    quats: float = weight(1e-3)
    opacities: float = weight(5e-2)
    sh0: float = weight(2.5e-3)
    shN: float = weight(2.5e-3 / 20)
    network: float = weight(1e-3)
    """MLP and CNN (paper)."""
    vergence: float = weight(6e-3)
    """Focus distances, as typical depth / z_f. This and the next three: a quantity per photo each, by its
    name."""
    log_K: float = weight(5e-3)
    softness: float = weight(2e-2)
    """Variance of what blurs all of a photo alike, px^2."""
    softness_price: float = weight(1e-3)
    """What a px^2 of it costs in the loss: photos that need none get none."""
    exposure: float = weight(1.1e-2)
    """Log gains on the light of the photos; falls like that of positions."""
    exposure_prior: float = weight(5e-2)
    """Weight of (log gain - EXIF's)^2 in the loss, where EXIF tells the exposure of every photo."""
    vignette: float = weight(1e-3)
    """Light lost towards the corners; this and the next fall like that of positions."""
    response: float = weight(1e-3)
    """Coefficients of the response curve."""
    response_price: float = weight(1e-3)
    """Weight of their squares in the loss."""
    sh_interval: int = count(500)
    """One more band of spherical harmonics every so many photos seen, up to degree 3."""
    K_prior: float = weight(5e-3)
    """Weight of log(K / K_start)^2 in the loss where photos do not differ in focus, or each has its own K:
    there fat splats can explain the blur, and K drifts off."""
    noted_price: float = weight(5e-5)
    """What a standard deviation between a photo's focus and what its camera noted costs in the loss."""
    sharp_coc: float = within(3.0, above=0, most=1e9)
    """Pixels count by 1 / (1 + (c / this)^2), c their CoC in px: those in focus hold the detail."""
    lens_from: float = share(0.07)
    """Share of the run after which lens parameters start to move: the scene has to form first."""
    halved_until: float = share(0.0)
    """Share of the run in which photos are seen at half their size, which is quicker; not those whose shorter
    side is below 128 px."""
    sets_from: float = share(0.8)
    """Share of the run after which the M copies are rendered (sampled, paper): while splats are added, one
    render will do."""

    @property
    def last_halved(self) -> int:
        """The last step in which photos are seen at half their size; 0 where none is."""
        return int(min(self.halved_until, self.sets_from) * self.iterations)

    @property
    def last_single(self) -> int:
        """The last step before the M copies are rendered."""
        return int(self.sets_from * self.iterations)


@dataclass(frozen=True)
class StrategyConfig:
    """Where Gaussians are added and removed (3DGS's rules)."""

    max_gaussians: int = count(150_000)
    """No Gaussian is added beyond this number."""
    extra_points: int = count(20_000, least=0)
    """Start points beside the SfM points, of which blurred photos have few: see train/start_points.py."""
    every: int = count(100)
    """Photos seen between two edits; all of them, where there are more."""
    begin: float = share(0.13)
    """Share of the run after which densification starts."""
    end: float = share(0.8)
    """Share of the run after which it stops."""
    gradient: float = weight(3e-4)
    """Mean pull of the pixels at the projected mean (in halves of the picture's longer side) above which a
    Gaussian is split or duplicated."""
    split_scale: float = weight(0.01)
    """Larger Gaussians (in scene extents) are split, smaller ones duplicated."""
    turnover: float = share(0.2)
    """Share of max_gaussians that may move from where little shows to where more is needed, at each edit."""
    sown: float = share(0.0)
    """Share of max_gaussians that is sown behind what a photo shows at each edit, as long as there is room:
    see train/sowing.py."""
    finest: float = weight(1.0)
    """No splat gets thinner than this share of the blur of the sharpest photo of it: no photo tells more."""
    min_opacity: float = share(5e-3)
    max_scale: float = within(0.5, above=0, most=1e9)
    """Larger Gaussians (in scene extents) are removed."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run, besides the photos."""

    preset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    seed: int = count(0, least=0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """Raises what `build` raises, and InputError for a preset that does not exist."""
        config = build(cls, values)
        preset(config.preset)
        return config


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they were read."""

    source: str
    longer_side: int = count(800, least=12)
    downscale: int | None = count(None)
    test_every: int | None = count(None, least=2)
    test: str | None = None
    frames: int | None = count(None, least=3)
    panoramas: bool = False


T = TypeVar("T")


def build(cls: type[T], values: Any) -> T:
    """A dataclass of dataclasses from what `asdict` made of it.

    Raises:
        TypeError: unknown names, or values of another type.
        InputError: a number out of its range.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} are no settings")
    types = get_type_hints(cls)
    if unfit := [name for name, value in values.items() if not _fits(value, types.get(name))]:
        raise TypeError(f"{unfit[0]} cannot be {values[unfit[0]]!r}")
    for item in fields(cls):  # pyright: ignore[reportArgumentType]
        if item.metadata and item.name in values:
            check_number(item.name, values[item.name], **item.metadata)
    return cls(
        **{
            name: build(types[name], value) if is_dataclass(types[name]) else value
            for name, value in values.items()
        }
    )


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a type as the fields of our dataclasses have; no text is empty."""
    if is_dataclass(kind):
        return isinstance(value, dict)
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    kinds = get_args(kind) or (kind,)
    if float in kinds:
        kinds = (*kinds, int)
    return type(value) in kinds and value != ""


def limits_of(kind: type, name: str) -> dict[str, Any]:
    """The range of a field, in the words of `check_number`."""
    return dict(next(item.metadata for item in fields(kind) if item.name == name))


PRESETS = {
    "3dgs": Config("3dgs", ModelConfig(lens="pinhole")),
    "lens": Config(
        "lens",
        ModelConfig(lens="widened", antialiased=True, photometric=True),
        OptimConfig(halved_until=0.25),
        StrategyConfig(sown=0.01),
    ),
    "paper": Config(
        "paper",
        ModelConfig(lens="paper", copies=4),
        # Its 1,500 steps of plain 3DGS are 5 % of its run; of so short a run as ours that is too little.
        OptimConfig(ssim_weight=0.3, sets_from=0.2, K_prior=0.0, noted_price=0.0, sharp_coc=1e9),
    ),
    "full": Config(
        "full",
        ModelConfig(lens="sampled", antialiased=True, photometric=True),
        OptimConfig(halved_until=0.25),
        StrategyConfig(sown=0.01),
    ),
}
DEFAULT_PRESET = "full"  # docs/presets.md says why


def preset(name: str, **changes: Any) -> Config:
    """A preset by name.

    Raises:
        InputError: no preset has this name.
    """
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **changes)


@dataclass(frozen=True)
class Quality:
    """How large the photos are, how often they are seen, and how many splats there may be: three numbers that
    go together, since more of one shows little without more of the others.

    Args:
        longer_side: px; photos are shrunk by the smallest whole factor that brings the longer side to this.
        iterations: photos seen; more where there are many photos, see `for_photos`.
    """

    longer_side: int
    iterations: int
    max_gaussians: int


QUALITIES = {
    "draft": Quality(500, 1500, 50_000),
    "standard": Quality(800, 4500, 150_000),
    "high": Quality(1600, 15_000, 1_000_000),
    "max": Quality(3200, 30_000, 3_000_000),
}
DEFAULT_QUALITIES = {"cpu": "standard", "cuda": "high"}  # by the kind of device
SEEN_AT_LEAST = 30  # times that a training of some quality sees every photo


def with_quality(config: Config, quality: Quality) -> Config:
    """The settings at a quality; `DataConfig` holds the size of the photos."""
    optim = replace(config.optim, iterations=quality.iterations, seen_at_least=SEEN_AT_LEAST)
    return replace(
        config, optim=optim, strategy=replace(config.strategy, max_gaussians=quality.max_gaussians)
    )


def for_photos(config: Config, photos: int) -> Config:
    """The settings for so many training photos: every photo is seen `seen_at_least` times, and between two
    edits of the splats all photos are seen once.

    Raises:
        InputError: a batch has more photos than there are.
    """
    if config.optim.batch > photos:
        raise InputError(
            f"A `batch` of {config.optim.batch} photos is more than the {photos} that are trained on: give a "
            "smaller one, or start fewer processes."
        )
    optim, every = config.optim, max(config.strategy.every, photos)
    optim = replace(optim, iterations=max(optim.iterations, optim.seen_at_least * photos))
    return replace(config, optim=optim, strategy=replace(config.strategy, every=every))
