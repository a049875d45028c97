"""Owns the study in a PostgreSQL database: connected to by one process at a time, patiently, without a password.

No connection lives through a fork: whoever opens the study closes it before, and a child opens it again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage, _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from finesweep.backends.optuna.trial_attributes import as_seen, marked
from finesweep.errors import FolderError, LaunchError, MissingExtra, lines_of, printable
from finesweep.folder.claims import Claim
from finesweep.launch.storage_url import DatabaseAway, place

if TYPE_CHECKING:
    import psycopg

PATIENCE_SECONDS = 60.0
"""How long something is tried again that a trial cannot begin without: servers are restarted."""

REPORT_SECONDS = 5.0
"""How long a report is tried again; a training that waits is worth more than one report."""

CONNECT_SECONDS = 5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0

_SESSION = "SET statement_timeout = 30000; SET idle_in_transaction_session_timeout = 30000"
"""A process that is frozen in the middle of a change holds the study's lock, and must not hold it for ever."""

_SILENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""When a host that has gone without a word is given up; the system's own answer is two hours."""

_TABLES_LOCK = 0x66_69_6E_65
"""Number of the lock under which tables are made."""

_DIALECT = "postgresql+psycopg://"

_CREDENTIALS = "who connects is said by PGUSER, and the password by PGPASSWORD or ~/.pgpass"

_ENDED_BY_SERVER = ("25P03", "57P")
"""Starts of the codes with which the server ends a transaction or a connection of its own accord."""

Method = TypeVar("Method", bound=Callable[..., Any])


