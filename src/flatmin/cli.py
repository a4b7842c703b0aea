"""The command line: one command per stage, plus plan, use, data, models, claims, show, ui and gc."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from flatmin.errors import FlatminError, nearest
from flatmin.study import Study
from flatmin.workspace import Workspace

if TYPE_CHECKING:
    from flatmin.stages import Stages


class Teaching(click.Group):
    """A group that lists its commands in the order of the pipeline, and keeps the line breaks of its examples."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were defined."""
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Offer the nearest command for one that does not exist."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}: {nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Teaching, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="flatmin")
def cli() -> None:
    """The reproducible study of Sharpness-Aware Minimization.

    \b
    Reproduce the study that params.yaml describes:
        dvc repro
    See what that would do, and what it would cost, before it does:
        flatmin plan
    Take another ready study from experiments/:
        flatmin use cifar10-cpu
    Look at one run, and compare all of them:
        flatmin show digits-noise60.mlp.sam.s0
        flatmin ui

    Environment variables that change how, and never what, is computed:

    \b
        FLATMIN_WORKERS     local worker processes (default: one per core, or per GPU)
        FLATMIN_SCHEDULER   local, inline, slurm, or tcp://host:port of a Dask cluster
        FLATMIN_DEVICE      cpu or cuda (default: cuda where there is a GPU)
        FLATMIN_MIRROR      folders in which data sets are looked for first (a:b:c)
        MLFLOW_TRACKING_URI where runs are shown (default: mlflow.db in this folder)
    """


def load_study(workspace: Workspace) -> Study:
    """Read the study of a folder."""
    from flatmin.reading import load
    from flatmin.vocabulary import vocabulary

    return load(workspace.params, vocabulary())


def stages() -> Stages:
    """Return the stages of the study in the current folder."""
    from flatmin.stages import Stages

    workspace = Workspace()
    return Stages(load_study(workspace), workspace)


@cli.command()
def plan() -> None:
    """Show what the study consists of, what is up to date, and the time and disk that the rest will take.

    \b
    Examples:
        flatmin plan
        FLATMIN_WORKERS=8 flatmin plan
    """
    from flatmin.forecast import print_plan

    workspace = Workspace()
    print_plan(load_study(workspace), workspace)


@cli.command()
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Replace params.yaml even if it holds edits that no preset has.")
def use(name: str | None, force: bool) -> None:
    """Put a ready study, experiments/NAME.yaml, in place of params.yaml; without NAME, list them.

    \b
    Examples:
        flatmin use
        flatmin use cifar10-cpu
    """
    from flatmin.presets import list_presets, use_preset

    workspace = Workspace()
    if name is None:
        click.echo(list_presets(workspace))
    else:
        use_preset(workspace, name, force=force)
        click.echo(f"params.yaml is now experiments/{name}.yaml: `flatmin plan` shows it, `dvc repro` runs it")


@cli.command()
def download() -> None:
    """Bring the files of the study's sources and test sets, verified, from a mirror or the network.

    \b
    Example, with files that torchvision has brought before:
        FLATMIN_MIRROR=~/data flatmin download
    """
    stages().download()


@cli.command()
def prepare() -> None:
    """Write images, draws (training subset, validation part, label noise of every seed) and further test sets.

    \b
    Example, and what it made of the labels:
        flatmin prepare
        less data/prepared/digits-noise60/s0/manifest.json
    """
    stages().prepare()


@cli.group()
def data() -> None:
    """Look at data: what there is, what the study needs, whether what is here is right."""


@data.command("list")
def data_list() -> None:
    """List sources, test sets and human labels: which the study needs, which are here, sizes, licences.

    \b
    Example:
        flatmin data list
    """
    from flatmin.data_view import print_list

    workspace = Workspace()
    print_list(load_study(workspace), workspace)


@data.command("show")
@click.argument("name")
def data_show(name: str) -> None:
    """Show the licence, citation, addresses and checksums of one of them.

    \b
    Example:
        flatmin data show cifar10_c
    """
    from flatmin.data_view import print_one

    print_one(name, Workspace())


@data.command("check")
def data_check() -> None:
    """Verify, byte for byte, the data that the study needs: downloads by checksum, prepared arrays by content.

    \b
    Example:
        flatmin data check
    """
    from flatmin.data_view import print_check

    workspace = Workspace()
    print_check(load_study(workspace), workspace)


