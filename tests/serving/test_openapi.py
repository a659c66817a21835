"""Every answer of the server is one that its OpenAPI schema names: programs are made from it."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from biopsy.serving.model import Model
from biopsy.serving.server.api import make_app
from biopsy.serving.server.uploads import Limits
from tiny_onnx import network, write_onnx

PNG = cv2.imencode(".png", np.full((48, 64, 3), 40, np.uint8))[1].tobytes()
ALLOWED = {"Authorization": "Bearer secret"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FORMS: list[tuple[dict[str, Any], int]] = [
    ({"files": [("images", ("a", PNG)), ("images", ("b", b"no image"))], "headers": ALLOWED}, 200),
    ({"files": [("images", PNG)], "data": {"some": "text"}, "headers": ALLOWED}, 200),
    (
        {
            "content": b'--a\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\nz\r\n--a--\r\n',
            "headers": {**ALLOWED, "Content-Type": "Multipart/Form-Data; boundary=a"},
        },
        200,
    ),
    ({"data": {"some": "text"}, "headers": ALLOWED}, 400),
    ({"files": [("images", PNG)]}, 401),
    ({"files": [("images", PNG)], "headers": {**ALLOWED, "Origin": "http://elsewhere.example"}}, 403),
    ({"files": [("images", PNG)], "headers": ALLOWED, "params": {"model": "other"}}, 404),
    ({"files": [("images", PNG)] * 4, "headers": ALLOWED}, 413),
]
ASKED = [
    *[("get", path, {}, 200) for path in ("/health", "/ready")],
    *[("get", path, {"headers": ALLOWED}, 200) for path in ("/metrics", "/v1/models")],
    *[("get", path, {}, 401) for path in ("/metrics", "/v1/models", "/v1/sample")],
    ("get", "/v1/sample", {"headers": ALLOWED}, 200),
    ("get", "/v1/sample", {"headers": ALLOWED, "params": {"sample": "muscle"}}, 404),
    *[("post", path, sent, status) for path in ("/v1/predict", "/v1/explain") for sent, status in FORMS],
    *[
        ("post", "/v1/explain", {"files": [("images", PNG)], "headers": ALLOWED, "params": params}, status)
        for params, status in [
            ({"method": "activation", "picture": True, "numbers": True}, 200),
            ({"method": "none"}, 422),
            ({"picture": "perhaps"}, 422),
        ]
    ],
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    model = Model(write_onnx(tmp_path_factory.mktemp("openapi") / "dark.onnx", made=network(extra=True)))
    limits = Limits(images=3, explained=3)
    with TestClient(make_app({"dark": model}, "secret", (), limits), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def schema(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json", headers=ALLOWED).json()


@pytest.mark.parametrize(("method", "path", "sent", "status"), ASKED)
def test_status_kind_and_body_of_an_answer_are_those_of_the_schema(
    client: TestClient, schema: dict[str, Any], method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    answer = client.request(method, path, **sent)
    assert answer.status_code == status, answer.text
    named = schema["paths"][path][method]["responses"][str(status)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    assert list(named) == [kind]
    if kind == "application/json":
        Draft202012Validator({**named[kind]["schema"], "components": schema["components"]}).validate(answer.json())


def test_the_schema_names_the_models_and_how_many_images_a_form_may_hold(schema: dict[str, Any]) -> None:
    asked = schema["paths"]["/v1/predict"]["post"]
    assert asked["parameters"][0]["schema"]["enum"] == ["dark"]
    images = asked["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["images"]
    assert (images["minItems"], images["maxItems"]) == (1, 3)
    assert set(schema["paths"]) == {path for _, path, *_ in ASKED}


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain"])
def test_the_schema_shows_an_answer_as_an_example(schema: dict[str, Any], path: str) -> None:
    answer = schema["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    Draft202012Validator({**answer["schema"], "components": schema["components"]}).validate(answer["example"])
    assert answer["example"]["model"] == "dark"
    assert answer["example"]["notice"] == "Research use only; not for diagnosis."


def test_whatever_the_schema_allows_or_forbids_has_an_answer_that_it_names(client: TestClient) -> None:
    asked = []
    for found in schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=ALLOWED).get_all_operations():
        operation = found.ok()

        @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
        @given(case=operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE))
        def ask(case: schemathesis.Case) -> None:
            asked.append(case.call_and_validate(headers=ALLOWED, checks=CHECKS).status_code)

        ask()
    assert {200, 400, 404} <= set(asked)
