"""Search good parameters for an experiment: Optuna proposes, DVC runs and keeps, validation decides.

Each trial is `dvc exp run --temp` of one `train` stage, so the workspace stays as it is, and a finished trial is an
experiment like any other. `evaluate` does not run: the test set does not influence the choice.
"""

import json
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from biopsy.core.errors import DataError, ParamsError, reason_in
from biopsy.core.files import parse_json
from biopsy.core.params import Params, parse_params
from biopsy.core.sections.figures import Choices, Interval, Tune
from biopsy.experiments.compose import as_overrides, compose
from biopsy.experiments.dvc_process import follow, running_dvc
from biopsy.experiments.shell import output

STUDIES = Path(".dvc/tmp/tune")  # git and DVC leave this folder alone
MAY_VARY = ("train.", "model.", "augment.", "resize.", "stain.")  # other keys change which images validate
CHANGE_THE_LOSS = ("train.loss.", "model.head.l2")
HOPELESS, UNLUCKY = 3, 10  # so many failures in a row end the search: before the first success, and after it


@dataclass(frozen=True)
class Trials:
    """What all trials of a search share: the stage `train@<name>`, and what is passed on to `dvc exp run`.

    Attributes
    ----------
    copied
        Files and folders that git does not know and the trials need.
    """

    study: str
    name: str
    overrides: tuple[str, ...]
    copied: tuple[str, ...] = ()

    def figures(self, trial: str) -> dict[str, float] | None:
        """Return what the experiment called `trial` found, or None where there is none."""
        for ref in output("git", "for-each-ref", "--format=%(refname)", "refs/exps").split():
            if ref.endswith(f"/{trial}") or f"/{trial}-val" in ref:
                # `./` is the project's folder, which may be below git's.
                path = f"metrics/{self.name}/train.json"
                text = output("git", "show", f"{ref}:./{path}")
                found: dict[str, float] = parse_json(text.encode(), f"{path} of {trial}", {})
                return found
        return None


def tune(experiment: str, task: str | None, protocol: str, trials: int | None, overrides: tuple[str, ...] = ()) -> None:
    """Run a search, or go on with one, and print what to do with the best trial.

    Parameters
    ----------
    experiment
        A preset of `conf/experiment/`.
    task, protocol
        The one model that is trained in each trial; by default that of the first task.
    trials
        How many there should be at the end; None takes `tune.trials`.
    overrides
        Passed on to `dvc exp run -S`, such as `data=breakhis`.

    Raises
    ------
    ParamsError
        An unknown experiment or parameter, or a search that its metric cannot judge.
    DataError
        A search of this name with other settings, or trials that all fail.
    """
    if trials is not None and trials < 1:
        raise ParamsError(f"--trials must be at least 1, or left out for tune.trials. Got {trials}.")
    task = task or compose(experiment, overrides).tasks[0]
    params = check_search(experiment, task, protocol, overrides)
    import optuna

    overrides = tuple(as_overrides(experiment, overrides))
    title = f"{experiment}-{task}-{protocol}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    STUDIES.mkdir(parents=True, exist_ok=True)
    # Where a search goes on, its sampler must not draw again what it drew before.
    file, search = STUDIES / f"{title}.db", params.tune
    study = optuna.create_study(
        storage=f"sqlite:///{file}",
        study_name=title,
        load_if_exists=True,
        direction="minimize" if search.metric == "val_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(search.startup, search.grace_epochs),
    )
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=search.startup, seed=params.seed + len(study.get_trials(deepcopy=False))
    )
    _same_settings(study, {"overrides": list(overrides), "tune": search.model_dump(exclude={"trials"})}, file)
    job = Trials(f"{title}-{study.user_attrs['token']}", f"{task}-{protocol}", overrides, to_copy(params))
    _take_up(study, job, search)
    wanted, failures = search.trials if trials is None else trials, 0
    while len(_settled(study)) < wanted:
        trial = study.ask()
        try:
            value = run_trial(trial, job, search)
        except KeyboardInterrupt:
            print(f"{job.study}-{trial.number:03d}: interrupted; run the same command to continue", flush=True)
            raise
        except DataError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failures += 1
            print(f"{job.study}-{trial.number:03d}: failed: {error}", flush=True)
            if failures >= (UNLUCKY if _settled(study) else HOPELESS):
                raise DataError(f"{failures} trials in a row failed, the last one because: {error}") from None
            continue
        failures = 0
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        study.tell(trial, value, state=state)
    print(describe(study, job, search))


