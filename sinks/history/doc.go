// Package history decides whether a cache may hold again what was purged from it.
//
// A cache that is restarted, restored or failed over comes back with an older state of its data.
// The owner of a lane reads once a second how each node describes itself ([Node]) and keeps a
// [Record] of it: which process and which replication history the node had, and a list of
// [Place]s, each of which says "when this much of the lane was purged, the node's replication
// offset was that". [Decide] compares the record with what is seen now and answers what the lane
// has to purge again. The package is pure: cmd/app reads nodes and stores records.
//
// The facts about Valkey and Redis are from their sources (replication.c, server.c, rdb.c):
//
//   - run_id is random at each start of the process.
//   - A replica that is promoted gets a new master_replid; master_replid2 is the one of its former
//     primary, and second_repl_offset is one more than what it holds of that. A process that loads
//     a snapshot of a primary with replicas describes the snapshot in the same way.
//   - A primary also gets a new master_replid, without a second one, when its first replica
//     connects and when it has had none for repl-backlog-ttl. Its data stay.
//   - rdb_last_save_time is the time of the start in a process that has not saved yet, and
//     rdb_last_load_keys_loaded counts the keys of the newest snapshot that it loaded.
package history
