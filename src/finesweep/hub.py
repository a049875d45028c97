"""Fetches a repository's files at one commit from the Hugging Face Hub or its cache."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

ANSWER_SECONDS = 10.0
"""Timeout of the first request in seconds without any answer."""

DEADLINE_SECONDS = 18.0
"""Timeout of the first request in all, in seconds; it also covers the name look-up and an answer that trickles."""

Kind = Literal["model", "dataset"]

# Safe formats only: no pickle and no code. Nothing from subfolders of a model, which hold exports for other runtimes.
_FILES: dict[Kind, list[str]] = {
    "model": [
        "config.json",
        "model.safetensors",
        "model-*-of-*.safetensors",
        "model.safetensors.index.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "*.model",
    ],
    "dataset": ["*.parquet", "*.csv", "*.tsv", "*.json", "*.jsonl", "*.yaml", "*.yml", "README.md"],
}
_CODE = ["*.py"]
_NOT_FILES: dict[Kind, list[str]] = {"model": ["*/*"], "dataset": []}
_REPO_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(?<![.-])\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,199}\Z")
_SECRETS = re.compile(r"hf_\w+|//[^/@\s]+@")


@dataclass(frozen=True)
class Snapshot:
    """A repository's files at one commit.

    Attributes:
        path: Folder with the files.
        commit: The commit, 40 hexadecimal digits.
        note: Why this is a cached copy that the Hub did not confirm, or an empty string.
    """

    path: Path
    commit: str
    note: str = ""


class HubError(Exception):
    """A repository could not be fetched.

    Attributes:
        message: What was found and what is allowed.
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(f"{message} ({hint})" if hint else message)


def snapshot(repo_id: str, *, kind: Kind, revision: str | None, code: bool = False) -> Snapshot:
    """Resolve a repository to a commit and make sure that its files are on this disk.

    The Hub is asked once, within ``DEADLINE_SECONDS``. If it does not answer, refuses, or ``HF_HUB_OFFLINE`` is set, a
    copy in the cache is used.

    Args:
        repo_id: ``organisation/name``.
        kind: Of a model the config, tokenizer and safetensors files are fetched; of a data set its tables.
        revision: Branch, tag or commit; None means ``main``.
        code: Whether to fetch a model's Python files too, which the user trusts.

    Raises:
        HubError: The id or the revision is wrong, or there is neither an answer nor a cached copy.
    """
    _check_names(repo_id, kind, revision)
    _check_endpoint()
    wanted = [*_FILES[kind], *(_CODE if code else ())]
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return _cached(repo_id, kind, revision, wanted, HubError("HF_HUB_OFFLINE is set"))
    failure = _Question(repo_id, kind, revision).failure()
    if failure is not None:
        return _cached(repo_id, kind, revision, wanted, failure)
    return _downloaded(repo_id, kind, revision, wanted)


def _check_names(repo_id: str, kind: Kind, revision: str | None) -> None:
    if not _REPO_ID.match(repo_id) or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        message = f"{repo_id!r} is no {kind} id; one looks like organisation/name, of letters, digits, `-`, `_` and `.`"
        raise HubError(message, "a path starts with ./ or /")
    if revision is not None and (not _REVISION.match(revision) or ".." in revision):
        raise HubError(f"{revision!r} is no revision", "name a branch, a tag or a commit")


def _check_endpoint() -> None:
    # huggingface_hub itself fails to import where this is no address.
    address = os.environ.get("HF_ENDPOINT")
    if not address:
        return
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise HubError("HF_ENDPOINT is no address", "unset it, or write it as https://huggingface.co")


class _Question:
    """The first request, which shows whether the Hub answers and knows the revision."""

    def __init__(self, repo_id: str, kind: Kind, revision: str | None) -> None:
        self.repo_id, self.kind, self.revision = repo_id, kind, revision
        self._failure: HubError | None = HubError(f"{_host()} does not answer")

    def failure(self) -> HubError | None:
        """Send the request; return what went wrong, None if nothing did."""
        # A thread, since no timeout of the request covers the name look-up. A daemon, since a request that hangs must
        # not keep the process alive.
        thread = threading.Thread(target=self._ask, daemon=True, name="hub-question")
        thread.start()
        thread.join(DEADLINE_SECONDS)
        return self._failure

    def _ask(self) -> None:
        import httpx2  # the client that huggingface_hub is built on
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        failure: HubError | None = None
        try:
            HfApi().repo_info(self.repo_id, repo_type=self.kind, revision=self.revision, timeout=ANSWER_SECONDS)
        except HfHubHTTPError as error:
            failure = _refusal(error, self.repo_id, self.kind, self.revision)
        except httpx2.TimeoutException:
            failure = HubError(f"{_host()} does not answer")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            failure = HubError(f"{_host()} cannot be reached: {_SECRETS.sub('***', str(error))}")
        except (ValueError, KeyError, TypeError, AttributeError):
            failure = HubError(f"{_host()} does not answer as a Hub does", "check HF_ENDPOINT and the proxy")
        self._failure = failure


