package machine

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func TestCallsKeepWithinTheLimits(t *testing.T) {
	var all []invalidation.Invalidation
	for i := range 7 {
		all = append(all, invalidation.Invalidation{Kind: invalidation.Kind(i % 2), Value: string(rune('a' + i))})
	}
	lengths := func(l sinks.Limits) (out []int) {
		var together []invalidation.Invalidation
		for _, request := range Split(all, l) {
			out = append(out, len(request))
			require.LessOrEqual(t, len(request), max(1, l.Items))
			for _, inv := range request {
				require.True(t, !l.OneKind || inv.Kind == request[0].Kind)
			}
			together = append(together, request...)
		}
		require.ElementsMatch(t, all, together)
		return out
	}
	require.Equal(t, []int{7}, lengths(sinks.Limits{Items: 100}))
	require.Equal(t, []int{3, 3, 1}, lengths(sinks.Limits{Items: 3}))
	require.Equal(t, []int{4, 3}, lengths(sinks.Limits{Items: 100, OneKind: true}))
	require.Equal(t, []int{3, 1, 3}, lengths(sinks.Limits{Items: 3, OneKind: true}))
	require.Len(t, lengths(sinks.Limits{}), 7)
}

// One call's retries must not write into the next call's invalidations.
func TestCallsShareNoRoom(t *testing.T) {
	all := toInvs([]string{"a", "b", "c"})
	first := Split(all, sinks.Limits{Items: 2})[0]
	_ = append(first, invalidation.Invalidation{Value: "x"})
	require.Equal(t, "c", all[2].Value)
}

func TestSplitByKind(t *testing.T) {
	limits := sinks.Limits{Items: 3, OneKind: true}
	limits.ByKind[invalidation.URL] = 5
	var sizes []int
	for _, call := range Split(append(invs(invalidation.Tag, 4), invs(invalidation.URL, 7)...), limits) {
		sizes = append(sizes, len(call))
	}
	require.Equal(t, []int{3, 1, 5, 2}, sizes)
	limits.OneKind = false
	require.Len(t, Split(append(invs(invalidation.Tag, 4), invs(invalidation.URL, 7)...), limits), 4)
}

func TestSortOut(t *testing.T) {
	item := sinks.ItemError(errors.New("bad"))
	invs := toInvs([]string{"a", "b", "c"})
	for _, c := range []struct {
		name           string
		failed         map[int]error
		again, refused []invalidation.Invalidation
		class          sinks.Class
	}{
		{"all refused", map[int]error{0: item, 1: item, 2: item}, nil, invs, sinks.Transient},
		{"one transient", map[int]error{1: errDown}, invs[1:2], nil, sinks.Transient},
		{"lane over transient", map[int]error{0: errDown, 1: sinks.LaneError(errDown)}, invs[:2], nil, sinks.Lane},
		{"nothing named", map[int]error{}, invs, nil, sinks.Transient},
		{"a place that does not exist", map[int]error{0: item, 7: errDown}, invs, nil, sinks.Transient},
	} {
		t.Run(c.name, func(t *testing.T) {
			again, refused, class, _ := sortOut(invs, &sinks.BatchError{Failed: c.failed})
			require.Equal(t, c.again, again)
			require.Equal(t, c.refused, refused)
			require.Equal(t, c.class, class)
		})
	}
}

func toInvs(values []string) []invalidation.Invalidation {
	out := make([]invalidation.Invalidation, len(values))
	for i := range values {
		out[i].Value = values[i]
	}
	return out
}

func invs(kind invalidation.Kind, n int) []invalidation.Invalidation {
	out := make([]invalidation.Invalidation, n)
	for i := range out {
		out[i].Kind = kind
	}
	return out
}
