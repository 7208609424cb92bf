"""From a library's parameters in backticks to the options of the command line."""

import re
from pathlib import Path

import pytest

from cocogs.cli.bench import Bench
from cocogs.cli.commands import Command
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect, plain_console
from cocogs.cli.messages import sentence
from cocogs.cli.render import Render
from cocogs.cli.train import Train
from cocogs.cli.view import View
from cocogs.cli.words import speaker
from cocogs.errors import InputError, check_number

EXPORT = Export(Path("run"), Path("a.ply"))
TRAIN, EVAL = Train(Path("photos"), Path("run")), Eval(Path("run"))
RENDER, INSPECT = Render(Path("run"), Path("pictures")), Inspect(Path("photos"))


@pytest.mark.parametrize(
    ("command", "message", "seen"),
    [
        (TRAIN, "`test_every` must be 2 or more.", "--test-every must be 2 or more."),
        (TRAIN, "A larger `downscale`, such as `downscale=2`", "A larger --downscale, such as --downscale 2"),
        (TRAIN, "continue it with `resume=True`.", "continue it with --resume."),
        (TRAIN, "`data` is empty.", "DATA is empty."),
        (RENDER, "`focus_at` needs `view`.", "--focus-at needs --view."),
        (RENDER, "`run_folder` has no lens.", "RUN has no lens."),
        # What is no option of the command but one of training, by which the run was made.
        (EVAL, "No test views: train with `test_every`.", "No test views: train with --test-every."),
        (INSPECT, "give another `out`.", "give another --out."),
        # Other names keep their words, commands their backticks.
        (EVAL, "`focus_at` and `gaussians` and `file`", "focus_at and gaussians and file"),
        (TRAIN, "let `cocogs train` run; see `config.json`", "let `cocogs train` run; see config.json"),
        (EXPORT, "`file` must end in .ply, `crop` is empty", "file must end in .ply, --crop is empty"),
    ],
)  # fmt: skip
def test_parameters_become_options(command: Command, message: str, seen: str) -> None:
    assert sentence(InputError(message), command) == seen


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (TRAIN, {"--downscale", "--max-gaussians", "--resume"}),
        (Bench(Path("suite"), Path("out")), {"--downscale", "--max-gaussians"}),
        (INSPECT, {"--downscale"}),
        (RENDER, {"--size"}),
        (EVAL, set()),
        (EXPORT, set()),
        (View(Path("run")), set()),
    ],
)  # fmt: skip
def test_advice_on_memory_names_options_of_the_command(command: Command, options: set[str]) -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0. Then")):
        message = sentence(error, command)
        assert message is not None
        advised = message.replace("train the scene with a smaller --max-gaussians", "")
        assert set(re.findall(r"--[a-z-]+", advised)) == options


def test_lines_name_options_too(capsys: pytest.CaptureFixture[str]) -> None:
    speaker(TRAIN)("800x600 px (`downscale` 1 for full size).")
    plain_console(EVAL).print("LPIPS needs a folder (`lpips_weights`).")
    assert capsys.readouterr().out.splitlines() == [
        "800x600 px (--downscale 1 for full size).",
        "LPIPS needs a folder (--lpips-weights).",
    ]


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (-1, {"least": 0, "whole": True}, "`x` must be a whole number of 0 or more, not -1."),
        (0, {"least": 1, "most": 9, "whole": True}, "`x` must be a whole number from 1 to 9, not 0."),
        (2.5, {"least": 1, "whole": True}, "`x` must be a whole number of 1 or more, not 2.5."),
        (0.0, {"above": 0, "most": 1000}, "`x` must be a finite number above 0 and up to 1000, not 0."),
        (float("nan"), {}, "`x` must be a finite number, not nan."),
        (float("inf"), {"least": 0}, "`x` must be a finite number of 0 or more, not inf."),
        (float("nan"), {"above": 0, "infinite": True}, "`x` must be a number above 0, not nan."),
        (9.5, {"most": 9, "example": "2.8"}, "`x` must be a finite number up to 9, such as 2.8, not 9.5."),
        (float("inf"), {"whole": True}, "`x` must be a whole number, not inf."),
    ],
)
def test_numbers_out_of_range(value: float, limits: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        check_number("x", value, **limits)
    assert str(error.value) == message


def test_numbers_in_range() -> None:
    check_number("x", None, least=5)
    check_number("x", 2**31 - 1, least=1, most=2**31 - 1, whole=True)
    check_number("x", float("inf"), above=0, infinite=True)
    check_number("x", 3.0, least=3, most=3, whole=True)
