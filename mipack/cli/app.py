"""The `mipack` command: each part of it parses, calls one public function, prints one record."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mipack import __version__
from mipack.cli import (
    bench,
    env,
    eval,
    finish,
    inspect,
    package,
    prune,
    query,
    report,
    slim,
    sweep,
    why,
)
from mipack.cli._errors import guarded


class Guarded(TyperGroup):
    """The group of commands, whose every failure goes through the one map of `_errors`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with its code."""
        arguments = list(sys.argv[1:] if args is None else args)

        def command() -> object:
            return TyperGroup.main(
                self, arguments, "mipack", complete_var, False, obj=arguments, **extra
            )

        sys.exit(guarded(command, arguments))


app = typer.Typer(
    cls=Guarded,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mipack {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def mipack(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Prune ONNX models structurally, without retraining: smaller dense models with proof."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.command()(inspect.inspect)
app.command()(why.why)
app.command()(prune.prune)
app.command()(sweep.sweep)
app.command()(slim.slim)
app.command()(finish.finish)
app.command()(eval.eval)
app.command()(bench.bench)
app.command()(report.report)
app.command()(package.package)
app.command()(query.query)
app.command()(env.env)


def main() -> None:
    """Entry point of the `mipack` script."""
    # Elimination is thousands of small products between which OpenMP threads would spin; where
    # something else wants the cores that costs a multiple. Read when torch loads its runtime.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
