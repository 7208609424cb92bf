"""Test an installed wheel, in an environment without a compiler: python test_wheel.py

The package is the installed one. Of the clone, which lies around this file, only the tests are used.
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import cocogs.compiled

TESTS = Path(__file__).parents[1] / "tests"
CHOSEN = ("native", "ops", "ssim", "gaussians", "lens")


def main() -> None:
    assert "site-packages" in cocogs.compiled.__file__, cocogs.compiled.__file__
    module = cocogs.compiled.cpu_module()
    print(f"{module.__file__}: {', '.join(module.levels())}", flush=True)
    if sys.platform == "linux":
        assert find_spec("cocogs._cuda"), "the Linux wheel lacks the GPU's module"
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ["pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not cuda"]
            + [str(TESTS / f"test_{name}.py") for name in CHOSEN],
            ["cocogs", "demo", "demo", "--iterations", "60"],
        ):
            subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True)
        assert Path(folder, "demo", "report.html").stat().st_size > 100_000


if __name__ == "__main__":
    main()
