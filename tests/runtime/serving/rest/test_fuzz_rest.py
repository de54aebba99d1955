"""Whatever a fuzzer makes of the OpenAPI document, the server keeps to the document and is never at fault."""

import pytest
from hypothesis import HealthCheck, settings

from runtime.serving.rest.openapi import openapi_document
from tests.runtime.serving.threaded import PATIENCE_S, Threaded

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

SCHEMA = schemathesis.openapi.from_dict(openapi_document("real", "1"))
KEEPS_TO_IT = schemathesis.checks.CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_the_document(case: schemathesis.Case, real: Threaded) -> None:
    response = case.call(base_url=f"http://{real.http}", timeout=PATIENCE_S)
    case.validate_response(response, checks=KEEPS_TO_IT)
    # 501, 503 and 504 are answers: "not supported", "not ready", "too late". Anything else from 500 on is the server's fault,
    # unless the fuzzer found the model whose file is broken on purpose.
    is_answer = response.status_code < 500 or response.status_code in (501, 503, 504)
    assert is_answer or (case.path_parameters or {}).get("model") == "broken", response.text
