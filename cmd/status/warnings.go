package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cmd/plural"
)

// What a sentence says besides whether caches are fresh: what will hurt later, and why the
// origin may be busy.

// slotInDanger is the clause about a slot that uses up what the server allows.
func slotInDanger(s *Slot) string {
	safe := int64(0)
	if s.SafeBytes != nil {
		safe = max(0, *s.SafeBytes)
	}
	near := s.SafeBytes != nil && s.RetainedBytes > 0 && float64(s.RetainedBytes) > 0.7*float64(s.RetainedBytes+safe)
	if s.State != "unreserved" && s.State != "lost" && !near {
		return ""
	}
	c := fmt.Sprintf("slot %s is near its limit (%s): %s held back, %s until it is lost", s.Name, s.State, mebibytes(s.RetainedBytes), mebibytes(safe))
	// Twice what is allowed now; whether the disk has it, only a human knows.
	return try(c, fmt.Sprintf(`psql "$ADMIN_URL" -c "ALTER SYSTEM SET max_slot_wal_keep_size = '%dMB'" -c "SELECT pg_reload_conf()"`,
		max(1024, (max(0, s.RetainedBytes)+safe)>>19)))
}

// diskInDanger is the clause about a disk that cannot hold the stream at its limit.
func diskInDanger(s *Stream) string {
	if s.DiskFreeBytes == nil || *s.DiskFreeBytes >= s.LimitBytes-s.Bytes {
		return ""
	}
	return try(fmt.Sprintf("the disk of data_dir has %s left, and the stream may grow by %s; once it is full the daemon ends",
		mebibytes(*s.DiskFreeBytes), mebibytes(s.LimitBytes-s.Bytes)), "df -h, or a smaller stream.max_bytes")
}

// lately is for how long a gap is reported.
const lately = 15 * time.Minute

// flushedLately is the clause about a gap: why caches were emptied.
func flushedLately(s *Status) string {
	for _, i := range s.Incidents {
		if i.Kind == "gap" && i.Reason != "table" && s.At.Sub(i.At) < lately {
			return try(fmt.Sprintf("every sink was flushed %s ago, after a gap (%s)", duration(s.At.Sub(i.At).Round(time.Second)), i.Reason), "walpurge status --watch")
		}
	}
	return ""
}

// cameBackLately names the newest cache that may have held again what was purged.
func cameBackLately(s *Status) string {
	for _, i := range s.Incidents {
		if i.Kind == "history" && s.At.Sub(i.At) < lately {
			return try(fmt.Sprintf("%s may have held again what was purged (%s), noticed %s ago", i.Sink, i.Reason, duration(s.At.Sub(i.At).Round(time.Second))), "walpurge status --watch")
		}
	}
	return ""
}

// notReloaded is the clause about files that are not in service.
func notReloaded(s *Status) string {
	if s.ReloadError == "" {
		return ""
	}
	return try("the newest files are not in service: "+s.ReloadError, "walpurge check")
}

// list joins names: a, b and c.
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// count prints a number of things.
func count(n uint64, noun string) string {
	return thousands(n) + " " + plural.Noun(n, noun)
}

// duration prints a time: 57 s, 16m10s.
func duration(d time.Duration) string {
	if d < time.Minute {
		return strconv.Itoa(int(d.Seconds())) + " s"
	}
	return d.String()
}

func mebibytes(n int64) string { return thousands(uint64(max(0, n))>>20) + " MiB" }

// thousands prints a number with commas.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
