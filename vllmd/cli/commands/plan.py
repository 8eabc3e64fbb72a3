"""The `plan` command, which needs no daemon, and asks one where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vllmd.cli import terminal
from vllmd.cli.failures import FAILED
from vllmd.cli.options import model as models
from vllmd.cli.options.settings import Revision, Settings, parse_settings
from vllmd.cli.options.wishes import Adapters, parse_adapters
from vllmd.cli.output.gpu_names import gpus_of
from vllmd.cli.session import Format, Output, connect

_NO_GPUS = ("NVML_UNAVAILABLE", "GPU_LOST")


def use_cases(incomplete: str) -> list[str]:
    """Offer the use cases."""
    from vllmd.planner.use_cases import USE_CASES

    return [name for name in USE_CASES if name.startswith(incomplete)]


def products(incomplete: str) -> list[str]:
    """Offer the GPUs that are known, as many of each as was typed, behind those that were typed before."""
    from vllmd.gpu.products import PRODUCTS

    before, comma, part = incomplete.rpartition(",")
    count, times, begun = part.partition("x")
    start = f"{before}{comma}{count if times else part or 1}x"
    if not start.removeprefix(before + comma).removesuffix("x").isdecimal():
        return []
    return [start + name for name in PRODUCTS if name.startswith(begun.upper())]


def plan(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A folder, which need hold no more than config.json, or a hub id; one that begins with `./`, `../` or "
            "`~/` is meant as seen from here.",
        ),
    ],
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="GPUS",
            help="GPUs to plan for, such as `2xRTX3090`, `2xRTX3090+nvlink` or `1xH200,1xRTX4090`. "
            "Default: the daemon's, or without one those of this host, with what is free now.",
            show_default=False,
            autocompletion=products,
        ),
    ] = None,
    use_case: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the model is for: `production`, `download`, `debate`, `latency` or `throughput`. "
            "Default: nothing in particular.",
            show_default=False,
            autocompletion=use_cases,
        ),
    ] = None,
    settings: Settings = None,
    revision: Revision = "",
    auto_config: Annotated[
        bool, typer.Option("--auto-config/--no-auto-config", help="Choose what you don't set.")
    ] = True,
    allowed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-engine-arg",
            metavar="NAME",
            help="An engine argument that may be set although it could run code, as `vllmd` has it. May be repeated.",
        ),
    ] = None,
    lora: Adapters = None,
    use_daemon: Annotated[
        bool,
        typer.Option("--daemon/--no-daemon", help="Ask the daemon, where there is one and GPUS are not given."),
    ] = True,
    output: Output = Format.TEXT,
) -> None:
    """Show how an engine would be started, and why; with --gpus without a daemon, vLLM or a GPU.

    Without --gpus a daemon that is there is asked what it would do now, with its own settings and what its engines
    hold; nothing is started. Without a daemon this host's GPUs count, or those that you name.

    What would be on each GPU, every argument with its reason, and what the KV cache
    holds; or how much is missing, and what would make it fit. The exit status is 1
    where it does not fit. `-o json` of a daemon's plan is PlanModelResponse.

    What is not in the hub's cache is asked for, if huggingface_hub is installed
    and HF_HUB_OFFLINE is not set.

    Examples:
      vllmd-cli plan Qwen/Qwen3-8B
      vllmd-cli plan ./my-model --gpus 2xRTX3090 --use-case production
      vllmd-cli plan ./my-model --gpus 1xH200 --set quantization=fp8
      vllmd-cli plan ./my-model --gpus 8xH100 -o json | jq .kv_cache_tokens
    """
    model = models.absolute(model)
    engine_args = parse_settings(settings or [], "--set")
    options = {
        "revision": revision,
        "engine_args": engine_args,
        "auto_config": auto_config,
        "use_case": use_case or "",
        "lora_adapters": parse_adapters(lora or []),
    }
    if gpus is None and use_daemon and not allowed and _ask_daemon(context, model, options, output):
        return
    if lora:
        raise typer.BadParameter("only a daemon plans with adapters, and none answers", param_hint="--lora")
    _work_out(model, engine_args, revision, use_case, gpus, auto_config, allowed or (), output)


def _ask_daemon(context: typer.Context, model: str, options: dict[str, Any], output: Format) -> bool:
    """Show what the daemon would do; false if there is none that can say."""
    from vllmd.cli.output.daemon_plan import ask, print_daemon_plan
    from vllmd.planner import library

    library.check_use_case(options["use_case"] or None)
    with connect(context) as client:
        answer = ask(client, model, options)
        if answer is None:
            return False
        if output is Format.JSON:
            terminal.json_document(answer)
        else:
            print_daemon_plan(terminal.stdout(), model, answer, gpus_of(client))
    return True


def _work_out(
    model: str,
    engine_args: dict[str, Any],
    revision: str,
    use_case: str | None,
    gpus: str | None,
    auto_config: bool,
    allowed: Sequence[str],
    output: Format,
) -> None:
    from vllmd.errors import NotFound, Unavailable
    from vllmd.planner import arguments, library, offline

    library.check_use_case(use_case)
    arguments.check(engine_args, allowed)
    arguments.check_values(engine_args, allowed)
    where = None if gpus is None else offline.parse(gpus)
    try:
        outcome = offline.work_out(
            model,
            engine_args,
            revision=revision,
            use_case=use_case,
            gpus=where,
            auto=auto_config,
            otherwise="--gpus ",
        )
    except Unavailable as error:
        if error.reason in _NO_GPUS:
            terminal.stderr().print("To plan for GPUs that are not here: --gpus 2xRTX3090")
        raise
    if outcome.facts is None:
        raise NotFound("MODEL_UNKNOWN", f"There is nothing to plan by: {'; '.join(outcome.notes)}.", model=model)
    document = outcome.document()
    if output is Format.JSON:
        terminal.json_object(document)
    else:
        from vllmd.cli.output.plan_page import print_plan

        print_plan(terminal.stdout(), document)
    if not document["feasible"]:
        raise typer.Exit(FAILED)
