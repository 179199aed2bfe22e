package valkey

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkPurge unlinks keys that exist, on one connection to a real server.
func BenchmarkPurge(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			srv := startServer(b)
			s := openSink(b, "valkey://"+srv.addr, nil, nil)
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("product:%d", i)
			}
			batch := keysOf(keys...)
			require.NoError(b, s.Purge(b.Context(), batch))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				fill(b, srv.admin, keys...)
				b.StartTimer()
				require.NoError(b, s.Purge(b.Context(), batch))
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
