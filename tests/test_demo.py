"""`cocogs demo`: its commands, how they end, and its page on small made-up inputs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocogs import demo
from cocogs.cli import main
from cocogs.demo import report as report_module
from cocogs.demo.report import Report, write_report
from cocogs.errors import InputError

NAMES = ["000", "001", "002", "003", "004"]


def paint(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for k, name in enumerate(names):
        Image.fromarray(np.full((6, 8, 3), 40 * k, np.uint8)).save(folder / f"{name}.png")
    return folder


def write(path: Path, document: dict) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def inputs(tmp_path) -> dict[str, Path]:
    """Five views on a line, 000 held out, 004 nearest to it; the lens learned exactly, in half-size units."""
    frames, photos = [], []
    for k, name in enumerate(NAMES):
        pose = np.eye(4)
        pose[0, 3] = -(0.1 if name == "004" else k)
        focus = None if name == "000" else 1.0 + k
        frames.append(
            {"name": f"{name}.png", "test": not focus, "w2c": pose.tolist(), "focus_distance": focus}
        )
        if focus:
            photos.append({"name": f"{name}.png", "focus_distance": focus, "aperture_diameter": 0.025})
    return {
        "photos": paint(tmp_path / "photos", NAMES),
        "sharp": paint(tmp_path / "sharp", NAMES),
        "truth": tmp_path / "photos",
        "refocused": paint(tmp_path / "refocused", ["000_f1"]),
        "eval": write(
            tmp_path / "eval.json",
            {
                "preset": "lens",
                "step": 1500,
                "views": [{"name": "000.png", "masked": False, "psnr": 31.25, "ssim_uniform_7": 0.9}],
                "mean": {"psnr": 31.25, "ssim_uniform_7": 0.9},
            },
        ),
        "lens": write(tmp_path / "lens.json", {"photos": photos}),
        "truth_json": write(
            tmp_path / "truth.json", {"aperture_diameter": 0.025, "frames": frames, "refocus": []}
        ),
    }


def report(tmp_path: Path, inputs: dict[str, Path], *commands: str) -> str:
    out = tmp_path / "page" / "report.html"
    write_report(Report(**inputs, commands=commands), out)  # pyright: ignore[reportArgumentType]
    return out.read_text()


def test_page_holds_every_section_and_no_outside_file(tmp_path, inputs):
    page = report(tmp_path, inputs, "cocogs train <here>")
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Sharp pictures from new places",
        "Photos made sharp",
        "Refocused",
        "The lens it found",
        "Figures",
        "Commands",
    ]
    assert "PSNR 31.25 dB" in page and "cocogs train &lt;here&gt;" in page
    assert "nearest photo: 004.png" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 3 + 2 * 4 + 1
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_missing_optional_inputs_leave_their_sections_out(tmp_path, inputs):
    page = report(tmp_path, {name: inputs[name] for name in ("photos", "sharp")})
    assert re.findall("<h2>(.*?)</h2>", page) == ["Photos made sharp"]


def test_test_views_come_from_eval_where_no_truth_is_known(tmp_path, inputs):
    page = report(tmp_path, {name: inputs[name] for name in ("photos", "sharp", "truth", "eval")})
    assert "truth 000" in page and "truth 001" not in page and "photo 000.png" not in page


def test_photos_go_from_near_to_far_focus(tmp_path, inputs):
    reverse = json.loads(inputs["lens"].read_text())
    for photo in reverse["photos"]:
        photo["focus_distance"] = 1 / photo["focus_distance"]
    inputs["lens"].write_text(json.dumps(reverse))
    page = report(tmp_path, {name: inputs[name] for name in ("photos", "sharp", "lens", "eval")})
    assert re.findall(r"<figcaption>photo (\d+)", page) == ["004", "003", "002", "001"]


def test_refocused_folders_pair_with_truth_names(tmp_path, inputs):
    ours = tmp_path / "focus"
    ours.mkdir()
    paint(ours / "f0.75", ["000", "003"])
    true = paint(tmp_path / "true", ["000_f0.75", "000_f2"])
    page = report(tmp_path, {**inputs, "refocused": ours, "refocus_truth": true})
    assert re.findall(r"<figcaption>((?:ours|truth): .*?)<", page) == ["ours: 000_f0.75", "truth: 000_f0.75"]


def test_figures_have_a_row_per_view_and_a_mean(tmp_path, inputs):
    page = report(tmp_path, {name: inputs[name] for name in ("photos", "sharp", "eval")})
    assert "<th>view</th><th>PSNR dB</th><th>SSIM uniform 7</th>" in page
    assert "<td>000.png</td><td>31.25</td><td>0.9000</td>" in page
    assert "<td>mean</td><td>31.25</td><td>0.9000</td>" in page
    assert "Preset lens. Step 1,500." in page


def test_lens_is_compared_in_the_truths_unit(tmp_path, inputs, monkeypatch):
    inputs["sparse"] = tmp_path
    monkeypatch.setattr(report_module, "truth_unit", lambda truth, sparse: 2.0)
    halved = json.loads(inputs["lens"].read_text())
    for photo in halved["photos"]:
        photo["focus_distance"] /= 2
        photo["aperture_diameter"] /= 2
    inputs["lens"].write_text(json.dumps(halved))
    page = report(tmp_path, inputs)
    assert "<td>25.00</td><td>25.00</td>" in page
    assert "<td>0.0 %</td>" in page and "<td>0.0000</td>" in page
    assert page.count("<circle") == 4


def test_unit_of_the_bundled_model():
    assert demo.unit_in_metres(demo.bundled_scene()) == pytest.approx(0.04439, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("photos", lambda p: p / "nowhere"),
        ("eval", lambda p: p.write_text("{") and p),
        ("lens", lambda p: write(p, {"photos": [{"name": "001.png", "focus_distance": 1.0}]})),
        ("truth_json", lambda p: write(p, {"frames": []})),
        ("sharp", lambda p: (p / "001.png").write_text("no picture") and p),
    ],
)
def test_bad_input_names_the_file_and_keeps_the_old_page(tmp_path, inputs, name, spoil):
    out = tmp_path / "report.html"
    out.write_text("old")
    inputs[name] = spoil(inputs[name])
    with pytest.raises(InputError) as raised:
        write_report(Report(**inputs), out)
    assert str(inputs[name]) in str(raised.value) and "\n" not in str(raised.value)
    assert out.read_text() == "old"


# ------------------------------------------------------------------------------------------ the commands


def test_demo_trains_measures_renders_and_resumes(tmp_path):
    scene = demo.bundled_scene()
    train, evaluate, sharp, *refocused = demo.commands(scene, tmp_path, 300)
    assert train[0][:4] == ["train", str(scene), "--out", str(tmp_path)]
    assert train[0][4:] == ["--quality", "standard", "--max-gaussians", "60000", "--iterations", "300"]
    assert demo.shown(*evaluate) == f"cocogs eval {tmp_path} --json > {tmp_path / 'eval.json'}"
    assert sharp[0][-1] == str(tmp_path / "sharp")
    assert [words[-1] for words, _ in refocused] == [
        str(tmp_path / "refocused" / name) for name in ("f0.75", "f1.05", "f1.7")
    ]
    (tmp_path / "checkpoint.pt").touch()
    assert demo.commands(scene, tmp_path, None)[0][0][4:] == ["--resume"]


@pytest.mark.thorough
def test_demo_ends_with_the_code_of_the_command_that_failed(tmp_path, capfd):
    """`cocogs train` refuses to take the place of a foreign config.json."""
    (tmp_path / "config.json").write_text("[]")
    assert main(["demo", str(tmp_path)]) == 2
    printed, complaint = capfd.readouterr()
    assert "$ cocogs train " in printed and "$ cocogs eval" not in printed
    assert "config.json is not a file of cocogs" in complaint
    assert not (tmp_path / "report.html").exists()


def test_demo_that_lacks_its_scene_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "PLACES", (tmp_path / "nowhere",))
    assert main(["demo", str(tmp_path)]) == 2
    assert f"{tmp_path / 'nowhere'}: reinstall cocogs." in capsys.readouterr().err


def test_output_is_written_whole_or_not_at_all(tmp_path):
    def prints(code: int, text: str) -> demo.Command:
        return lambda words: print(text) or code

    out = tmp_path / "eval.json"
    assert demo.execute(prints(0, "figures"), ["eval"], out) == 0
    assert demo.execute(prints(2, "half of it"), ["eval"], out) == 2
    assert out.read_text() == "figures\n"


def test_signal_ends_the_demo_with_the_code_of_the_command(tmp_path, monkeypatch):
    """Training saves, then ends with 143: what comes after it does not run."""
    ran: list[str] = []

    def command(words: list[str]) -> int:
        ran.append(words[0])
        raise SystemExit(143)

    with pytest.raises(SystemExit) as ended:
        demo.run_demo(tmp_path, 300, lambda line: None, command)
    assert ended.value.code == 143 and ran == ["train"]
