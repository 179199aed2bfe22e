// Package readfile reads the files that settings name: rules, secrets, certificates. What a setting names may be anything: a device
// without an end, a pipe without a writer, a folder, a file of any size. Read never blocks on it and never reads more than its bound.
package readfile
