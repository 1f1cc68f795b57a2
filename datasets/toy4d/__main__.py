"""Compute the digests of some worlds on this machine and write them into `digests.json`."""

import sys

from mvtokenflow.base.files import choose, write_json
from mvtokenflow.datasets.toy4d.dataset import pixel_digest, render_benchmark, truth_digest
from mvtokenflow.datasets.toy4d.digests import EXPECTED, FILE
from mvtokenflow.datasets.toy4d.scenes import WORLDS

if __name__ == "__main__":
    for named in sys.argv[1:]:
        world = choose("world", named, {world.name: world for world in WORLDS})
        found = {}
        for scene in world.scenes:
            pixels, truth = render_benchmark(scene, world)
            found[scene] = {"pixels": pixel_digest(pixels), "truth": truth_digest(truth)}
            print(named, scene, flush=True)
        EXPECTED[named] = found
        write_json(FILE, EXPECTED)
