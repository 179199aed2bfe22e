package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

type entry struct {
	owner  uint64
	record string
}

func all(t *testing.T, l *Log) (out []entry) {
	t.Helper()
	require.NoError(t, l.Each(func(owner uint64, record []byte) error {
		out = append(out, entry{owner, string(record)})
		return nil
	}))
	return out
}

// TestEach: what comes out is what went in, in its order, less repetitions; with and
// without a file.
func TestEach(t *testing.T) {
	for _, count := range []int{0, 1, 100, 20_000} {
		p := NewPool(t.TempDir(), 1<<30)
		l := p.New()
		rnd := rand.New(rand.NewPCG(1, uint64(count)))
		var want []entry
		for i := range count {
			e := entry{rnd.Uint64N(3), fmt.Sprintf("%0*d", rnd.IntN(300)+1, i)}
			require.NoError(t, l.Append(e.owner, []byte(e.record)))
			want = append(want, e)
		}
		require.Equal(t, want, all(t, l))
		require.Equal(t, want, all(t, l), "again")
		require.Equal(t, count == 20_000, p.Used() > 1<<20, "%d bytes in files", p.Used())
		l.Close()
		require.Zero(t, p.Used())
	}
}

func TestRepetitions(t *testing.T) {
	l := NewPool(t.TempDir(), 1<<20).New()
	for range 100_000 {
		require.NoError(t, l.Append(1, []byte("product:1")))
		require.NoError(t, l.Append(2, []byte("product:1")))
	}
	require.Equal(t, []entry{{1, "product:1"}, {2, "product:1"}}, all(t, l))
}

func TestLargeRecord(t *testing.T) {
	l := NewPool(t.TempDir(), 1<<30).New()
	large := string(make([]byte, 1<<20))
	for _, r := range []string{"a", large, "b", large} {
		require.NoError(t, l.Append(0, []byte(r)))
	}
	require.Equal(t, []entry{{0, "a"}, {0, large}, {0, "b"}, {0, large}}, all(t, l))
}

// TestLimit holds for all logs together, and what one gives back another may take.
func TestLimit(t *testing.T) {
	p := NewPool(t.TempDir(), 1<<20)
	fill := func(l *Log) error {
		for i := range 1 << 20 {
			if err := l.Append(0, fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	}
	a, b := p.New(), p.New()
	require.ErrorIs(t, fill(a), ErrFull)
	require.ErrorIs(t, fill(b), ErrFull)
	require.LessOrEqual(t, p.Used(), int64(1<<20))
	a.Close()
	c := p.New()
	require.ErrorIs(t, fill(c), ErrFull)
	require.Positive(t, c.size)
}

// TestNothingStays: a file has no name as soon as it is there.
func TestNothingStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	l := NewPool(dir, 1<<30).New()
	for i := range 100_000 {
		require.NoError(t, l.Append(0, fmt.Append(nil, i)))
	}
	require.NotNil(t, l.file)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	l := NewPool(file, 1<<30).New()
	var err error
	for i := 0; err == nil && i < 1<<20; i++ {
		err = l.Append(0, fmt.Append(nil, i))
	}
	require.ErrorContains(t, err, "make the spool's directory")
}

func TestEachEndsAtAnError(t *testing.T) {
	l := NewPool(t.TempDir(), 1<<30).New()
	require.NoError(t, l.Append(0, []byte("a")))
	require.NoError(t, l.Append(0, []byte("b")))
	stop := errors.New("stop")
	calls := 0
	require.ErrorIs(t, l.Each(func(uint64, []byte) error { calls++; return stop }), stop)
	require.Equal(t, 1, calls)
}