@cli.command()
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--all-of-timm", is_flag=True, help="Match patterns against all models that timm knows, too.")
@click.option("--no-speed", is_flag=True, help="Measure nothing, which takes a few seconds in place of two minutes.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Classes of the images.")
@click.option("--size", type=click.IntRange(min=1), default=32, show_default=True, help="Height and width of an image.")
@click.option("--channels", type=click.IntRange(min=1), default=3, show_default=True, help="3 for colour, 1 for grey.")
def models(
    patterns: tuple[str, ...], all_of_timm: bool, no_speed: bool, classes: int, size: int, channels: int
) -> None:
    """List models: their size, their cost, and how fast they train on this machine; or show one.

    Without PATTERN, the papers' networks for small images, which timm creates once flatmin.models is imported. PATTERN
    is a name of theirs or has * and ? in it; a name that only timm knows works too, as it does in params.yaml. One
    exact name shows that model: its paper, its arguments with their values, and what to write into params.yaml.

    "multiply-adds" are those of one image's forward pass; one is 2 FLOPs. "images/s" is measured: forward, backward and
    a step of SGD in float32, on one thread as in the workers of a study, or on the GPU that they would use.

    \b
    Examples:
        flatmin models
        flatmin models --no-speed
        flatmin models 'cifar_resnet*' 'wrn*' --classes 100
        flatmin models cifar_resnet20
        flatmin models resnet18 --size 64
        flatmin models 'vit_tiny*' --all-of-timm --size 224 --no-speed
    """
    from flatmin.model_view import print_models
    from flatmin.models.measured import Images

    print_models(patterns, Images(classes, size, channels), all_of_timm=all_of_timm, speed=not no_speed)


def _table_command(name: str, help_: str) -> Callable[..., None]:
    def command(table: str) -> None:
        getattr(stages(), name)(table)

    command.__doc__ = f"{help_}\n\n\b\nExample:\n    flatmin {name} quick\n"
    return cli.command(name)(click.argument("table")(command))


_table_command("select", "Choose rho, and the base's settings where the table asks, on validation data.")
_table_command("train", "Train the runs of TABLE that are not up to date; a killed one resumes.")
_table_command("evaluate", "Measure the runs of TABLE on test data.")
_table_command("sharpness", "Measure how sharp the solutions of TABLE are.")


@cli.command()
def aggregate() -> None:
    """Bring MLflow up to date from the records, read the runs back, and write tables, claims and metrics.

    \b
    Example, which rebuilds the MLflow view from nothing:
        rm -r mlflow.db mlruns && flatmin aggregate
    """
    from flatmin.reporting import aggregate_study

    workspace = Workspace()
    aggregate_study(load_study(workspace), workspace)


@cli.command()
@click.option("--partial", is_flag=True, help="Measure what is trained and render what there is into results/partial/.")
def report(partial: bool) -> None:
    """Write results/report.html: one page, no network, no script.

    \b
    Examples:
        flatmin report
        flatmin report --partial      (some runs failed, or are not done yet)
    """
    from flatmin.reporting import report_partial, report_study

    workspace = Workspace()
    (report_partial if partial else report_study)(load_study(workspace), workspace)


@cli.command()
@click.argument("patterns", nargs=-1, metavar="[ID]...")
@click.option("--verdict", metavar="WORD", help="Only claims with this verdict: reproduced, inconclusive, not-run, ...")
@click.option("--primary", is_flag=True, help="Only the primary claims, whose p-values are adjusted together.")
def claims(patterns: tuple[str, ...], verdict: str | None, primary: bool) -> None:
    """List the published claims: what was printed, what was measured here, and the verdict.

    ID is the id of a claim, its beginning, or a pattern with * and ?. One exact id shows that claim in full, with its
    rule in words and, for every row that speaks to it, the departures from the published setting.

    \b
    Examples:
        flatmin claims
        flatmin claims sam-t4 asam-t6
        flatmin claims --verdict reproduced
        flatmin claims sam-t4-noise60
    """
    from flatmin.claims_view import print_claims

    print_claims(Workspace(), patterns, verdict, primary=primary)


@cli.command()
@click.argument("run")
def show(run: str) -> None:
    """Show one run: its settings, its numbers, its learning curve. RUN is a run id or its beginning.

    \b
    Examples:
        flatmin show digits-noise60.mlp.sam.s0
        flatmin show digits-noise60
    """
    from flatmin.show import show_run

    workspace = Workspace()
    show_run(load_study(workspace), workspace, run)


@cli.command()
@click.option("--port", default=5000, show_default=True, help="Port on 127.0.0.1.")
def ui(port: int) -> None:
    """Open the MLflow UI on this machine (http://127.0.0.1:5000), to compare runs. Ctrl-C ends it.

    \b
    Example, and a search for its search field:
        flatmin ui --port 5001
        tags.`flatmin.role` = 'table' and tags.`flatmin.method` = 'sam'
    """
    from flatmin.ui import serve

    serve(Workspace(), port)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(dry_run: bool) -> None:
    """Remove trainings from the store that neither params.yaml nor any preset plans.

    \b
    Example:
        flatmin gc --dry-run
    """
    from flatmin.garbage import collect

    collect(Workspace(), dry_run=dry_run)


def main(args: list[str] | None = None) -> None:
    """Run the command line; what is wrong with the user's input is said in one message, without a traceback."""
    from flatmin.errors import DISK_FULL
    from flatmin.tracking import TrackingWarning
    from flatmin.work import explain

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=TrackingWarning)
        warnings.showwarning = _show_warning
        try:
            cli.main(args=args, prog_name="flatmin", standalone_mode=False)
        except FlatminError as error:
            click.echo(f"flatmin: {error}", err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("flatmin: stopped; what is finished is kept, and the next run resumes the rest", err=True)
            sys.exit(130)
        except BrokenPipeError:
            os._exit(0)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            click.echo(f"flatmin: {explain(error)}", err=True)
            sys.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"flatmin: warning: {message}", err=True)


if __name__ == "__main__":
    main()
