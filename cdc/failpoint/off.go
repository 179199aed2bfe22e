//go:build !failpoints

package failpoint

// On reports whether the named misbehaviour is asked for: never, in this build.
func On(string) bool { return false }

// Die ends the process as a crash would where the named misbehaviour is asked
// for: never, in this build.
func Die(string) {}
