"""All access to Valkey. Which class is used is the setting CACHE:

none      no cache at all
ttl       entries live until their time is over
deletes   the application also deletes after COMMIT, with retries
walpurge  the application does nothing after a write; walpurge purges
"""

import concurrent.futures
import dataclasses
import json
import logging
import threading
import time
import urllib.parse
import urllib.request

import prometheus_client
import redis

import database
import rollout
import settings

REQUESTS = prometheus_client.Counter(
    "dashboard_cache_requests", "Reads of the cache: hit, miss, or bypassed while Valkey is away.", ["kind", "result"]
)
REFRESHES = prometheus_client.Counter(
    "dashboard_cache_refreshes",
    "Entries made again in the background: stored; purged meanwhile; slow, so not stored; failed.", ["kind", "result"],
)
USABLE = prometheus_client.Gauge("dashboard_cache_usable", "1 if entries of Valkey are used, 0 while it is away or not caught up.")
AWAY = prometheus_client.Counter("dashboard_cache_failures", "Commands to Valkey that failed or took too long.")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is cached under one prefix of keys, and for how long, in seconds."""

    name: str
    ttl: float
    refresh: float | None = None  # the age from which a reader has it made again in the background


PREFERENCES = Kind("preferences", settings.preferences_ttl)
SUMMARY = Kind("summary", settings.summary_ttl, settings.summary_refresh)
for _kind in (PREFERENCES, SUMMARY):
    for _result in ("hit", "miss", "bypassed"):
        REQUESTS.labels(_kind.name, _result)
for _result in ("stored", "purged", "slow", "failed"):
    REFRESHES.labels(SUMMARY.name, _result)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A body, the versions that it shows, and how many reads of the database it needed."""

    body: str
    shown: str
    reads: int


class NoCache:
    """For comparison."""

    def get(self, kind, number, read):
        """The entry, or what read(number) returns; None if that is None."""
        found = read(number)
        return found and Answer(*found, 1)

    def changed(self, *keys):
        """Called after COMMIT of a write."""


class TTLCache:
    """Entries live until their time is over. While Valkey is away, everything is read from the database."""

    def __init__(self):
        self._valkey = redis.Redis(
            connection_pool=redis.ConnectionPool(
                connection_class=_Connection, host=settings.valkey_host, port=int(settings.valkey_port), client_name="dashboard",
                socket_timeout=settings.command_timeout, socket_connect_timeout=settings.command_timeout,
                connected=self._connected,
            )
        )
        self._refreshing = set()
        self._refresher = concurrent.futures.ThreadPoolExecutor(2, "refresh")
        self._lock = threading.Lock()
        self._away_until = None  # when one command may try again; None while Valkey answers
        self._server = None  # the run id of the server whose entries are used
        USABLE.set(1)

    def get(self, kind, number, read):
        """The entry, or what read(number) returns, which is stored; None if that is None."""
        key = f"{kind.name}:{number}"
        if not self._usable():
            REQUESTS.labels(kind.name, "bypassed").inc()
            found = read(number)
            return found and Answer(*found, 1)
        try:
            text = self._command(self._valkey.get, key)
        except redis.RedisError:
            REQUESTS.labels(kind.name, "bypassed").inc()
            found = read(number)
            return found and Answer(*found, 1)
        # The connection may have been a new one, to a server that has been away.
        if text is not None and self._caught_up():
            REQUESTS.labels(kind.name, "hit").inc()
            entry = json.loads(text)
            if kind.refresh is not None and time.time() - entry["at"] > kind.refresh:
                self._refresh(kind, number, key, read)
            return Answer(entry["body"], entry["shown"], 0)
        REQUESTS.labels(kind.name, "miss").inc()
        begun = time.monotonic()
        found = read(number)
        if found is None:
            return None
        self._store(kind, key, found, begun)
        return Answer(*found, 1)

    def changed(self, *keys):
        """Called after COMMIT of a write."""

    def _store(self, kind, key, found, begun, replace=False):
        """Stores what was read from the time begun on. Returns what became of it."""
        body, shown = found
        ttl = self._ttl(kind, key)
        text = json.dumps({"at": time.time(), "body": body, "shown": shown})
        if time.monotonic() - begun > self._slow or not self._caught_up():
            return "slow"
        try:
            # A background refresh replaces an entry. One that was purged meanwhile stays purged.
            stored = self._command(self._valkey.set, key, text, px=max(1, round(ttl * 1000)), xx=replace)
        except redis.RedisError:
            return "failed"
        return "stored" if stored else "purged"

    def _refresh(self, kind, number, key, read):
        with self._lock:
            if key in self._refreshing:
                return
            self._refreshing.add(key)

        def work():
            result = "failed"
            try:
                begun = time.monotonic()
                found = read(number)
                if found is not None:
                    result = self._store(kind, key, found, begun, replace=True)
            except Exception:
                logging.exception("refresh of %s", kind.name)
            finally:
                REFRESHES.labels(kind.name, result).inc()
                with self._lock:
                    self._refreshing.discard(key)

        self._refresher.submit(work)

    # How long a reader may have taken for its result to be stored.
    _slow = float("inf")

    def _ttl(self, kind, key):
        return kind.ttl

    # While Valkey is away, one command at a time tries whether it is back.
    def _usable(self):
        if not self._caught_up():
            return False
        with self._lock:
            if self._away_until is None:
                return True
            if time.monotonic() < self._away_until:
                return False
            self._away_until = time.monotonic() + settings.command_timeout + settings.retry_after
            return True

    def _command(self, command, *args, **options):
        try:
            result = command(*args, **options)
        except redis.RedisError:
            AWAY.inc()
            USABLE.set(0)
            with self._lock:
                self._away_until = time.monotonic() + settings.retry_after
            raise
        if self._away_until is not None:
            with self._lock:
                self._away_until = None
            USABLE.set(1 if self._caught_up() else 0)
        return result

    # A server that has been away may have come back with entries that were to be deleted meanwhile.
    def _connected(self, server):
        """Called on each new connection with the run id of the server."""
        with self._lock:
            former, self._server = self._server, server
            if former not in (None, server):
                self._returned()

    def _returned(self):
        """Called with the lock when another server, or the same one after a restart, answers."""

    def _caught_up(self):
        return True


