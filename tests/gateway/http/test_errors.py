import pytest

from services.common import errors
from services.gateway.http.errors import BodyTooLarge, BodyTooSlow, to_http
from services.gateway.http.shapes.errors import ErrorAnswer, ErrorDetail


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (errors.InvalidRequest("m", "messages"), 400, "invalid_request_error", None),
        (errors.UnsupportedValue("m", "n"), 400, "invalid_request_error", "unsupported_value"),
        (
            errors.ContextLengthExceeded("m", "messages"),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (errors.UnsupportedOperation("m"), 501, "invalid_request_error", "unsupported_operation"),
        (errors.ModelNotFound("m", "model"), 404, "invalid_request_error", "model_not_found"),
        (errors.Overloaded("m"), 429, "rate_limit_error", "overloaded"),
        (errors.PagesExhausted("m"), 429, "rate_limit_error", "overloaded"),
        (errors.Unavailable("m"), 503, "server_error", "unavailable"),
        (errors.TransferFailed("m"), 503, "server_error", "unavailable"),
        (errors.PreconditionFailed("m"), 412, "invalid_request_error", "precondition_failed"),
        (errors.PermissionDenied("m"), 403, "invalid_request_error", "permission_denied"),
        (errors.InvalidToolCall("m"), 502, "server_error", "invalid_tool_call"),
        (errors.DeadlineExceeded("m"), 504, "server_error", "deadline_exceeded"),
        (errors.Cancelled("m"), 499, "server_error", "cancelled"),
        (errors.InternalError("m"), 500, "server_error", "internal"),
        (BodyTooLarge("m"), 413, "invalid_request_error", None),
        (BodyTooSlow("m"), 408, "invalid_request_error", None),
    ],
)
def test_an_error_becomes_an_openai_error_object(error, status, type_, code):
    answer = to_http(error)
    param = getattr(error, "param", None)
    assert answer.status == status
    assert answer.body == ErrorAnswer(ErrorDetail("m", type_, param, code))


def test_an_overloaded_server_says_when_to_come_back_in_whole_seconds():
    assert to_http(errors.Overloaded("m", 2.1)).headers == {"Retry-After": "3"}
    assert to_http(errors.Overloaded("m", 0.0)).headers == {"Retry-After": "1"}


@pytest.mark.parametrize("error", [errors.Unavailable("m"), errors.WorkerLost("m"), errors.ShuttingDown("m")])
def test_what_a_restart_cures_may_be_asked_again_after_about_that_time(error):
    assert to_http(error).headers == {"Retry-After": "5"}


@pytest.mark.parametrize("error", [KeyError("secret"), errors.CheckpointError("secret")])
def test_the_cause_of_an_unexpected_error_stays_inside(error):
    answer = to_http(error, "req-1")
    assert answer.status == 500
    assert "secret" not in str(answer.body)
    assert "req-1" in str(answer.body)
