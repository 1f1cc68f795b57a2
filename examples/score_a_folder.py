"""Score renderings against reference pictures and print the values.

    python examples/score_a_folder.py renders/mine data/test_dataset/eval_gt

Both folders hold `<object>/eval_<i>/<n>.png`. Networks that are not on this machine (LPIPS, CLIP, I3D) leave
their metrics without value; `mvtf-eval weights fetch` gets them.
"""

import sys
from pathlib import Path

import mvtokenflow


def main(prediction: Path, reference: Path, record: Path | None = None) -> dict[str, float]:
    """Print and return the averages that there are.

    Args:
        record: folder of the records; by default one below runs/score.
    """
    score = mvtokenflow.score_folder(prediction, reference, "c4d-fixed-v1", record=record, say=print)
    averages = {metric: value for metric, value in score.average.items() if value is not None}
    for metric, value in averages.items():
        print(f"{metric:12} {value:.4f}")
        for name, values in score.objects.items():
            print(f"  {name:10} {values[metric]}")
    for metric, reason in score.missing.items():
        print(f"{metric:12} missing: {reason}")
    return averages


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
