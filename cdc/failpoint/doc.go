// Package failpoint lets tests make the daemon fail or misbehave at a named
// place. It does nothing unless the program was built with the tag failpoints,
// and then only what the environment variable WALPURGE_FAILPOINTS names, a list
// of names with commas between.
//
// A seeded bug behind a failpoint is how the tests prove that they would notice
// the real one. A place to crash is reached at any time, so its name may be
// followed by :N, the number of the passage that is the last, and by @FILE: it
// counts only once that file exists, which lets a test choose the moment. A place to
// copy a directory is named copy_NAME@FILE, and FILE is where the copy goes.
package failpoint
