// Package replica tells when commits have been replayed on read replicas.
//
// A reader that fills a cache from a replica puts the old row back until the replica
// has replayed the change. So purges wait for every replica that is listed. Each is
// asked over a connection of its own how far it has replayed: often while somebody
// waits, once a second otherwise, for its watermark.
//
// On a standby a commit is visible once its record has been replayed, and
// pg_last_wal_replay_lsn() moves after that (PostgreSQL, xlogrecovery.c:
// lastReplayedEndRecPtr is set when a record has been applied).
//
// A replica that keeps purges waiting for longer than Config.Leave is away: nobody
// waits for it, which is an alarm. What it shows meanwhile may be put into caches, so
// every sink is flushed when it has caught up. That it is away is written down first,
// and forgotten when the flush is safe.
package replica
