#!/usr/bin/env bash
# Tests an installed wheel, in an environment that has no compiler: test_wheel.sh PROJECT
# The package is the installed one, not that of PROJECT, whose tests alone are used.
set -euo pipefail
project=$1
here=$(mktemp -d)
cd "$here"
export PYTHONSAFEPATH=1
python - <<'PYTHON'
import importlib.util
import sys

import cocogs.compiled

assert "site-packages" in cocogs.__file__, cocogs.__file__
module = cocogs.compiled.cpu_module()
print(f"{module.__file__}: {', '.join(module.levels())}")
if sys.platform == "linux":
    assert importlib.util.find_spec("cocogs._cuda"), "the Linux wheel lacks the GPU's module"
    assert "cocogs._cuda" not in sys.modules, "the GPU's module was loaded without a GPU"
PYTHON
python -m pytest -q -p no:cacheprovider -m "not slow and not cuda" \
  "$project"/tests/test_{ops,ssim,threads,gaussians,lens,atomic}.py
cocogs demo demo --iterations 60
test -s demo/report.html
