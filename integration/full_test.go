//go:build full

package integration

// full says that this is the long suite, make test-full.
const full = true