def _refusal(error: HfHubHTTPError, repo_id: str, kind: Kind, revision: str | None) -> HubError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{kind} {repo_id} has no revision {revision or 'main'!r}", "name a branch, a tag or a commit")
    if isinstance(error, GatedRepoError):
        return HubError(f"{kind} {repo_id} is gated", "accept its terms on its page, then run `hf auth login`")
    if isinstance(error, RepositoryNotFoundError):
        hint = "check the spelling; for a private one run `hf auth login`; a path starts with ./ or /"
        return HubError(f"{_host()} has no {kind} {repo_id}, or it is private", hint)
    status = error.response.status_code
    if status == 401:
        return HubError(f"{_host()} refuses your token", "run `hf auth login`, or unset HF_TOKEN")
    return HubError(f"{_host()} answers with HTTP status {status}")


def _downloaded(repo_id: str, kind: Kind, revision: str | None, files: list[str]) -> Snapshot:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return _snapshot(_fetch(repo_id, kind, revision, files, local=False))
    except FileNotFoundError:
        reason = HubError(f"{_host()} stopped answering in the middle")
    except HfHubHTTPError as error:
        reason = _refusal(error, repo_id, kind, revision)
    except OSError as error:
        message = f"{kind} {repo_id} cannot be stored in {constants.HF_HUB_CACHE}: {error.strerror}"
        raise HubError(message, "make room, or point HF_HOME at another folder") from None
    return _cached(repo_id, kind, revision, files, reason)


def _cached(repo_id: str, kind: Kind, revision: str | None, files: list[str], reason: HubError) -> Snapshot:
    from huggingface_hub import constants
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    option = "--repo-type dataset " if kind == "dataset" else ""
    at = f" --revision {revision}" if revision else ""
    offline_hint = (
        f"run `hf download {option}{repo_id}{at}` on a machine with access and copy its cache here, or name local files"
    )
    try:
        found = _snapshot(_fetch(repo_id, kind, revision, files, local=True))
    except IncompleteSnapshotError as error:
        # Missing files of a model are found by later checks; missing rows of a data set would not be noticed.
        if kind == "dataset" or error.snapshot_path is None:
            message = f"{reason.message}, and the copy of {kind} {repo_id} in the cache lacks files"
            raise HubError(message, offline_hint) from None
        found = _snapshot(str(error.snapshot_path))
    except LocalEntryNotFoundError:
        message = f"{reason.message}, and {kind} {repo_id} is not in the cache {constants.HF_HUB_CACHE}"
        raise HubError(message, reason.hint or offline_hint) from None
    note = f"{reason.message}; {kind} {repo_id} is taken from the cache, commit {found.commit[:8]}"
    return Snapshot(found.path, found.commit, note)


def _fetch(repo_id: str, kind: Kind, revision: str | None, files: list[str], *, local: bool) -> str:
    from huggingface_hub import snapshot_download

    with _quiet():
        return snapshot_download(
            repo_id,
            repo_type=kind,
            revision=revision,
            allow_patterns=files,
            ignore_patterns=_NOT_FILES[kind],
            local_files_only=local,
        )


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Show the download's progress bars on terminals only; the library draws one everywhere."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    chosen = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    return contextlib.nullcontext() if chosen or sys.stderr.isatty() else disable_progress_bars()


def _snapshot(folder: str) -> Snapshot:
    path = Path(folder)
    return Snapshot(path, path.name)


def _host() -> str:
    from huggingface_hub import constants

    # Not the address as it is set: it may hold a password.
    return f"the Hub at {urlsplit(constants.ENDPOINT).netloc.rpartition('@')[2]}"
