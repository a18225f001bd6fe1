"""The ring that signs claim tokens (onboarding.claim_tokens): CLAIM_KEYS."""

from onboarding.claim_tokens import LIFETIME
from tenants.rings import ListRing


class ClaimRing(ListRing):
    """Nothing is stored: a token is shown by whoever signed up."""

    lasting = LIFETIME
    lasting_why = "Claim tokens that the old key signed are good for seven days."


CLAIMS = ClaimRing("claims", "CLAIM_KEYS")
