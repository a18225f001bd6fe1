"""What a caller of the webhooks API can be told. A problem's docstring is its title."""

from config.problems import Problem


class EventNotFound(Problem):
    """There is no such event."""

    status = 404
    code = "event_not_found"


class EndpointNotFound(Problem):
    """There is no such endpoint."""

    status = 404
    code = "endpoint_not_found"


class DeliveryNotFound(Problem):
    """There is no such delivery."""

    status = 404
    code = "delivery_not_found"


class EventTypeNotFound(Problem):
    """There is no such event type."""

    status = 404
    code = "event_type_not_found"


class InvalidEvent(Problem):
    """The event has errors."""

    status = 400
    code = "invalid_event"


class EventTooLarge(Problem):
    """The event's data is too large."""

    status = 413
    code = "event_too_large"


class IdempotencyConflict(Problem):
    """This Idempotency-Key was used for another event."""

    # draft-ietf-httpapi-idempotency-key-header, section 2.7: same key, other payload.
    status = 422
    code = "idempotency_key_reused"


class EndpointKeyReused(Problem):
    """This Idempotency-Key was used for another endpoint."""

    status = 422
    code = "idempotency_key_reused"


class EndpointChanged(Problem):
    """The endpoint that was made with this Idempotency-Key is another now."""

    status = 409
    code = "endpoint_changed"


class InvalidSchema(Problem):
    """The JSON Schema has errors."""

    status = 400
    code = "invalid_schema"


class BuiltInType(Problem):
    """This event type is Slipway's own."""

    status = 409
    code = "built_in_event_type"


class EndpointDisabled(Problem):
    """This endpoint is disabled."""

    status = 409
    code = "endpoint_disabled"


class TooManyEndpoints(Problem):
    """There are as many endpoints as there may be."""

    status = 409
    code = "too_many_endpoints"


class TooManyHeaders(Problem):
    """The endpoint would have too many headers."""

    status = 409
    code = "too_many_headers"


class TooManySecrets(Problem):
    """Too many old secrets are still signed with."""

    status = 409
    code = "too_many_secrets"


class SecretInUse(Problem):
    """The endpoint has this secret already."""

    status = 409
    code = "secret_in_use"


class TooManyUnfinished(Problem):
    """Too many deliveries are unfinished for this."""

    status = 409
    code = "too_many_unfinished"


class CannotReplay(Problem):
    """The delivery cannot be sent again as it stands."""

    status = 409
    code = "cannot_replay"


class CannotRetry(Problem):
    """The delivery does not wait for another try."""

    status = 409
    code = "cannot_retry"


class CannotDiscard(Problem):
    """The delivery cannot be given up as it stands."""

    status = 409
    code = "cannot_discard"


class ReplayNotFound(Problem):
    """There is no such replay."""

    status = 404
    code = "replay_not_found"


class ReplayEnded(Problem):
    """The replay is at its end."""

    status = 409
    code = "replay_ended"
