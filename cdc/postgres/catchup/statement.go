package catchup

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

// Names of slots and publications consist of a-z, 0-9 and _, so they are written into statements as they are.

// PeekStatement reads a slot up to a position without moving it. The options are those of the stream,
// except that the protocol is version 1: version 2 would send transactions that are open at the end
// of a chunk, and again from their beginning in the next.
func PeekStatement(slot, publication string, upTo cdc.LSN) string {
	return fmt.Sprintf("COPY (SELECT lsn, data FROM pg_catalog.pg_logical_slot_peek_binary_changes('%s', '%s', NULL, "+
		"'proto_version', '1', 'publication_names', '%s', 'messages', 'true')) TO STDOUT (FORMAT binary)", slot, upTo, publication)
}

// AdvanceStatement moves a slot. It fails if a process reads it, or if it is beyond the position.
func AdvanceStatement(slot string, to cdc.LSN) string {
	return fmt.Sprintf("SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance('%s', '%s')", slot, to)
}

// notable is how much of the log, in bytes, a standby must lack to be named.
const notable = 1 << 20

// SlotStatement reads what ParseSlot parses. In synchronized_standby_slots (PostgreSQL 17) are the slots of standbys
// that must have the log before a failover slot is read. The flush position is read first: what is
// committed below it is in the log.
func SlotStatement(slot string) string {
	return fmt.Sprintf(`SELECT pg_catalog.pg_current_wal_flush_lsn(), s.confirmed_flush_lsn, s.restart_lsn,
 coalesce((SELECT t.spill_bytes FROM pg_catalog.pg_stat_replication_slots t WHERE t.slot_name = s.slot_name), 0),
 coalesce((SELECT t.spill_txns FROM pg_catalog.pg_stat_replication_slots t WHERE t.slot_name = s.slot_name), 0),
 b.least, b.slots
 FROM pg_catalog.pg_replication_slots s LEFT JOIN LATERAL
  (SELECT pg_catalog.min(coalesce(p.restart_lsn, '0/0')) AS least,
   pg_catalog.string_agg(pg_catalog.btrim(n, ' "'), ', ' ORDER BY n) FILTER (WHERE p.restart_lsn IS NULL OR pg_catalog.pg_current_wal_flush_lsn() - p.restart_lsn > %d) AS slots
   FROM pg_catalog.unnest(pg_catalog.string_to_array(nullif(pg_catalog.current_setting('synchronized_standby_slots', true), ''), ',')) n
   LEFT JOIN pg_catalog.pg_replication_slots p ON p.slot_name = pg_catalog.btrim(n, ' "') AND p.slot_type = 'physical') b
  ON coalesce(pg_catalog.to_jsonb(s)->>'failover', 'false') = 'true'
 WHERE s.slot_name = '%s'`, notable, slot)
}

// ParseSlot parses the row of SlotStatement, in text format; NULL is empty.
func ParseSlot(row []string) (s Slot, err error) {
	if len(row) != 7 {
		return s, fmt.Errorf("the state of the slot has %d columns", len(row))
	}
	for i, into := range []*cdc.LSN{&s.Flushed, &s.Confirmed, &s.Restart} {
		if *into, err = cdc.ParseLSN(row[i]); err != nil {
			return s, err
		}
	}
	for i, into := range []*int64{&s.Spilled, &s.SpilledTxns} {
		if *into, err = strconv.ParseInt(row[3+i], 10, 64); err != nil {
			return s, err
		}
	}
	if row[5] != "" {
		standbys, err := cdc.ParseLSN(row[5])
		if err != nil {
			return s, err
		}
		s.Flushed = min(s.Flushed, standbys)
	}
	s.Lacking = row[6]
	return s, nil
}

// SettingsStatement prepares a connection: no timeout ends a call, memory suffices for a usual chunk, and the
// server notices that the client is gone while it decodes.
func SettingsStatement(l Limits) string {
	off := []string{"statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"}
	return fmt.Sprintf(`SELECT pg_catalog.set_config(name, CASE name WHEN 'work_mem' THEN '%dkB' WHEN 'client_connection_check_interval' THEN '1s' ELSE '0' END, false)
 FROM pg_catalog.pg_settings WHERE name IN ('work_mem', 'client_connection_check_interval', '%s')`, l.Largest/1024*5/4, strings.Join(off, "', '"))
}

// lockClass is the first key of the advisory locks of slots.
const lockClass = 0x77616c70

func lockKey(slot string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(slot)) // it never fails
	return int32(h.Sum32())
}

// LockStatement takes the lock of a slot if no other session has it. It lasts as long as the connection.
func LockStatement(slot string) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_try_advisory_lock(%d, %d)", lockClass, lockKey(slot))
}

// OwnerStatement returns the process that holds the lock of a slot, 0 if no process does.
func OwnerStatement(slot string) string {
	return fmt.Sprintf(`SELECT coalesce((SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted
 AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
 AND l.classid = %d AND l.objid = %d AND l.objsubid = 2 LIMIT 1), 0)`, lockClass, uint32(lockKey(slot)))
}

// firstMinor is by major version the first minor version on which slots are read through SQL. Before
// 14.8 and 15.3 each call on a connection took a slot for callbacks that it did not free; before the
// versions below, restart_lsn could go backwards when decoding began again.
var firstMinor = map[int]int{14: 15, 15: 10, 16: 6, 17: 2}

// Fit reports whether slots are read through SQL on a server of a version (server_version_num).
func Fit(version int) bool { return version/10000 >= 14 && version%10000 >= FirstMinor(version) }

// FirstMinor is the first minor version of the same major version that is fit.
func FirstMinor(version int) int { return firstMinor[version/10000] }
