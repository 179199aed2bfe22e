package machine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Each kind is judged by itself: a service may take tags and refuse each URL.
func TestKindsAreRefusedApart(t *testing.T) {
	var r refusals
	r.take([]invalidation.Invalidation{{Kind: invalidation.Tag, Value: "t"}, {Kind: invalidation.Everything}})
	_, assumed := r.refuse(invalidation.URL, MaxUnproven)
	require.False(t, assumed)
	_, assumed = r.refuse(invalidation.URL, 1)
	require.True(t, assumed)
	control, assumed := r.refuse(invalidation.Tag, 1)
	require.Nil(t, control, "one value may be at fault")
	require.False(t, assumed)
	control, _ = r.refuse(invalidation.Tag, 1)
	require.Equal(t, &invalidation.Invalidation{Kind: invalidation.Tag, Value: "t"}, control)
	r.take([]invalidation.Invalidation{{Kind: invalidation.URL, Value: "u"}})
	control, assumed = r.refuse(invalidation.URL, 1)
	require.Nil(t, control)
	require.False(t, assumed)
	control, _ = r.refuse(invalidation.Everything, 5)
	require.Nil(t, control, "a flush is no question")
}
