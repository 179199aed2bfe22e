//go:build full

package schemas

import "time"

// cases is how many seeds make test-full tries.
const (
	cases  = 5000
	budget = 12 * time.Hour
)
