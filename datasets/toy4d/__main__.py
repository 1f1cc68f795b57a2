"""Print the table of `digests.py` as this machine computes it."""

from mvtokenflow.datasets.toy4d.dataset import SCENES, pixel_digest, render_benchmark, truth_digest

if __name__ == "__main__":
    print("EXPECTED: dict[str, dict[str, str]] = {")
    for name in SCENES:
        pixels, truth = render_benchmark(name)
        print(f'    "{name}": {{')
        print(f'        "pixels": "{pixel_digest(pixels)}",')
        print(f'        "truth": "{truth_digest(truth)}",')
        print("    },")
    print("}")
