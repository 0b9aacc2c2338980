"""What goes wrong in OAuth, as one exception whose public and private words are kept apart."""

import re

# RFC 6749 sections 4.1.2.1 and 5.2: %x20-21 / %x23-5B / %x5D-7E
_FORBIDDEN = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")

# The only two codes that are not answered with 400 (RFC 6749 section 5.2, RFC 6750 section 3.1).
_STATUS = {"invalid_client": 401, "invalid_token": 401, "insufficient_scope": 403}


class OAuthError(Exception):
    """A request that is refused.

    `error` is a registered code. `description` is for the client's developer and never repeats what was sent;
    `detail` says which check failed and goes to the log only. `redirectable` tells whether the client's redirect
    URI was found good before, so that the answer may travel through it (RFC 6749 section 4.1.2.1).
    """

    def __init__(
        self,
        error: str,
        description: str,
        *,
        detail: str = "",
        status: int | None = None,
        redirectable: bool = False,
    ) -> None:
        super().__init__(f"{error}: {detail or description}")
        self.error = error
        self.description = _FORBIDDEN.sub("?", description)
        self.detail = detail
        self.status = status or _STATUS.get(error, 400)
        self.redirectable = redirectable

    def body(self) -> dict[str, str]:
        """The members of the JSON answer (RFC 6749 section 5.2, RFC 7591 section 3.2.2)."""
        return {"error": self.error, "error_description": self.description}
