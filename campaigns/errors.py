"""What a caller of the campaigns API can be told. A problem's docstring is its title."""

from config.problems import Problem


class SegmentNotFound(Problem):
    """There is no such segment."""

    status = 404
    code = "segment_not_found"


class TemplateNotFound(Problem):
    """There is no such template."""

    status = 404
    code = "template_not_found"


class NameTaken(Problem):
    """Another one of yours has this name."""

    status = 409
    code = "name_taken"


class TooManySegments(Problem):
    """There are as many segments as there may be."""

    status = 409
    code = "too_many_segments"


class TooManyTemplates(Problem):
    """There are as many templates as there may be."""

    status = 409
    code = "too_many_templates"


class InvalidFilter(Problem):
    """The filter has errors."""

    status = 400
    code = "invalid_filter"


class InvalidTemplate(Problem):
    """The template has errors."""

    status = 400
    code = "invalid_template"


class InvalidVariables(Problem):
    """The variables have errors."""

    status = 400
    code = "invalid_variables"


class PreviewTookTooLong(Problem):
    """It took too long to look through the customers."""

    status = 503
    code = "preview_took_too_long"


class AccountNotFound(Problem):
    """There is no such provider account."""

    status = 404
    code = "account_not_found"


class CampaignNotFound(Problem):
    """There is no such campaign."""

    status = 404
    code = "campaign_not_found"


class InvalidCampaign(Problem):
    """The campaign has errors."""

    status = 400
    code = "invalid_campaign"


class IdempotencyConflict(Problem):
    """This Idempotency-Key was used for another campaign."""

    # draft-ietf-httpapi-idempotency-key-header, section 2.7: same key, other payload.
    status = 422
    code = "idempotency_key_reused"


class StaleCampaign(Problem):
    """The campaign stands elsewhere: this cannot be done with it now."""

    status = 409
    code = "stale_campaign"


class NothingToRetry(Problem):
    """None of the campaign's messages has failed."""

    status = 409
    code = "nothing_to_retry"


class InvalidTest(Problem):
    """The test has errors."""

    status = 400
    code = "invalid_test"


class ContentMissing(Problem):
    """There is nothing to send yet: its generator has not made it."""

    status = 409
    code = "content_missing"


class InvalidAccount(Problem):
    """The provider account has errors."""

    status = 400
    code = "invalid_account"


class TooManyAccounts(Problem):
    """There are as many provider accounts as there may be."""

    status = 409
    code = "too_many_accounts"


class AccountInUse(Problem):
    """Campaigns of this provider account are not finished."""

    status = 409
    code = "account_in_use"


class CredentialsLost(Problem):
    """The credentials cannot be read any more."""

    status = 409
    code = "credentials_lost"


class BadSignature(Problem):
    """The signature does not match."""

    status = 401
    code = "bad_signature"