class DeletingCache(TTLCache):
    """Deletes after COMMIT: three times with a pause, then it gives up."""

    def changed(self, *keys):
        """Called after COMMIT of a write."""
        for pause in (0.05, 0.2, None):
            try:
                self._valkey.delete(*keys)
                return
            except redis.RedisError as error:
                AWAY.inc()
                if pause is None:
                    logging.error("an entry was not deleted: %s", error)
                else:
                    time.sleep(pause)


class PurgedCache(TTLCache):
    """Relies on walpurge."""

    def __init__(self):
        self._behind = 0  # how many returns of Valkey walpurge has not caught up with
        super().__init__()

    _slow = settings.second_purge / 2

    def _ttl(self, kind, key):
        return kind.ttl if rollout.in_rollout(key, settings.rollout) else min(kind.ttl, settings.cautious_ttl)

    def _returned(self):
        """Entries are used again when walpurge has purged all that was committed until now."""
        self._behind += 1
        USABLE.set(0)
        threading.Thread(target=self._catch_up, daemon=True).start()

    def _catch_up(self):
        while True:
            try:
                query = urllib.parse.urlencode({"lsn": database.position(), "sink": "cache", "timeout": "10s"})
                urllib.request.urlopen(f"{settings.walpurge_url}/api/v1/wait?{query}", timeout=15).close()
                break
            except Exception as error:  # it goes on without a cache until then
                logging.warning("wait for walpurge: %s", error)
                time.sleep(settings.retry_after)
        with self._lock:
            self._behind -= 1
        USABLE.set(1 if self._caught_up() else 0)

    def _caught_up(self):
        return self._behind == 0


class _Connection(redis.Connection):
    """Reads which server it has reached. redis-py connects again silently, so a restart shows here only."""

    def __init__(self, connected, **options):
        self._report = connected
        super().__init__(**options)

    def on_connect(self):
        """Called by redis-py on each new connection."""
        super().on_connect()
        self.send_command("INFO", "server")
        for line in self.read_response().decode().splitlines():
            name, _, value = line.partition(":")
            if name == "run_id":
                self._report(value)


def open_cache():
    """The class that the settings name."""
    return {"none": NoCache, "ttl": TTLCache, "deletes": DeletingCache, "walpurge": PurgedCache}[settings.mode]()
