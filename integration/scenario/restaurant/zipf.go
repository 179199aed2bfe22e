package restaurant

import (
	"math"
	"math/rand/v2"
	"slices"
)

// zipf draws numbers from 1 to n, of which the kth is as likely as 1/k^s. That of math/rand needs
// an s above 1.
type zipf struct{ upTo []float64 }

func newZipf(n int, s float64) *zipf {
	z := &zipf{upTo: make([]float64, n)}
	sum := 0.0
	for k := range n {
		sum += 1 / math.Pow(float64(k+1), s)
		z.upTo[k] = sum
	}
	return z
}

func (z *zipf) next(r *rand.Rand) int {
	at, _ := slices.BinarySearch(z.upTo, r.Float64()*z.upTo[len(z.upTo)-1])
	return min(at, len(z.upTo)-1) + 1
}