def check_search(experiment: str, task: str, protocol: str, overrides: tuple[str, ...]) -> Params:
    """Compose the parameters as `dvc exp run` will, and check the search before any work. Raises `ParamsError`."""
    params = compose(experiment, overrides)
    for wanted, given, option in ((task, params.tasks, "task"), (protocol, params.protocols, "protocol")):
        if wanted not in given:
            raise ParamsError(f"--{option} must be one of the parameter {option}s, {', '.join(given)}. Got '{wanted}'.")
    if not params.tune.space:
        raise ParamsError("tune.space is empty: there is nothing to search. Name a parameter and its values in it.")
    for key, space in params.tune.space.items():
        if not key.startswith(MAY_VARY):
            raise ParamsError(
                f"tune.space varies '{key}', and may vary only parameters of {', '.join(MAY_VARY)}: with other "
                "images to validate on, the easiest ones would win."
            )
        if params.tune.metric == "val_loss" and key.startswith(CHANGE_THE_LOSS):
            raise ParamsError(
                f"tune.space varies {key}, which changes what the loss means, and tune.metric is 'val_loss'. Set "
                "tune.metric to val_accuracy."
            )
        for value in space.choices if isinstance(space, Choices) else (space.low, space.high):
            parse_params(_with(params.model_dump(), key, value), "tune.space")
    return params


def to_copy(params: Params, root: Path = Path()) -> tuple[str, ...]:
    """List what `dvc exp run --temp` must copy: the files below `root` that parameters name and git does not know.

    DVC makes no folder for what it copies, so that of a path whose folders git does not know the first one is copied.

    Raises
    ------
    ParamsError
        A relative path that leads out of the project.
    """
    weights = params.tune.space.get("model.weights")
    named: list[tuple[str, Any]] = [
        ("model.weights", params.model.weights),
        ("stain.reference", params.stain.reference),
    ]
    named += [("model.weights", value) for value in weights.choices] if isinstance(weights, Choices) else []
    found = []
    for key, path in ((key, Path(value)) for key, value in named if isinstance(value, str)):
        if path.is_absolute() or not (root / path).is_file():
            continue
        if ".." in path.parts:
            raise ParamsError(f"{key} is '{path}', which a trial's copy of the project lacks. Write the whole path.")
        places = [place for place in (*reversed(path.parents), path) if place != Path()]
        known = "git", "--literal-pathspecs", "ls-files", "--"
        found += [str(place) for place in places if not output(*known, str(place), cwd=root)][:1]
    return tuple(dict.fromkeys(found))


