//go:build !linux

package systemd

// monotonic is for systemd, which is on Linux only.
func monotonic() (int64, bool) { return 0, false }
