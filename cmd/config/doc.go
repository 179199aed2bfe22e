// Package config reads the daemon's one file.
//
// Reading is strict: an unknown key, a repeated key, a wrong type or a missing
// environment variable is an error with file, line and the nearest valid name,
// and all of a file's errors are told together. What a sink or the reader is
// configured by belongs to that package; this one composes them and checks what
// lies between them. Secrets are named by files or variables and never printed.
//
// The package opens no connection and starts nothing.
package config
