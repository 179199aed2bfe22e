//go:build !full

package schemas

import "time"

// cases is how many seeds make test tries at most, and budget the time after which it begins no
// other.
const (
	cases  = 14
	budget = 40 * time.Second
)

var morePublications, keyTypes []published
