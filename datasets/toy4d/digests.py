"""Expected sha256 of every scene's content: decoded pixels, and geometry as stored.

Pixels are hashed, not PNG bytes, which depend on zlib. The generator uses IEEE basic operations only (see
`kernels`), so that every conforming machine should give equal bits. A change of the generator changes the
tables, and with them the names of the cache folders. `python -m mvtokenflow.datasets.toy4d WORLD...` computes
the tables of some worlds anew and writes them into `digests.json` beside this file.
"""

import json
from pathlib import Path

FILE = Path(__file__).with_name("digests.json")

# world -> scene -> {"pixels": ..., "truth": ...}
EXPECTED: dict[str, dict[str, dict[str, str]]] = json.loads(FILE.read_text())
