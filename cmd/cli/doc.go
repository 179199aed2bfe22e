// Package cli is the command line: one file per subcommand, writers injected,
// exit codes 0 fine, 1 fault, 2 unusable input. It reads flags and files and
// prints; the work is in package app.
package cli