def _with(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Set one dotted key; `parse_params` rejects unknown ones later."""
    section, names = content, key.split(".")
    for name in names[:-1]:
        section = section.setdefault(name, {})
    section[names[-1]] = value
    return content


def _same_settings(study: Any, settings: dict[str, Any], file: Path) -> None:
    """Write down what a new search varies; reject an old one that varied something else."""
    before = study.user_attrs.get("settings")
    if before is None:
        study.set_user_attr("settings", settings)
        study.set_user_attr("token", secrets.token_hex(2))  # experiments of an earlier, deleted search have another
    elif before != settings:
        raise DataError(
            f"{file} holds a search of this experiment with other settings (-S, or the section tune). Delete it to "
            "start again, or restore the settings."
        )


def _settled(study: Any) -> list[Any]:
    """List the trials that were finished or stopped."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def _take_up(study: Any, job: Trials, search: Tune) -> None:
    """Settle the trials that a killed search left open: those that DVC kept count, the others run again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        name = f"{job.study}-{trial.number:03d}"
        alone = [process for process in psutil.process_iter(["cmdline"]) if name in (process.info["cmdline"] or [])]
        if alone:
            print(f"{name}: still runs, though its search was killed; waiting for its end", flush=True)
            psutil.wait_procs(alone)
        if job.figures(name):
            study.tell(trial.number, _keep(name, job, search))
        else:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
            print(f"{name}: was interrupted; its parameters run again", flush=True)


def run_trial(trial: Any, job: Trials, search: Tune) -> float | None:
    """Train with the parameters that `trial` proposes.

    Returns
    -------
    float or None
        The metric at the epoch that was kept; None where the trial was stopped, as worse than the others were.

    Raises
    ------
    DataError
        The training failed; says why.
    """
    name = f"{job.study}-{trial.number:03d}"
    chosen = [f"{key}={_propose(trial, key, space)}" for key, space in search.space.items()]
    options = [o for s in (*job.overrides, *chosen) for o in ("-S", s)]
    options += [o for path in job.copied for o in ("--copy-paths", path)]
    with tempfile.TemporaryDirectory() as folder:
        progress, log = Path(folder, "epochs"), Path(folder, "log")
        with running_dvc(["exp", "run", "--temp", "-n", name, *options, f"train@{job.name}"], progress, log) as process:
            for epoch, figures in enumerate(follow(process, progress)):
                trial.report(figures[search.metric], epoch)
                if process.poll() is None and trial.should_prune():
                    print(f"{name}: stopped after epoch {epoch + 1}  {' '.join(chosen)}", flush=True)
                    return None
        if process.returncode != 0:
            raise DataError(reason_in(log.read_text(errors="replace")) or "no output")
    value = _keep(name, job, search)
    print(f"{name}: {search.metric} {value:.4f}  {' '.join(chosen)}", flush=True)
    return value


def _keep(name: str, job: Trials, search: Tune) -> float:
    """Write the metric of a finished trial into its experiment's name, where `dvc exp show` shows it; return it."""
    found = job.figures(name)
    if found is None:
        raise DataError(f"dvc kept no experiment {name}. Run `dvc exp show` to see which there are.")
    value, named = found[search.metric], f"{name}-{search.metric}-{found[search.metric]:.4f}"
    if named not in output("dvc", "exp", "list", "--name-only").split():
        output("dvc", "exp", "rename", name, named)
    return value


def _propose(trial: Any, key: str, space: Interval | Choices) -> str:
    """Ask for one value, and write it as `-S` wants it."""
    if isinstance(space, Choices):
        value = trial.suggest_categorical(key, space.choices)
    elif isinstance(space.low, int) and isinstance(space.high, int):
        value = trial.suggest_int(key, space.low, space.high, log=space.log)
    else:
        value = trial.suggest_float(key, space.low, space.high, log=space.log)
    return value if isinstance(value, str) else json.dumps(value)


def describe(study: Any, job: Trials, search: Tune) -> str:
    """Say which trial is best and how it becomes the project's."""
    settled = _settled(study)
    done = [trial for trial in settled if trial.state.name == "COMPLETE"]
    if not done:
        return f"{job.study}: all {len(settled)} trials were stopped early. Raise tune.grace_epochs or --trials."
    best = study.best_trial
    name = f"{job.study}-{best.number:03d}-{search.metric}-{best.value:.4f}"
    return (
        f"\n{job.study}: {len(done)} trials finished, {len(settled) - len(done)} stopped early; `dvc exp show "
        f"--only-changed` lists the finished ones.\nBest on the validation set: {name}\n"
        + "".join(f"  {key} = {value}\n" for key, value in best.params.items())
        + f"Promote it:  dvc exp apply {name}\nThen test it:  dvc repro evaluate@{job.name}"
    )
