// Package failpoint lets tests make the daemon fail or misbehave at a named
// place. It does nothing unless the program was built with the tag failpoints,
// and then only what the environment variable WALPURGE_FAILPOINTS names, a list
// of names with commas between.
//
// A seeded bug behind a failpoint is how the tests prove that they would notice
// the real one.
package failpoint
