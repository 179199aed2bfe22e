"""The environment of the application. Times are in milliseconds."""

import os


def milliseconds(name, default):
    """The seconds that a variable in milliseconds has."""
    return int(os.environ.get(name, default)) / 1000


host = os.environ.get("HOST", "127.0.0.1")
port = int(os.environ.get("PORT", "8000"))
threads = int(os.environ.get("THREADS", "16"))
database_url = os.environ["DATABASE_URL"]

# none, ttl, deletes or walpurge; see cache.py.
mode = os.environ.get("CACHE", "walpurge")
valkey_host, _, valkey_port = os.environ.get("VALKEY_ADDR", "127.0.0.1:6379").rpartition(":")

# How long entries live: preferences 24 hours, summaries five minutes. A summary that is read when it is
# older than SUMMARY_REFRESH is made again in the background.
preferences_ttl = milliseconds("PREFERENCES_TTL", 24 * 3600 * 1000)
summary_ttl = milliseconds("SUMMARY_TTL", 300_000)
summary_refresh = milliseconds("SUMMARY_REFRESH", 240_000)

# The percentage of the keys that walpurge purges, as in walpurge.yaml. Entries of the others live no
# longer than CAUTIOUS_TTL.
rollout = int(os.environ.get("ROLLOUT", "100"))
cautious_ttl = milliseconds("CAUTIOUS_TTL", 30_000)

# walpurge purges twice. What took longer to read than half the time between the two is not stored:
# the second purge may have been before it.
second_purge = milliseconds("SECOND_PURGE", 2000)

# A command to Valkey that takes longer than this counts as failed. After a failure Valkey is left
# alone for RETRY_AFTER.
command_timeout = milliseconds("COMMAND_TIMEOUT", 100)
retry_after = milliseconds("RETRY_AFTER", 200)

# Where walpurge is asked whether it has purged what changed while Valkey was away.
walpurge_url = os.environ.get("WALPURGE_URL", "")