def _tried_again(method: Method) -> Method:
    """Make a method of the store patient."""

    @functools.wraps(method)
    def patient(self: _PatientStorage, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.persist(lambda: method(self, *args, **kwargs))
        except KeyError:
            raise DatabaseAway(f"the study is no longer in the database {self.place}") from None

    return patient  # type: ignore[return-value]


class _PatientStorage(RDBStorage):
    """Optuna's tables in one database; what the server does not carry out is tried again.

    Everything that is tried again here may be done twice: a parameter, a value or an end that is there
    already is no error, and of a trial that was made twice one is closed when the study is settled.

    Args:
        url: A checked URL.
        patience: Seconds for which a failure is not yet one.

    Raises:
        DatabaseAway: The server cannot be reached, or refuses.
    """

    def __init__(self, url: str, patience: float = PATIENCE_SECONDS) -> None:
        _refuse_without_psycopg()
        self.place, self.patience, self.process = place(url), patience, os.getpid()
        self._gave_up = False
        # Neither the URL nor what the statements say is left where a message or a pickle could carry it on.
        self._settings = {"creator": functools.partial(_connected, url), "hide_parameters": True}
        self.persist(self._begin)

    def _begin(self) -> None:
        """Make the tables if need be, one process at a time: two would collide."""
        engine = sqlalchemy.create_engine(_DIALECT, poolclass=sqlalchemy.NullPool, **self._settings)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:number)"), {"number": _TABLES_LOCK})
            try:
                super().__init__(_DIALECT, {"pool_size": 1, **self._settings})
            except RuntimeError as error:  # another version of Optuna has made them
                raise DatabaseAway(f"the database {self.place}: {printable(str(error), 300)}") from None

    def persist(self, action: Callable[[], Any]) -> Any:
        """Do something, again and again for as long as the server's failure may pass and patience lasts.

        Raises:
            DatabaseAway: It was in vain; after that, everything is tried once only until something succeeds.
        """
        deadline, pause = time.monotonic() + (0.0 if self._gave_up else self.patience), _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action()
            except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                cause = error.__cause__ or error
                if not _may_pass(cause) or time.monotonic() + pause > deadline:
                    self._gave_up = True
                    raise DatabaseAway(_said(self.place, cause)) from None
            else:
                self._gave_up = False
                return result
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; see Optuna.

        Raises:
            KeyError: There is no such study.
        """
        found: int = self.persist(functools.partial(super().get_study_id_from_name, study_name))
        return found

    def rename(self, old: str, new: str) -> bool:
        """Rename a study, unless the new name is taken; say whether it was done."""

        def renamed() -> bool:
            values = {"old": old, "new": new}
            with contextlib.suppress(sqlalchemy.exc.IntegrityError), self.engine.begin() as connection:
                connection.execute(
                    sqlalchemy.text("UPDATE studies SET study_name = :new WHERE study_name = :old"), values
                )
                return True
            return False

        done: bool = self.persist(renamed)
        return done

    create_new_study = _tried_again(RDBStorage.create_new_study)
    get_study_name_from_id = _tried_again(RDBStorage.get_study_name_from_id)
    get_study_directions = _tried_again(RDBStorage.get_study_directions)
    get_study_user_attrs = _tried_again(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = _tried_again(RDBStorage.get_study_system_attrs)
    get_all_studies = _tried_again(RDBStorage.get_all_studies)
    get_trial = _tried_again(RDBStorage.get_trial)
    set_trial_state_values = _tried_again(RDBStorage.set_trial_state_values)
    set_trial_intermediate_value = _tried_again(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = _tried_again(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = _tried_again(RDBStorage.set_trial_system_attr)
    _create_new_trial = _tried_again(RDBStorage._create_new_trial)  # noqa: SLF001
    _set_trial_param = _tried_again(RDBStorage._set_trial_param)  # noqa: SLF001
    _get_trials = _tried_again(RDBStorage._get_trials)  # noqa: SLF001
    _get_best_trial_id = _tried_again(RDBStorage._get_best_trial_id)  # noqa: SLF001


class DatabaseStorage(_CachedStorage):
    """Optuna's store of a study in a database; see ``FileStorage``, whose place it takes.

    Args:
        backend: The tables.
        claim: Whose trial is made here, if any.
        known: One that was opened before: the ended trials that it has read are not read again.
    """

    failure: FolderError | None = None
    """Always None: what the database does not do is raised at once."""

    def __init__(
        self, backend: _PatientStorage, claim: Claim | None = None, known: DatabaseStorage | None = None
    ) -> None:
        super().__init__(backend)
        self._tables, self._claim = backend, claim
        self._ids: dict[str, int] = {}
        if known is not None:
            for name in ("_studies", "_trial_id_to_study_id_and_number", "_study_id_and_number_to_trial_id"):
                setattr(self, name, getattr(known, name))

    def close(self) -> None:
        """Let the connection go; the tables are opened again without another look at them."""
        self._tables.remove_session()
        self._tables.engine.dispose()

    def keep(self) -> None:
        """From here on a trial is being trained, which no report is worth waiting for."""
        self._tables.patience = min(self._tables.patience, REPORT_SECONDS)

    def has_study(self, name: str) -> bool:
        """Say whether there is a study of this name."""
        try:
            self.get_study_id_from_name(name)
        except KeyError:
            return False
        return True

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; see Optuna. It is asked for once, however often the stock call wants to know."""
        if study_name not in self._ids:
            self._ids[study_name] = super().get_study_id_from_name(study_name)
        return self._ids[study_name]

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Make a study; see Optuna, which would try to make one for each trial and count on the refusal."""
        if study_name is not None and self.has_study(study_name):
            raise DuplicatedStudyError
        return super().create_new_study(directions, study_name)

    def read(self, name: str) -> None:
        """Read all that the study of a name has been told.

        Raises:
            KeyError: There is none of that name.
        """
        super().get_all_trials(self.get_study_id_from_name(name), deepcopy=False)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials as the claimed one is to see them; see Optuna."""
        read = functools.partial(super().get_all_trials, study_id, deepcopy)
        return as_seen(read, self._claim, states)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial; see Optuna."""
        return super().create_new_trial(study_id, marked(template_trial, self._claim))


class DatabaseSource:
    """Where a sweep's study is found in a database.

    Args:
        url: A checked URL.
        name: The study's name, which no other sweep has.
    """

    refresh_seconds = 30.0

    def __init__(self, url: str, name: str) -> None:
        self.name, self.shown = name, f"study {name} of {place(url)}"
        self._url = url
        self._tables: _PatientStorage | None = None

    def open(self, claim: Claim | None = None, known: DatabaseStorage | None = None) -> DatabaseStorage:
        """Open the database, for one trial or for the study as a whole.

        Raises:
            DatabaseAway: The server cannot be reached, or refuses.
            MissingExtra: psycopg is not installed.
        """
        if self._tables is None:
            self._tables = _PatientStorage(self._url)
        if self._tables.process != os.getpid():
            self._tables.engine.dispose(close=False)
            self._tables.process = os.getpid()
        if claim is not None:
            self._tables.patience = PATIENCE_SECONDS
        return DatabaseStorage(self._tables, claim, known)

    def set_aside(self) -> str:
        """Give a study that cannot be used another name; return that."""
        with contextlib.closing(self.open()):
            assert self._tables is not None
            first = f"{self.name}.corrupt"
            names = itertools.chain([first], (f"{first}.{count}" for count in itertools.count(2)))
            return next(name for name in names if self._tables.rename(self.name, name))

    def persist(self, action: Callable[[], None]) -> None:
        """Do something that holds the sweep's lock, which is let go between two tries.

        Raises:
            DatabaseAway: It was in vain for as long as patience lasts.
        """
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            try:
                with self.hastily():
                    return action()
            except DatabaseAway:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    @contextlib.contextmanager
    def hastily(self) -> Iterator[None]:
        """Try everything in the block once only, since somebody waits for it.

        Raises:
            DatabaseAway: The server cannot be reached.
        """
        if self._tables is None:
            self._tables = _PatientStorage(self._url, patience=0.0)
        self._tables.patience = 0.0
        try:
            yield
        finally:
            self._tables.patience = PATIENCE_SECONDS


def check(url: str) -> None:
    """Make sure that studies can be kept in a database, before anything is trained.

    Args:
        url: A checked URL. Optuna's tables are made there if need be.

    Raises:
        MissingExtra: psycopg is not installed.
        LaunchError: The server cannot be reached within some seconds, or refuses.
    """
    try:
        _PatientStorage(url, patience=0.0).engine.dispose()
    except DatabaseAway as error:
        raise LaunchError(str(error)) from None


def _refuse_without_psycopg() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingExtra("storage: postgresql needs psycopg: pip install 'finesweep[postgres]'") from None


def _connected(url: str) -> psycopg.Connection[Any]:
    """Connect; as whom and with which password is left to libpq's own environment variables and files."""
    import psycopg

    settings: dict[str, Any] = {**_SILENCE, "application_name": "finesweep", "prepare_threshold": None}
    if "connect_timeout=" not in url:
        settings["connect_timeout"] = CONNECT_SECONDS
    connection = psycopg.connect(url, autocommit=True, **settings)
    connection.execute(_SESSION)
    connection.autocommit = False
    return connection


def _may_pass(error: BaseException) -> bool:
    """Say whether a failure is the server's or the network's, and not that of what was asked."""
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
        return True
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return isinstance(error, sqlalchemy.exc.TimeoutError)
    code = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or code.startswith(_ENDED_BY_SERVER)


def _said(where: str, error: BaseException) -> str:
    """Say what is wrong, in the server's words."""
    said = lines_of(getattr(error, "orig", None) or error)[0]
    text = f"the database {where}: {printable(' '.join(said.split()), 300)}"
    return f"{text} ({_CREDENTIALS})" if "password" in text or "role" in text else text
