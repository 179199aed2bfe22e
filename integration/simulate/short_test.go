//go:build !full

package simulate

// schedules is how many seeds make test tries.
const schedules = 300
