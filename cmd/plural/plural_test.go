package plural

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	for want, got := range map[string]string{
		"0 items":     Count(0, "item"),
		"1 item":      Count(1, "item"),
		"2 items":     Count(uint64(2), "item"),
		"1 entry":     Count(int64(1), "entry"),
		"3 entries":   Count(3, "entry"),
		"2 keys":      Count(2, "key"),
		"2 prefixes":  Count(2, "prefix"),
		"2 batches":   Count(2, "batch"),
		"invocations": Noun(7, "invocation"),
	} {
		require.Equal(t, want, got)
	}
}
