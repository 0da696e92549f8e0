from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common import errors
from services.common.rpc.status import from_rpc_error, make_error, to_status


class FailedCall(grpc.RpcError):
    """What a client sees of a status."""

    def __init__(self, code, details, trailing_metadata=()):
        self._parts = (code, details, trailing_metadata)

    def code(self):
        return self._parts[0]

    def details(self):
        return self._parts[1]

    def trailing_metadata(self):
        return self._parts[2]


def received(error):
    status = to_status(error)
    return from_rpc_error(FailedCall(status.code, status.details, status.trailing_metadata))


def all_classes(cls=errors.PerigeeError):
    """The tree as drawn: subclasses that single doors add for themselves do not cross the wire."""
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    return [cls, *(found for child in children for found in all_classes(child))]


@pytest.mark.parametrize("cls", list(dict.fromkeys(all_classes()))[1:])
def test_every_error_arrives_as_what_it_was(cls):
    error = received(cls("it broke"))
    assert type(error) is cls
    assert error.message == "it broke"


def test_every_class_has_a_reason_of_its_own():
    reasons = [cls.reason for cls in set(all_classes()) - {errors.PerigeeError}]
    assert len(set(reasons)) == len(reasons)


def test_the_field_at_fault_travels_along():
    assert received(errors.UnsupportedValue("m", "sampling.top_p")).param == "sampling.top_p"
    assert received(errors.ModelNotFound("m", "model")).param == "model"


def test_the_delay_before_a_retry_travels_along():
    assert received(errors.PagesExhausted("m", 2.5)).retry_after_s == 2.5


def test_grpc_s_own_retries_get_the_delay_too():
    trailing = dict(to_status(errors.Overloaded("m", 0.0301)).trailing_metadata)
    assert trailing["grpc-retry-pushback-ms"] == "31"
    assert "grpc-retry-pushback-ms" not in dict(to_status(errors.Unavailable("m")).trailing_metadata)


def test_a_program_finds_domain_and_reason_in_the_details():
    status = to_status(errors.ModelNotFound("no such model"), request_id="req-1")
    ((key, value),) = status.trailing_metadata
    rich = status_pb2.Status.FromString(value)
    info = error_details_pb2.ErrorInfo()
    assert key == "grpc-status-details-bin"
    assert rich.details[0].Unpack(info)
    assert (info.domain, info.reason, dict(info.metadata)) == (
        "perigee",
        "MODEL_NOT_FOUND",
        {"request_id": "req-1"},
    )
    assert status.code is grpc.StatusCode.NOT_FOUND


def test_a_message_too_long_for_a_header_is_cut_between_characters():
    status = to_status(errors.CheckpointError("é" * 5000))
    assert len(status.details.encode()) < 1600
    assert status.details.endswith("é…")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.Incompatible),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, errors.Cancelled),
        (grpc.StatusCode.UNKNOWN, errors.InternalError),
    ],
)
def test_a_status_without_details_goes_by_its_code(code, expected):
    assert type(from_rpc_error(FailedCall(code, "m"))) is expected
    assert type(make_error(code.value[0], "", "m")) is expected


def test_the_reasons_of_other_domains_are_not_ours():
    info = error_details_pb2.ErrorInfo(domain="elsewhere", reason="MODEL_NOT_FOUND")
    rich = status_pb2.Status(code=14, message="m")
    rich.details.add().Pack(info)
    call = FailedCall(
        grpc.StatusCode.UNAVAILABLE, "m", [("grpc-status-details-bin", rich.SerializeToString())]
    )
    assert type(from_rpc_error(call)) is errors.Unavailable


def test_details_that_cannot_be_read_do_not_hide_the_error():
    call = FailedCall(grpc.StatusCode.UNAVAILABLE, "gone", [("grpc-status-details-bin", b"\xff\xff\xff")])
    assert from_rpc_error(call).message == "gone"
