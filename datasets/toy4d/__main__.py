"""Print the tables of `digests.py` as computed on this machine."""

from mvtokenflow.datasets.toy4d.dataset import SCENES, pixel_digest, render_benchmark, truth_digest
from mvtokenflow.views.cameras import CameraKind

TABLES: dict[str, CameraKind] = {"EXPECTED": "ortho", "EXPECTED_PINHOLE": "pinhole"}

if __name__ == "__main__":
    for table, kind in TABLES.items():
        print(f"{table}: dict[str, dict[str, str]] = {{")
        for name in SCENES:
            pixels, truth = render_benchmark(name, kind)
            print(f'    "{name}": {{')
            print(f'        "pixels": "{pixel_digest(pixels)}",')
            print(f'        "truth": "{truth_digest(truth)}",')
            print("    },")
        print("}")
