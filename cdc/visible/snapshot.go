package visible

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// snapshot is a parsed pg_snapshot: transactions below xmin have ended, those
// at or above xmax have not, between them those listed have not.
type snapshot struct {
	xmin, xmax uint64
	running    []uint64 // ascending
}

func parseSnapshot(s string) (snapshot, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return snapshot{}, fmt.Errorf("pg_current_snapshot() returned %q, want xmin:xmax:list", s)
	}
	var snap snapshot
	var err error
	if snap.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return snapshot{}, fmt.Errorf("xmin of snapshot %q: %w", s, err)
	}
	if snap.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return snapshot{}, fmt.Errorf("xmax of snapshot %q: %w", s, err)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for x := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return snapshot{}, fmt.Errorf("running list of snapshot %q: %w", s, err)
		}
		snap.running = append(snap.running, xid)
	}
	slices.Sort(snap.running)
	return snap, nil
}

// sees reports whether every transaction has ended in this snapshot.
func (s snapshot) sees(xids []uint64) bool {
	for _, x := range xids {
		if x < s.xmin {
			continue
		}
		if x >= s.xmax {
			return false
		}
		if _, running := slices.BinarySearch(s.running, x); running {
			return false
		}
	}
	return true
}
