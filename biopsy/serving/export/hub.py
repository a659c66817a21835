"""Put a published model into a repository of the Hugging Face hub."""

import os
import re
from collections.abc import Mapping
from typing import Any

from biopsy.core.errors import BiopsyError, ParamsError, SourceError, reason_of, some
from biopsy.core.extras import extra
from biopsy.sources.web.download import TIMEOUT, hub_address

SCHEME = "hf://"
OF_THE_HUB = ".gitattributes"  # which it puts into each repository


def repository_of(target: str) -> str:
    """Return `user/name` of `hf://user/name`. Raises `ParamsError` for another form."""
    name = target.removeprefix(SCHEME)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII) or re.search(r"--|\.\.|[.-]$|\.git$", name):
        raise ParamsError(
            f"{target} names no repository: the form is hf://user/name, of letters, digits and single - . or _."
        )
    return name


def upload(name: str, files: Mapping[str, bytes], message: str) -> str:
    """Commit files to a model's repository, which is made, open to all, where it does not exist.

    Parameters
    ----------
    name
        `user/name`. It may hold no other files.
    files
        Names and bytes.
    message
        Of the commit.

    Returns
    -------
    str
        The address of the commit.

    Raises
    ------
    ParamsError
        `HF_TOKEN` is not set, or the repository holds other files.
    SourceError
        The hub cannot be reached, or rejects the token, its rights or the files.
    MachineError
        The extra `hub` is not installed.
    """
    with extra("hub"):
        from huggingface_hub import CommitOperationAdd, HfApi, get_session
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    hub, token = hub_address(), os.environ.get("HF_TOKEN")
    if not token:
        raise ParamsError(
            f"{SCHEME}{name} needs a token that may write. Make one at {hub}/settings/tokens, set HF_TOKEN."
        )
    api = HfApi(endpoint=hub, token=token)
    get_session().timeout = TIMEOUT  # its own client would wait for ever
    try:
        try:
            held = {file.rfilename for file in api.model_info(name, timeout=TIMEOUT).siblings or []}
        except RepositoryNotFoundError:
            api.create_repo(name)
            held = set()
        if foreign := sorted(held - {*files, OF_THE_HUB}):
            raise ParamsError(f"{SCHEME}{name} holds other files ({some(foreign, 3)}). Name a new repository.")
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return str(api.create_commit(name, operations, commit_message=message).commit_url)
    except HfHubHTTPError as error:
        raise SourceError(f"{SCHEME}{name} was not published: {_why(error, hub)}") from None
    except BiopsyError:
        raise
    except Exception as error:  # of the network, of the file system's cache, of a card that the hub rejects
        reason = reason_of(error)
        raise SourceError(
            f"{SCHEME}{name} was not published: {hub} could not be reached, or not understood ({reason}). Try again, "
            "or publish to a folder and upload that."
        ) from None


def _why(error: Any, hub: str) -> str:
    """Say what an answer of the hub means, and what to do."""
    status = error.response.status_code
    if status == 401:
        return f"the hub does not know the token in HF_TOKEN. Make one at {hub}/settings/tokens."
    if status == 403:
        return "the token in HF_TOKEN may not write there. Name a repository of yours, or make a token with that right."
    said = " ".join(str(error.server_message or "").split())[:200]
    return f"the hub answered {status}{f' ({said})' if said else ''}. Check the name, and try again."
