"""`grid`: experiments, planned and run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

import torch

from glotprompt.cli.declare import Params
from glotprompt.cli.options import TRAINING_MACHINE
from glotprompt.cli.plain_commands import commands_of
from glotprompt.cli.program import as_typed
from glotprompt.cli.screen import Interrupted, note, say
from glotprompt.cli.settings import given
from glotprompt.cli.tables import console, table
from glotprompt.cli.threads import keep_to_quota
from glotprompt.cluster.remote import named, open_store, without_password
from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError, ModelError, UserError, counted
from glotprompt.estimate.forecast import Forecast, unfit
from glotprompt.grid.estimate import Estimator
from glotprompt.grid.experiment import load
from glotprompt.grid.pack import steps_of, unpack
from glotprompt.grid.plan import OpenBackbone, Plan, add_experiment
from glotprompt.grid.steps import EvaluateStep, PlannedBackbone, Step, Workplace
from glotprompt.grid.store import ExperimentRecord, Settled, Store
from glotprompt.grid.work import Engine, Outcome, SerialEngine, forget_shared, loaded_backbone
from glotprompt.model.devices import Precision, choose_precision, device_of
from glotprompt.model.shapes import Shell
from glotprompt.report.tables import duration, size


def grid(params: Params) -> int:
    """Plan, and run what is missing."""
    output, scale, packed, data_dir = (params[name] for name in ("output", "scale", "known", "data_dir"))
    engine, address, device = (params[name] for name in ("engine", "address", "device"))
    dry_run = params["dry_run"] or params["commands"]
    runtime = RuntimeConfig(**given(params, TRAINING_MACHINE[:4]))
    place_name = without_password(output)
    runner = _engine(engine, params["workers"], address)
    loaded = [load(path, scale, params["set"] or ()) for path in params["experiments"]]
    store, plan = open_store(named(output)), Plan()
    if packed is not None and not dry_run:
        unpack(packed, store)
    keep_to_quota()
    open_backbone = _backbones(store, device, dry_run)
    command = as_typed("grid", {**params, "output": place_name, "address": address and without_password(address)})
    for experiment in loaded:
        add_experiment(plan, experiment, open_backbone, data_dir, scale, command)
    if params["commands"]:
        return _print_commands(plan, Path(output), data_dir)
    finished = store.finished() if packed is None else store.finished() | steps_of(packed)
    missing = plan.missing(finished)
    place = Workplace(store, data_dir, device, runtime, params["retry_failed"])
    if dry_run:
        _show(plan, finished, missing, Estimator(place), _lighter(plan, scale, engine, address))
        return 0
    _show(plan, finished, missing, None)
    for record in plan.records:
        _say_what_goes(store.experiment(record["name"]), record, finished)
        store.write_experiment(record)
    try:
        outcomes = runner.run(missing, place, _teller(len(missing)))
    except KeyboardInterrupt:
        raise Interrupted(f"rerun the same command to resume; what is finished lies in {place_name}") from None
    forget_shared(list(plan.steps.values()), store)
    return _summary(outcomes, place_name, named(output))


def _print_commands(plan: Plan, folder: Path, data_dir: Path | None) -> int:
    """Print the commands of each cell, with a note on cells that have none; returns the exit status."""
    refused: list[str] = []
    say(shlex.join(["mkdir", "-p", str(folder)]))
    for step in plan.steps.values():
        try:
            lines = [*commands_of(step, folder, data_dir)] if isinstance(step, EvaluateStep) else []
        except ConfigError as error:
            refused.append(str(error))
            continue
        for line in lines:
            say(line)
    for reason in refused:
        note(f"not written: {reason}")
    return 1 if refused else 0


def _say_what_goes(before: ExperimentRecord | None, now: ExperimentRecord, finished: Collection[str]) -> None:
    """Note the results of an earlier plan of the experiment that the new plan no longer has."""
    results = {cell["result"] for cell in now["cells"]}
    gone = {cell["result"] for cell in before["cells"]} - results if before is not None else set[str | None]()
    lost = len(gone & {*finished})
    if lost:
        note(
            f"{now['name']}: {lost:,} results of its earlier plan are not in this one and leave the report, though they"
            f" stay in the store; --set name={now['name']}-2 would keep both"
        )


def _engine(name: str, workers: int | None, address: str | None) -> Engine:
    if name == "serial":
        if workers is not None or address is not None:
            raise ConfigError("--workers and --address are for --engine ray; give it, or leave them out")
        return SerialEngine()
    from glotprompt.cluster.workers import RayEngine  # with Ray, which may not be installed

    return RayEngine(workers, address)


def _backbones(store: Store, device: str, dry_run: bool) -> OpenBackbone:
    """A function that opens a backbone and returns it with its number of layers. A dry run uses only the shape of a
    backbone that cannot be loaded, which is enough for costs."""

    def choose() -> Settled:
        return choose_precision(device_of(device))

    @cache
    def opened(name: str, precision: Precision, shape_only: bool) -> tuple[PlannedBackbone, int]:
        if shape_only:
            return PlannedBackbone("", "auto", name), Shell.named(name).num_layers
        computed = precision
        if precision == "auto":
            computed = (store.precision() or choose()) if dry_run else store.settle_precision(choose)
        try:
            backbone = loaded_backbone(name, computed, device)
        except ModelError as error:
            if not dry_run:
                raise
            note(f"{error}; planned by its shape, without what may be finished already")
            return PlannedBackbone("", precision, name), Shell.named(name).num_layers
        return PlannedBackbone(backbone.fingerprint, precision, name, computed), backbone.num_layers

    return lambda name, experiment: opened(name, experiment.precision, experiment.draw == "table3")


def _lighter(plan: Plan, scale: str, engine: str, address: str | None) -> str:
    """Advice for a plan that is too large for this machine."""
    seeds = max((len(record["seeds"]) for record in plan.records), default=1)
    ways = [
        "--scale mini" if scale != "mini" else "fewer steps (--set adapt.steps=...)",
        "fewer seeds (--set 'seeds=[0]')" if seeds > 1 else "",
        "" if torch.cuda.is_available() else "a machine with a GPU",
        "" if engine == "ray" and address is not None else "a cluster (--engine ray --address ...)",
    ]
    return f"take {' or '.join(filter(None, ways))}"


def _show(
    plan: Plan, finished: Collection[str], missing: Sequence[Step], estimate: Estimator | None, lighter: str = ""
) -> None:
    """Print the plan by kind and method; with an estimate also its time and memory, and advice where they are too
    much."""
    rows: dict[tuple[str, str], list[int]] = {}
    forecasts: dict[tuple[str, str], list[Forecast]] = {}
    refused: dict[str, Step] = {}
    todo = {step.name for step in missing}
    for name, step in plan.steps.items():
        key = (step.kind, step.method)
        row = rows.setdefault(key, [0, 0, 0, 0])
        row[0] += 1
        row[1] += max(0, plan.asked[name] - 1)
        row[2] += name in finished
        row[3] += name in todo
        if estimate is not None and name in todo:
            try:
                forecasts.setdefault(key, []).append(estimate(step))
            except UserError as error:
                refused.setdefault(str(error), step)
    listing = table(["step", "method", "steps", "shared", "finished", "to do", "time", "memory"], left=2)
    for key, row in rows.items():
        memory = max((one.estimated_bytes for one in forecasts.get(key, ())), default=None)
        listing.add_row(
            *key, *(f"{value:,}" for value in row), duration(_seconds(forecasts.get(key, ()))), size(memory)
        )
    console().print(listing)
    cells = sum(len(record["cells"]) for record in plan.records)
    every = [one for some in forecasts.values() for one in some]
    total = _seconds(every)
    about = "" if total is None else f", about {duration(total)} on this machine as it is now"
    note(f"{counted(cells, 'cell')} of {counted(len(plan.steps), 'step')}, {len(missing):,} to do{about}")
    memory = max((one.needed_bytes for one in every), default=0)
    if estimate is not None and (why := unfit(total, memory, estimate.machine_bytes)):
        note(f"{why}; {lighter}")
    for error, step in refused.items():
        note(f"this will fail: {step}: {error}")


def _seconds(forecasts: Sequence[Forecast]) -> float | None:
    """Seconds of all forecasts with a time; None where none has one."""
    timed = [one.seconds for one in forecasts if one.seconds is not None]
    return sum(timed) if timed else None


def _teller(total: int) -> Callable[[Step, Outcome | None], None]:
    """A callback that prints a line when a step begins and when it ends."""
    over = 0

    def tell(step: Step, outcome: Outcome | None) -> None:
        nonlocal over
        if outcome is None:
            note(f"{step} ...")
            return
        over += 1
        what = {"done": f"done in {duration(outcome.seconds)}", "cached": "finished already"}.get(
            outcome.status, f"{outcome.status}: {outcome.error}"
        )
        note(f"[{over}/{total}] {step}: {what}")

    return tell


def _summary(outcomes: Sequence[Outcome], place_name: str, output: Path | str) -> int:
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in ("failed", "skipped")}
    if not any(counts.values()):
        page = output / "report" if isinstance(output, Path) else "report"
        note(f"all steps are finished; next: glotprompt report {place_name} --output {page}")
        return 0
    failed = counted(counts["failed"], "step")
    cause = "it" if counts["failed"] == 1 else "them"
    skipped = f" and {counted(counts['skipped'], 'was', 'were')} skipped for {cause}" if counts["skipped"] else ""
    note(f"{failed} failed{skipped}; see {place_name}/failed, then give --retry-failed")
    sys.stdout.flush()
    return 1
