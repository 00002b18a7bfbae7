# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Calls of the Hub that end in success or in one clear error.

huggingface_hub retries some of its requests and not others (the creation of a repository and the commit are among the
latter), so whole operations are repeated here. All that come through are safe to repeat: content that is there is not
sent again, and a commit that has happened is recognised. It also waits without end for a server that took a request
and says nothing; here that is a fault like others. Tokens are never part of a message.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from huggingface_hub import DatasetInfo, HfApi, ModelInfo, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .._compat import HUB_NETWORK_ERRORS
from ..types import InvalidInputError


logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds before each repetition. The Hub's own Retry-After wins, up to the maximum.
WAITS = (1.0, 4.0, 16.0)
LONGEST_WAIT = 300.0
# Seconds without a single byte after which an answer is given up; a commit of many files takes the Hub a while.
PATIENCE = 300.0
_PASSING = (409, 412, 429, 500, 502, 503, 504)
# ConnectionError is Xet's.
_FAULTS: tuple[type[Exception], ...] = (HfHubHTTPError, *HUB_NETWORK_ERRORS, ConnectionError)
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def call(repo_id: str, function: Callable[[], T]) -> T:
    """
    Call the Hub; repeat what may pass, explain what will not.

    Args:
        repo_id (`str`):
            The repository that is worked on, for the messages.
        function (`Callable[[], T]`):
            What to do; it may be called several times.

    Raises:
        [`InvalidInputError`]: the call failed for good: the token, the rights, the name, or the Hub itself.
    """
    for wait in (*WAITS, None):
        # The session may be a new one after a fault.
        session = get_session()
        if session.timeout.read is None:
            session.timeout = PATIENCE
        try:
            return function()
        except LocalTokenNotFoundError:
            raise InvalidInputError(f"{repo_id}: no token for the Hub is at hand; {_LOG_IN}.") from None
        except OfflineModeIsEnabled:
            raise InvalidInputError(f"{repo_id}: the Hub is switched off by HF_HUB_OFFLINE; unset it.") from None
        except HFValidationError as error:
            raise InvalidInputError(f"{repo_id!r} is not the name of a repository: {error}") from None
        except _FAULTS as error:
            fault = error
        except (RuntimeError, LocalEntryNotFoundError) as error:
            # An upload in a thread, or a file that is not in the cache either: the reason is the cause.
            cause = error.__cause__
            if not isinstance(cause, _FAULTS):
                raise
            fault = cause
        if not _may_pass(fault):
            raise InvalidInputError(_explain(repo_id, cast(HfHubHTTPError, fault))) from fault
        if wait is not None:
            wait = min(_retry_after(fault, wait), LONGEST_WAIT)
            logger.warning("%s: %s; trying again in %g s", repo_id, _name(fault), wait)
            time.sleep(wait)
    raise InvalidInputError(
        f"{repo_id}: the Hub could not be reached in {len(WAITS) + 1} attempts ({_name(fault)}). Run the same command "
        "again later: it goes on where this one stopped, and nothing unfinished is visible on the Hub."
    ) from fault


def repo_info(api: HfApi, repo_id: str, repo_type: str, **options: Any) -> ModelInfo | DatasetInfo:
    """`api.repo_info` of a model or a dataset, which waits without end unless it is told how long."""
    return cast(ModelInfo | DatasetInfo, api.repo_info(repo_id, repo_type=repo_type, timeout=PATIENCE, **options))


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _PASSING


def _retry_after(error: Exception, otherwise: float) -> float:
    value = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(value) if value.isdecimal() else otherwise


def _name(error: Exception) -> str:
    return f"HTTP {error.response.status_code}" if isinstance(error, HfHubHTTPError) else type(error).__name__


def _explain(repo_id: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision; give a branch, a tag or a commit of it."
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated: ask for access on its page, then {_LOG_IN}."
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"{repo_id}: the Hub does not accept the token; {_LOG_IN}."
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return f"{repo_id} does not exist on the Hub, or is private and not yours; check the name, or {_LOG_IN}."
    if status == 403:
        return f"{repo_id}: the token may not do this; for a push it needs the right to write there."
    return f"{repo_id}: the Hub answered HTTP {status} ({error.server_message or 'no reason given'})."
