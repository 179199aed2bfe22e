package restaurant

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// The load is the same in each variant, has all endpoints, and busy stores.
func TestLoad(t *testing.T) {
	s, other := &system{front: "http://x", popular: newZipf(stores, 0.9)}, &system{front: "http://x", popular: newZipf(stores, 0.9)}
	a, b := rand.New(rand.NewPCG(3, 0)), rand.New(rand.NewPCG(3, 0))
	endpoints, first := map[string]int{}, 0
	for range 5000 {
		r := s.Next(a)
		require.Equal(t, r, other.Next(b))
		endpoints[r.Endpoint]++
		if r.URL == "http://x/stores/1/menu" {
			first++
		}
		require.LessOrEqual(t, s.guest(a), accounts)
		require.LessOrEqual(t, s.ordered(a), orders)
		_, _ = other.guest(b), other.ordered(b)
	}
	require.Len(t, endpoints, 5)
	require.Greater(t, first, 100)
	z := newZipf(10, 1)
	for range 1000 {
		n := z.next(a)
		require.True(t, n >= 1 && n <= 10)
	}
}
