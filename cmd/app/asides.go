package app

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// What a status says besides whether caches are fresh: what will hurt later, and why
// the origin may be busy.

// diskFree is what the disk under the embedded stream has left for the daemon.
func (a *App) diskFree() (bytes int64, known bool) {
	var fs unix.Statfs_t
	if a.server == nil || unix.Statfs(a.cfg.DataDir, &fs) != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true
}

// diskInDanger is the clause about a disk that cannot hold the stream at its limit.
func diskInDanger(s *Stream) string {
	if s.DiskFreeBytes == nil || *s.DiskFreeBytes >= s.LimitBytes-s.Bytes {
		return ""
	}
	return try(fmt.Sprintf("the disk of data_dir has %s MiB left, and the stream may grow by %s MiB; once it is full the daemon ends",
		thousands(uint64(*s.DiskFreeBytes)>>20), thousands(uint64(s.LimitBytes-s.Bytes)>>20)), "df -h, or a smaller stream.max_bytes")
}

// lately is for how long a gap is told.
const lately = 15 * time.Minute

// flushedLately is the clause about a gap: why caches were emptied.
func flushedLately(s *Status) string {
	for _, i := range s.Incidents {
		if i.Kind == "gap" && i.Reason != "table" && s.At.Sub(i.At) < lately {
			return try(fmt.Sprintf("every sink was flushed %s ago, after a gap (%s)", s.At.Sub(i.At).Round(time.Second), i.Reason), "walpurge status --watch")
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
