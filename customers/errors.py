"""What can be wrong with a customer, as the caller is told it."""

from config.problems import Problem


class CustomerNotFound(Problem):
    """There is no such customer."""

    status = 404
    code = "customer_not_found"


class ExternalIdTaken(Problem):
    """Another customer of yours has this external_id."""

    status = 409
    code = "external_id_taken"


class ImportNotFound(Problem):
    """There is no such import."""

    status = 404
    code = "import_not_found"


class BadFile(Problem):
    """This file cannot be imported."""

    status = 400
    code = "bad_file"


class TooManyImports(Problem):
    """Too many of your imports are not finished."""

    status = 409
    code = "too_many_imports"


class AlreadyFinished(Problem):
    """It is finished already."""

    status = 409
    code = "already_finished"


class IdempotencyConflict(Problem):
    """This Idempotency-Key was used for another file."""

    # draft-ietf-httpapi-idempotency-key-header, section 2.7: same key, other payload.
    status = 422
    code = "idempotency_key_reused"


class ExportNotFound(Problem):
    """There is no such export."""

    status = 404
    code = "export_not_found"


class ExportNotReady(Problem):
    """This export is not finished."""

    status = 409
    code = "export_not_ready"


class TooManyExports(Problem):
    """Too many of your exports are not finished."""

    status = 409
    code = "too_many_exports"


class SuppressionNotFound(Problem):
    """This number is not on your list."""

    status = 404
    code = "suppression_not_found"


class SourceNotFound(Problem):
    """There is no such source."""

    status = 404
    code = "source_not_found"


class SourceNameTaken(Problem):
    """Another source of yours has this name."""

    status = 409
    code = "source_name_taken"


class TooManySources(Problem):
    """You have as many sources as you may have."""

    status = 409
    code = "too_many_sources"


class SyncNotFound(Problem):
    """There is no such sync."""

    status = 404
    code = "sync_not_found"


class AlreadySyncing(Problem):
    """A sync of this source is not finished."""

    status = 409
    code = "already_syncing"


class ErasureNotFound(Problem):
    """There is no such erasure."""

    status = 404
    code = "erasure_not_found"
