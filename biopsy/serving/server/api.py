"""The HTTP interface: images in, rows of predictions out. Nothing of a request is written to disk, or kept."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from biopsy.core.errors import ParamsError
from biopsy.networks.model_file import NOTICE
from biopsy.serving.about import LOOKS, about
from biopsy.serving.cases import promises_of, unsure_below
from biopsy.serving.decoding import Decoder
from biopsy.serving.explain.image import Method, Quick, check_method
from biopsy.serving.model import Model
from biopsy.serving.server.guard import Guard, rejecting
from biopsy.serving.server.meter import Meter
from biopsy.serving.server.queue import Queue, Work
from biopsy.serving.server.responses import ExplainOptions, begin_images, explained_rows, predicted_rows
from biopsy.serving.server.samples import SAMPLES, sample_png, sample_size
from biopsy.serving.server.schema import (
    Explanations,
    Models,
    Predictions,
    Problem,
    explanations_example,
    predictions_example,
)
from biopsy.serving.server.uploads import Limits, form_schema

PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
    "zoom.js": ("zoom.js", "text/javascript"),
}
OPEN = {*(f"/{path}" for path in PAGE), "/health", "/ready"}  # what needs no token
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "Not a form with files called images",
        401: "No token, or a wrong one",
        403: "Called by a name that is not this server's, or by another page",
        404: "No such model",
        408: "The request did not arrive in time",
        413: "Too many images, or too many bytes",
        429: "The queue is full; come again after `Retry-After` seconds",
    }.items()
}


def make_app(
    models: Mapping[str, Model],
    token: str | None,
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    decoder: Decoder | None = None,
) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    models
        By name; the first is the default.
    token
        What a client must send as `Authorization: Bearer <token>`; None: nothing.
    hosts
        Names by which the server may be called, without a port; empty: any. Guards a server without a token against
        pages elsewhere whose own name points here.
    limits
        None: the defaults.
    decoder
        Decodes what clients send; None: this process does.
    """
    limits = limits or Limits()
    queue = Queue(limits)
    meter = Meter(lambda: queue.held)
    app = FastAPI(
        title="Biopsy",
        description=NOTICE,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=queue.lifespan,
        responses={code: ERRORS[code] for code in (401, 403)},
    )
    for path, (name, kind) in PAGE.items():
        content = files("biopsy.serving.server").joinpath("page", name).read_bytes()
        app.get(f"/{path}", include_in_schema=False)(partial(_send, content, kind))

    app.add_middleware(Guard, meter=meter, rejection=rejecting(token, hosts, OPEN))

    _add_facts(app, models, limits, queue, meter)
    _add_work(app, models, limits, queue, meter, decoder)
    _add_examples(app, *next((name, model.card.classes) for name, model in models.items()))
    return app


def _add_facts(app: FastAPI, models: Mapping[str, Model], limits: Limits, queue: Queue, meter: Meter) -> None:
    """Add what tells of the server and its models."""

    @app.get("/health", summary="The process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="A prediction would be taken now", responses={429: ERRORS[429]})
    async def ready() -> dict[str, str]:
        queue.check()
        return {"status": "ready"}

    app.get(
        "/metrics",
        summary="Requests, images, queue, seconds and memory, as Prometheus reads them",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )(meter.answer)

    @app.get("/v1/models", summary="The models, what they were trained on and how they fared")
    async def list_models() -> Models:
        told = [about(name, model) for name, model in models.items()]
        most = {"images": limits.images, "bytes": limits.request_bytes}
        return {"notice": NOTICE, "models": told, "limits": most, "looks": LOOKS, "samples": [*SAMPLES]}

    @app.get(
        "/v1/sample",
        summary="A cartoon of tissue to try a model with, drawn as it is asked for",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 404: {"model": Problem, "description": "No such one"}},
    )
    def draw(
        sample: Annotated[str | None, _one_of(SAMPLES)] = None, model: Annotated[str | None, _one_of(models)] = None
    ) -> Response:
        name = _find(sample, SAMPLES, "sample")
        size = sample_size(models[_find(model, models, "model")].card)
        return Response(sample_png(name, *size), media_type="image/png")


def _one_of(names: Iterable[str]) -> Any:
    return Query(description="None: the first", json_schema_extra={"enum": [*names]})


def _add_examples(app: FastAPI, name: str, classes: Sequence[str]) -> None:
    """Show answers in the schema; in what a route is given, FastAPI drops each null, which an answer has."""
    examples = {"predict": predictions_example(name, classes), "explain": explanations_example(name, classes)}
    describe = app.openapi

    def described() -> dict[str, Any]:
        schema = describe()
        for path, example in examples.items():
            answer = schema["paths"][f"/v1/{path}"]["post"]["responses"]["200"]
            answer["content"]["application/json"]["example"] = example
        return schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's manual has it


def _find(name: str | None, names: Collection[str], kind: str) -> str:
    name = next(iter(names)) if name is None else name
    if name not in names:
        raise HTTPException(404, f"There is no {kind} '{name[:80]}'. There are: {', '.join(names)}.")
    return name


def _add_work(
    app: FastAPI, models: Mapping[str, Model], limits: Limits, queue: Queue, meter: Meter, decoder: Decoder | None
) -> None:
    """Add what works on images."""

    unsure = {name: unsure_below(promises_of(model, None), "image") for name, model in models.items()}
    few = replace(limits, images=min(limits.images, limits.explained))
    asked_model = Annotated[str | None, _one_of(models)]

    @app.post(
        "/v1/predict",
        summary="One row an image; an image that cannot be used has its reason in `error`",
        response_model=Predictions,
        responses=ERRORS,
        openapi_extra=form_schema(limits.images),
    )
    async def predict(request: Request, model: asked_model = None) -> Response:
        name = _find(model, models, "model")
        begin = partial(begin_images, models[name], decoder=decoder) if decoder else None
        work = Work(partial(predicted_rows, models[name], decoder=decoder, unsure=unsure[name]), begin, name)
        rows = await queue.answer(request, limits, work)
        meter.images("/v1/predict", [row["error"] is not None for row in rows])
        given = Predictions(model=name, classes=models[name].card.classes, notice=NOTICE, predictions=rows)
        return JSONResponse(given)  # as it is: FastAPI would go through all of it once more

    @app.post(
        "/v1/explain",
        summary="Which places of an image its class depends on: a map as a PNG, and its check",
        response_model=Explanations,
        responses=ERRORS,
        openapi_extra=form_schema(few.images),
    )
    async def explain(
        request: Request,
        model: asked_model = None,
        picture: bool = False,
        numbers: bool = False,
        method: Quick = "occlusion",
    ) -> Response:
        name = _find(model, models, "model")
        _check(models[name], method)
        asked = ExplainOptions(picture, numbers, method)
        work = Work(partial(explained_rows, models[name], asked=asked, decoder=decoder))
        told = await queue.answer(request, few, work)
        meter.images("/v1/explain", [row["error"] is not None for row in told["explanations"]])
        return JSONResponse({"model": name, "notice": NOTICE, **told})


def _check(model: Model, method: Method) -> None:
    try:
        check_method(model, method)
    except ParamsError as error:
        raise HTTPException(400, str(error)) from None


async def _send(content: bytes, kind: str) -> Response:
    return Response(content, media_type=kind)
