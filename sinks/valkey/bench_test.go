package valkey

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
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

// BenchmarkBesidePeer unlinks the same number of keys of one key space by the
// sink and by valkey-benchmark, five times in turn, with equal commands (500 keys
// each, ten in flight, one connection), and reports the medians of their rates
// and of the rounds' ratios. Run it with -benchtime 1x.
func BenchmarkBesidePeer(b *testing.B) {
	const keys, rounds = 400 * keysPerCommand, 5
	peer, err := exec.LookPath("valkey-benchmark")
	require.NoError(b, err, "apt-get install valkey-tools")
	srv := startServer(b)
	s := openSink(b, "valkey://"+srv.addr, nil, nil)
	host, port, err := net.SplitHostPort(srv.addr)
	require.NoError(b, err)
	args := []string{"-h", host, "-p", port, "-c", "1", "-P", "10", "-n", strconv.Itoa(keys / keysPerCommand), "-r", strconv.Itoa(keys), "--csv", "UNLINK"}
	args = append(args, slices.Repeat([]string{"product:__rand_int__"}, keysPerCommand)...)
	name := func(n int) string { return fmt.Sprintf("product:%012d", n) }
	refill := func() {
		for at := 0; at < keys; at += 10000 {
			var names []string
			for n := at; n < at+10000; n++ {
				names = append(names, name(n))
			}
			fill(b, srv.admin, names...)
		}
	}
	var ours, theirs, ratios []float64
	for range b.N {
		for range rounds {
			refill()
			var batches [][]invalidation.Invalidation
			for range keys / itemsPerCall {
				var names []string
				for range itemsPerCall {
					names = append(names, name(rand.IntN(keys)))
				}
				batches = append(batches, keysOf(names...))
			}
			began := time.Now()
			for _, batch := range batches {
				require.NoError(b, s.Purge(b.Context(), batch))
			}
			ours = append(ours, keys/time.Since(began).Seconds())

			refill()
			out, err := exec.CommandContext(b.Context(), peer, args...).Output()
			require.NoError(b, err)
			// The second line: a name in quotes, which holds commas, then the rate.
			_, last, found := strings.Cut(strings.TrimSpace(string(out)), "\n")
			require.True(b, found, string(out))
			cells := strings.Split(last, `","`)
			require.Greater(b, len(cells), 1, last)
			rate, err := strconv.ParseFloat(cells[1], 64)
			require.NoError(b, err, last)
			theirs = append(theirs, rate*keysPerCommand)
			ratios = append(ratios, ours[len(ours)-1]/theirs[len(theirs)-1])
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "sink-keys/s")
	b.ReportMetric(median(theirs), "peer-keys/s")
	b.ReportMetric(median(ratios), "ratio")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
