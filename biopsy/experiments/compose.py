"""Parameters as `conf/` gives them: composed with overrides as `dvc exp run -S` does it, and listed by their names."""

from collections.abc import Sequence
from pathlib import Path

from biopsy.core.entries import check_names
from biopsy.core.errors import ParamsError, nearest, some
from biopsy.core.params import Params, parse_params


def as_overrides(experiment: str | None, overrides: Sequence[str]) -> list[str]:
    """List what `-S` is given: the experiment, where there is one, and the further overrides."""
    return ([f"+experiment={experiment}"] if experiment else []) + list(overrides)


def compose(experiment: str | None, overrides: Sequence[str], root: Path = Path()) -> Params:
    """Compose `conf/` as `dvc exp run -S +experiment=<name> -S ...` would, without writing params.yaml.

    Parameters
    ----------
    experiment
        A file of `conf/experiment/`, or None.
    overrides
        Further `group=preset` or `key=value`.
    root
        The project's folder.

    Raises
    ------
    ParamsError
        No such experiment, an override that fits nothing, or values that are rejected.
    """
    import hydra  # half a second, which those who only list parameters need not spend
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    conf = root / "conf"
    known = sorted(path.stem for path in (conf / "experiment").glob("[!.]*.yaml"))
    if experiment and experiment not in known:
        hint = nearest(experiment, known) or f" There are {some(known, 100) or 'none'}."
        raise ParamsError(f"there is no experiment '{experiment}' in {conf / 'experiment'}.{hint}")
    options = as_overrides(experiment, overrides)
    said = " ".join(f"-S {option}" for option in options)
    try:
        with hydra.initialize_config_dir(str(conf.resolve()), version_base=None):
            content = OmegaConf.to_container(hydra.compose("config", options), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra goes on with where it searched, OmegaConf with its own types.
        reason = str(error).split("Config search path:")[0].split("full_key:")[0]
        raise ParamsError(f"{said} cannot be composed: {' '.join(reason.split())}") from None
    params = parse_params(content, f"{conf} composed with {said}" if said else str(conf))
    check_names(params)
    return params
