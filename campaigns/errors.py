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
