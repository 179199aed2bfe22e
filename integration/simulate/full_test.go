//go:build full

package simulate

// schedules is how many seeds make test-full tries.
const schedules = 8000
