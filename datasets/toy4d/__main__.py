"""Print the tables of `digests.py`, of all or of the named worlds, as computed on this machine."""

import sys

from mvtokenflow.datasets.toy4d.dataset import pixel_digest, render_benchmark, truth_digest
from mvtokenflow.datasets.toy4d.scenes import WORLDS

TABLES = {"toy4d": "EXPECTED", "toy4d-pinhole": "EXPECTED_PINHOLE", "toy4d-wild": "EXPECTED_WILD"}

if __name__ == "__main__":
    for world in WORLDS:
        if world.name not in (sys.argv[1:] or TABLES):
            continue
        print(f"{TABLES[world.name]}: dict[str, dict[str, str]] = {{")
        for name in world.scenes:
            pixels, truth = render_benchmark(name, world.kind)
            print(f'    "{name}": {{')
            print(f'        "pixels": "{pixel_digest(pixels)}",')
            print(f'        "truth": "{truth_digest(truth)}",')
            print("    },", flush=True)
        print("}")
