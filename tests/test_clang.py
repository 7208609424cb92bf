"""The compiled code builds by clang as by GCC, without a warning: macOS and Windows have no other compiler.

`.ci/run` installs clang where it can. The workflow that makes the wheels also runs what clang has built.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GPU = {ROOT / "cuda_ext" / "bindings_cuda.cpp"}
TOOLS = ("clang++", "cmake", "ninja")


@pytest.mark.thorough
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_every_source_compiles_by_clang_without_a_warning(tmp_path: Path) -> None:
    """With the options that CMake gives, at every instruction set level; not to the end, which takes long."""
    options = ["-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCOCOGS_CUDA=OFF"]
    options += ["-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path, *options], check=True, capture_output=True)
    entries = json.loads((tmp_path / "compile_commands.json").read_text())
    ours = [entry for entry in entries if Path(entry["file"]).parent == ROOT / "cuda_ext"]
    assert {Path(entry["file"]) for entry in ours} == set((ROOT / "cuda_ext").glob("*.cpp")) - GPU
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = [complaint for complaint in pool.map(complaint_about, ours) if complaint]
    assert not complaints, "\n".join(complaints)


def complaint_about(entry: dict[str, str]) -> str:
    """What clang says of a source; nothing if it compiles without a warning."""
    command = [*shlex.split(entry["command"]), "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True)
    return done.stderr or (f"{entry['file']}: code {done.returncode}" if done.returncode else "")
