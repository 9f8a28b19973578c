"""`python -m modeldeployment.api DIRECTORY`: writes the CRDs."""

import sys
from pathlib import Path

from modeldeployment.api.crd import all_crds, render

for name, crd in all_crds().items():
    Path(sys.argv[1], name).write_text(render(crd), encoding="utf-8")
