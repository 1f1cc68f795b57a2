"""The readers of the product: which file is damaged, who makes it valid, and who reads it.

Another reader is another entry of `READERS`: see "Add a reader" in CONTRIBUTING.md.
"""

from functools import partial

import reads_pictures as pictures
import reads_records as records
import reads_results as results
import reads_runs as runs
import reads_weights as weights
from worker import Reader

SETTINGS = "sampling.timesteps=999,100\nsampling.steps=2\nreconstruction.points=5\ntoken_flow.tau=0.5\nflow=dis"
GRID = "toy4d\nground-truth,mvtokenflow\ncrab-01,fish-01\n0,1\n0/2\ntoy4d-v2\nmini"
SUMMARY = f"metrics-{records.PROTOCOL}.json"


def _video(kind: str, codec: str, pix_fmt: str) -> Reader:
    """Of a clip in a container of FFmpeg."""
    make = partial(pictures.make_video, f"clip.{kind}", codec, pix_fmt)
    return Reader(f"video-{kind}", f"clip.{kind}", make, pictures.read_video)


READERS: tuple[Reader, ...] = (
    Reader("clip-folder", "clip/*.png", pictures.make_clip, pictures.read_clip),
    Reader("jpeg-frames", "clip/*.jpg", pictures.make_jpeg, pictures.read_masked),
    Reader("masks", "masks/*.png", pictures.make_masked, pictures.read_masked),
    Reader("segmented-masks", "masks/*.png", pictures.make_segmented, pictures.read_segmented),
    _video("mp4", "libx264", "yuv420p"),
    _video("mov", "qtrle", "argb"),
    _video("webm", "libvpx-vp9", "yuva420p"),
    _video("mkv", "ffv1", "bgra"),
    _video("gif", "gif", "rgb8"),
    _video("avi", "ffv1", "bgra"),
    Reader("mask-video", "masks.mp4", pictures.make_mask_video, pictures.read_mask_video),
    Reader("dataset-angles", "scenes/*/views.json", pictures.make_scene, pictures.read_scene),
    Reader("dataset-pictures", "scenes/*/*/*.png", pictures.make_scene, pictures.read_scene),
    Reader("dataset-cache", "cache/folder/*/scene.json", pictures.make_cached_scene, pictures.read_scene),
    Reader("truth", "input.npz", pictures.make_truth, pictures.read_truth),
    Reader("multiview-pictures", "views/view_*/*.png", pictures.make_views, pictures.read_views),
    Reader("multiview-normals", "views/normals/view_*/*.png", pictures.make_views, pictures.read_views),
    Reader("multiview-masks", "views/masks/view_*/*.png", pictures.make_masked_views, pictures.read_views),
    Reader("multiview-flow", "views/flow.npz", pictures.make_views, pictures.read_views),
    Reader("multiview-cameras", "views/cameras.json", pictures.make_views, pictures.read_views),
    Reader("multiview-times", "views/times.json", pictures.make_views, pictures.read_views),
    Reader("cameras-option", "views/cameras.json", pictures.make_views, pictures.read_named_cameras),
    Reader("field", "field.safetensors", runs.make_field, runs.read_field),
    Reader("ply", "a.ply", runs.make_ply, runs.read_ply),
    Reader("deformation", "*/deformation.pth", results.make_deformed, results.read_deformation),
    Reader("raw-ply", "*/model.ply", results.make_deformed, results.read_raw),
    Reader("lightning", "ckpts/last.ckpt", results.make_cascade, results.read_cascade),
    Reader("import-record", "import.json", results.make_imported, results.read_imported),
    Reader("export", "out/**/*[gn]", runs.make_export, runs.read_export),
    Reader("checkpoint", "coarse/*/checkpoint.pt", runs.make_reconstruction, runs.read_reconstruction, every=4),
    Reader("reconstruction", "coarse/**/*.*", runs.make_reconstruction, runs.read_reconstruction, every=4),
    Reader("run", "out/**/*.*", runs.make_run, runs.read_run, every=8),
    Reader("run-page", "out/**/*.json*", runs.make_page, runs.read_page),
    Reader("stages", "stages.json", runs.make_costs, runs.read_costs),
    Reader("losses", "losses.jsonl", runs.make_losses, runs.read_losses),
    Reader("stage-store", "store/*/*.json", runs.make_stage, runs.read_stage),
    Reader("made-by", "views.json", runs.make_made_by, runs.read_made_by),
    Reader("rows", "rows.jsonl", partial(records.make_record, "rows.jsonl"), records.read_records),
    Reader("features", "features.jsonl", records.make_features, records.read_records),
    Reader("manifest", "manifest.json", partial(records.make_record, "manifest.json"), records.read_manifest),
    Reader("summary", SUMMARY, partial(records.make_record, SUMMARY), records.read_summary),
    Reader("report", "runs/*/*/*/*/[!f]*.json*", records.make_scored, records.read_tables, every=10),
    Reader("report-pictures", "runs/**/*.png", records.make_scored, records.read_tables, every=10),
    Reader("site-marker", "site/site.json", records.make_scored, records.read_tables, every=10),
    Reader("prediction", "pred/*/*/*.png", records.make_prediction, records.read_scored_folder),
    Reader("reference", "gt/*/*/*.png", records.make_prediction, records.read_scored_folder),
    Reader("arrays-of-rows", "*.npz", records.make_array, records.read_array),
    Reader("baseline", "baseline.json", records.make_baseline, records.read_baseline),
    Reader("page-picture", "0.png", records.make_picture, records.read_picture),
    Reader("prior", "prior.safetensors", weights.make_prior, weights.read_prior, every=2),
    Reader("small-clip", "clip.safetensors", weights.make_small_clip, weights.read_small_clip, every=2),
    Reader(
        "prior-training", "*.safetensors", weights.make_prior_training, weights.read_prior_training, every=4
    ),
    Reader(
        "small-clip-training", "checkpoint.pt", weights.make_clip_training, weights.read_clip_training, every=4
    ),
    Reader("flow-network", "raft_small.pt", weights.make_raft, weights.read_raft, every=4),
    Reader("clip-model", "clip/*.*", weights.make_clip_folder, weights.read_clip_folder, every=4),
    Reader("weights-archive", "weights.tar", weights.make_archive, weights.read_archive),
    Reader("weights-record", "era3d/recorded.json", weights.make_noted, weights.read_noted),
    Reader("pickle", "vgg.pkl", weights.make_pickle, weights.read_pickle),
    Reader("training-settings", "prior.toml", weights.make_training, weights.read_training),
    Reader(
        "settings", "words.txt", partial(weights.make_words, SETTINGS), weights.read_settings, names_file=False
    ),
    Reader(
        "grid-words", "words.txt", partial(weights.make_words, GRID), weights.read_grid_words, names_file=False
    ),
)
