//go:build !failpoints

package failpoint

// On reports whether the named misbehaviour is asked for: never, in this build.
func On(string) bool { return false }

// Crash kills the process if that is asked for at this place: never, in this
// build.
func Crash(string) {}

// Hang blocks for ever if that is asked for at this place: never, in this build.
func Hang(string) {}

// Copy keeps a copy of a directory if that is asked for at this place: never, in
// this build.
func Copy(string, string) {}
